"""A rehearsal on a real database of each engine: nothing of it changes, and its outcome tells what to expect."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from tests.acceptance.conftest import Console
from tests.acceptance.test_maintain import ROWS, assert_open, assert_proven, only
from tests.acceptance.test_rollback import _no_reports, breaking, setting
from tests.engines.lab import Lab
from tests.unit.test_deaths import die_at

__all__ = ["_no_reports", "setting"]

CAN = ("sqlite", "postgresql")
"""The others say in one sentence why not."""


def seen_from_outside(lab: Lab) -> str:
    """Every byte of a file; of a server what its own dump says."""
    if lab.url.get_backend_name() == "sqlite":
        path = Path(str(lab.url.database))
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if lab.url.get_backend_name() == "postgresql":
        address = lab.url.set(drivername="postgresql").render_as_string(hide_password=False)
        dump = subprocess.run(["pg_dump", "--create", address], capture_output=True, text=True, check=True).stdout
        return "\n".join(line for line in dump.splitlines() if not line.startswith((r"\restrict", r"\unrestrict")))
    return str(lab.sql(ROWS))


def applications_that_tell(console: Console) -> Path:
    """An application whose every command leaves a file; returns it."""
    touched = console.home / "touched"
    command = ["touch", str(touched)]
    console.configure(applications={"shop-web": {"stop": command, "start": command, "check": command}})
    return touched


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", ["rebuild", "repair"])
def test_a_rehearsal_changes_nothing_and_tells_what_to_expect(lab: Lab, console: Console, kind: str) -> None:
    lab.fill()
    touched = applications_that_tell(console)
    console.register(lab, "shop", 'applications=["shop-web"]')
    before = seen_from_outside(lab)
    code, told = console.maintain(kind, "--database", "shop", "--rehearse")
    if lab.url.get_backend_name() not in CAN:
        assert code == 2
        assert "cannot be rehearsed" in json.dumps(told)
        return
    assert (code, told["status"], told["rehearsal"]) == (0, "succeeded", True), told["ended_because"]
    assert seen_from_outside(lab) == before
    assert not touched.exists()
    target = only(told)
    assert_proven(target)
    assert target["outage_seconds"] == 0
    assert target["rehearsal"]["expected_outage_seconds"] > 0
    assert target["rehearsal"]["backup_restores"] in ("full", "copy", None)
    assert not [b["path"] for b in target["backup_files"] if Path(b["path"]).is_file()]
    assert Path(told["report_pdf"]).read_bytes().startswith(b"%PDF")
    assert leftovers(lab) == []
    assert_open(lab)


def test_an_application_works_on_while_its_database_is_rehearsed_on(lab: Lab, console: Console) -> None:
    if lab.url.get_backend_name() not in CAN:
        pytest.skip("no rehearsal of this product")
    lab.fill()
    console.register(lab)
    with lab.application() as client:
        client.execute("INSERT INTO orders (id, customer_id, status, note) VALUES (900002, 1, 'new', 'before')")
        code, told = console.maintain("rebuild", "--database", "shop", "--rehearse")
        client.execute("DELETE FROM orders WHERE id = 900002")
    assert (code, told["status"]) == (0, "succeeded"), told["ended_because"]
    assert leftovers(lab) == []


def leftovers(lab: Lab) -> list[str]:
    """What of ours lies beside the database."""
    if lab.url.get_backend_name() == "sqlite":
        path = Path(str(lab.url.database))
        return [p.name for p in path.parent.iterdir() if ".dbm" in p.name]
    # Other tests have databases on this server, too.
    ours = f"{lab.url.database}_dbm"
    return [str(name) for (name,) in lab.sql("SELECT datname FROM pg_database") if str(name).startswith(ours)]


@pytest.mark.every(5)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "point", ["", "action.started", "roll_back.swap.started", "roll_back.swap.finished", "roll_back.clean.finished"]
)
def test_a_rollback_is_rehearsed_too_and_whatever_dies_leaves_no_copy(
    lab: Lab,
    setting: MaintenanceSetting,
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    if lab.url.get_backend_name() not in CAN:
        pytest.skip("no rehearsal of this product")
    lab.fill()
    before = seen_from_outside(lab)
    breaking(lab, monkeypatch, None)
    target = launch.launch(someone, request_for(), enqueue=False, rehearsal=True).targets.get()
    if point:
        die_at(target, point)
    runner.advance(target.pk)
    run = MaintenanceRun.objects.get(pk=target.run_id)
    # A lock that dies with its worker leaves rows in doubt: there people would be called.
    assert run.status in ("rolled_back", "failed") if point else run.status == "rolled_back", run.ended_because
    assert seen_from_outside(lab) == before
    assert leftovers(lab) == []
