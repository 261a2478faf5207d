"""Fifty launches at the same instant against a real control database: one run, and one message to all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import Console
from tests.engines.lab import Lab
from tests.engines.lab_sqlite import SQLiteLab

ALL_AT_ONCE = """
import json, threading
from collections import Counter
from django.db import connections
from maintenance.requests import launch
from maintenance.models import AuditEntry, MaintenanceRun, ScopeHold
gate, told = threading.Barrier(50), Counter()
def one(number):
    actor = launch.Actor(f"person {number}", "command")
    request = launch.Request(maintenance_type="rebuild", target_databases=["shop"], severity_level="high", reason="x")
    gate.wait()
    try:
        launch.launch(actor, request)
        told["started"] += 1
    except launch.Locked as refused:
        told["locked" if "lock" in str(refused) or "same instant" in str(refused) else str(refused)] += 1
    except Exception as error:
        told[repr(error)] += 1
    finally:
        connections.close_all()
threads = [threading.Thread(target=one, args=(n,)) for n in range(50)]
[t.start() for t in threads]
[t.join() for t in threads]
counts = [m.objects.count() for m in (MaintenanceRun, ScopeHold)]
launched = AuditEntry.objects.filter(operation="run.launched").count()
print(json.dumps([told, *counts, launched]))
"""


@pytest.mark.rare
@pytest.mark.parametrize("control", ["sqlite", "postgresql"])
def test_of_fifty_at_the_same_instant_one_begins(lab: Lab, console: Console, tmp_path: Path, control: str) -> None:
    if lab.url.get_backend_name() != control:
        pytest.skip("this server is the control database of the other case")
    environment = {}
    if control == "postgresql":
        environment["DBMAINT_DATABASE_URL"] = lab.url.render_as_string(hide_password=False)
        migrated = console.run("migrate", "-v0", **environment)
        assert migrated.returncode == 0, migrated.stderr
    with SQLiteLab.opened(tmp_path) as server:
        shop = server.fresh()
        shop.fill()
        registered = console.run(
            "register_target", "shop", str(shop.url), "--backup-dir", str(shop.folder), **environment
        )
        assert registered.returncode == 0, registered.stderr
        done = console.run("shell", "--no-imports", "-v0", "-c", ALL_AT_ONCE, **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"started": 1, "locked": 49}, 1, 1, 1]
