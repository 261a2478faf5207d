"""One small shared world: a DBA, a manager, an administrator, an auditor, an outsider, and fake databases."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import connections
from django.db.models.signals import post_migrate
from django.test import TransactionTestCase

from maintenance.models import MaintenanceSetting
from maintenance.requests.launch import Actor, Request
from tests import fakes
from tests.acceptance.preloaded import Preloaded
from tests.places import place

write_groups = import_module("maintenance.migrations.0002_groups").create
GROUPS = {"dba": "DBA", "manager": "Management", "administrator": "Maintenance administrators", "auditor": "Auditors"}


if (memory := place()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


SAMPLE = int(os.environ.get("DBMAINT_SAMPLE", "1"))
"""Of a table of cases every so many are tried; `make test-quick` takes fewer than all."""
FIELD = Path(__file__).parent / "field"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is rare, and leave out what is not in the sample."""
    _mark_rare(items)
    cases: Counter[str] = Counter()
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        whole = item.get_closest_marker("whole") is not None
        name = str(item.path) if whole else item.nodeid.partition("[")[0]
        (left_out if cases[name] % SAMPLE else kept).append(item)
        cases[name] += whole or hasattr(item, "callspec")
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def _mark_rare(items: list[pytest.Item]) -> None:
    """All of tests/field; of a test that is marked `every(n, first)` all cases but the `first` and each n-th after it.

    Those that run only with MySQL's own server are not counted: `make test-mysql` runs them all.
    """
    cases: Counter[str] = Counter()
    for item in items:
        if item.path.is_relative_to(FIELD):
            item.add_marker("rare")
        every = item.get_closest_marker("every")
        if every is None or item.get_closest_marker("mysql"):
            continue
        name = item.nodeid.partition("[")[0]
        n, first = (*every.args, 0)[:2]
        if cases[name] % n != first:
            item.add_marker("rare")
        cases[name] += 1


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """After a test that commits, the tables hold again what migrations wrote, and nothing else."""
    with django_db_blocker.unblock():
        connection = connections["default"]
        connection.ensure_connection()
        if connection.vendor != "sqlite":
            post_migrate.connect(_write_groups, sender=apps.get_app_config("maintenance"), weak=False)
            return
        migrated = sqlite3.connect(":memory:", check_same_thread=False)
        connection.connection.backup(migrated)

    def take_back(case: TransactionTestCase) -> None:
        # Django's own way, a DELETE for each table and all permissions written anew, takes a tenth of a second.
        connection.ensure_connection()
        migrated.backup(connection.connection)

    TransactionTestCase._fixture_teardown = take_back  # type: ignore[attr-defined]


def _write_groups(using: str, **_: Any) -> None:
    write_groups(apps, connections[using].schema_editor())


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """Runs the console's commands."""
    process = Preloaded(Path(__file__).resolve().parents[1])
    yield process
    process.close()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, settings: Any) -> None:
    """Everything a test writes goes to its own folder."""
    settings.HOME = tmp_path / "home"
    settings.REPORTS_DIR = settings.HOME / "reports"
    settings.PERFORMANCE_DIR = settings.HOME / "performance"
    settings.CONFIG_FILE = tmp_path / "config.json"
    settings.AUDIT_KEY = settings.HOME / "audit.key"
    settings.MARK_KEY = settings.HOME / "marks.key"
    settings.AUDIT_FILE = settings.HOME / "audit/checkpoints.jsonl"


@pytest.fixture
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reports have tests of their own, and take most of the time of a run."""
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)


@pytest.fixture
def people(db: None) -> dict[str, User]:
    """dba, manager, administrator, auditor, outsider; the password of each is their name and '-password'."""
    found = {}
    for name in (*GROUPS, "outsider"):
        found[name] = User.objects.create_user(name, password=f"{name}-password")
        if name in GROUPS:
            found[name].groups.add(Group.objects.get(name=GROUPS[name]))
    return found


@pytest.fixture
def fake(tmp_path: Path, settings: Any) -> Callable[..., MaintenanceSetting]:
    """Registers a fake database; faults as keyword arguments, see tests.fakes.new_database."""
    fakes.install()

    def register(name: str = "shop", **faults: Any) -> MaintenanceSetting:
        backups = settings.HOME / "backups" / name
        backups.mkdir(parents=True, exist_ok=True)
        return MaintenanceSetting.objects.create(
            name=name,
            url=fakes.new_database(tmp_path / f"{name}.json", **faults).render_as_string(),
            backup_dir=str(backups),
            alternate_backup_dir=str(settings.HOME / "backups" / f"{name}-alternate"),
            stage_wait_seconds=0,
            load_seconds=0.02,
            transient_wait_seconds=0,
            resource_wait_seconds=0,
            integrity_wait_seconds=0,
        )

    return register


@pytest.fixture
def request_for() -> Callable[..., Request]:
    """A valid request; change what the test is about."""

    def make(*databases: str, **changes: Any) -> Request:
        values: dict[str, Any] = {
            "maintenance_type": "rebuild",
            "target_databases": list(databases) or None,
            "severity_level": "high",
            "reason": "checkout times out",
        }
        return Request(**{**values, **changes})

    return make


@pytest.fixture
def someone() -> Actor:
    return Actor("somebody (command line)", "command")
