"""Retries of specification 6.2: the server's code decides the class, the class decides how often and how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from maintenance.engines.mysql import driver_errors as mysql
from maintenance.engines.postgresql import driver_errors as postgresql
from maintenance.engines.sqlite import driver_errors
from maintenance.models import MaintenanceSetting, StepRecord
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from maintenance.workflow.steps.context import Context

POSTGRESQL = {
    "08006": "transient",  # connection_failure
    "40001": "transient",  # serialization_failure
    "40P01": "transient",  # deadlock_detected
    "55P03": "transient",  # lock_not_available
    "57014": "transient",  # query_canceled: the statement's time
    "57P01": "transient",  # admin_shutdown
    "57P03": "transient",  # cannot_connect_now
    "53100": "resource",  # disk_full
    "53200": "resource",  # out_of_memory
    "53300": "resource",  # too_many_connections
    "XX000": "integrity",  # internal_error
    "XX001": "integrity",  # data_corrupted
    "XX002": "integrity",  # index_corrupted
    "58030": "integrity",  # io_error
    "23505": "integrity",  # unique_violation while an index is built anew
    "28P01": "permanent",  # invalid_password
    "42501": "permanent",  # insufficient_privilege
    "0A000": "permanent",  # feature_not_supported
    "42601": "permanent",  # syntax_error
}
MYSQL = {
    1053: "transient",  # shutdown in progress
    1205: "transient",  # lock wait timeout
    1213: "transient",  # deadlock
    1317: "transient",  # query interrupted
    2002: "transient",  # cannot connect by the socket
    2003: "transient",  # cannot connect
    2006: "transient",  # server has gone away
    2013: "transient",  # lost connection
    3024: "transient",  # statement limit
    28: "resource",  # no space left
    1021: "resource",  # disk full
    1037: "resource",  # out of memory
    1040: "resource",  # too many connections
    1114: "resource",  # table is full
    1034: "integrity",  # incorrect key file
    1194: "integrity",  # table is crashed
    1712: "integrity",  # index is corrupted
    1932: "integrity",  # table does not exist in the storage engine
    1045: "permanent",  # access denied
    1227: "permanent",  # a privilege is missing
    1049: "permanent",  # unknown database
    1064: "permanent",  # syntax error
}
SQLITE = {
    "SQLITE_BUSY": "transient",
    "SQLITE_LOCKED": "transient",
    "SQLITE_FULL": "resource",
    "SQLITE_NOMEM": "resource",
    "SQLITE_CORRUPT": "integrity",
    "SQLITE_NOTADB": "integrity",
    "SQLITE_READONLY": "permanent",
    "SQLITE_ERROR": "permanent",
}


@pytest.mark.parametrize(("code", "kind"), POSTGRESQL.items())
def test_postgresql(code: str, kind: str) -> None:
    assert postgresql.by_code(code, "words that tell nothing").kind == kind


@pytest.mark.parametrize(("code", "kind"), MYSQL.items())
def test_mariadb_and_mysql(code: int, kind: str) -> None:
    error = DBAPIError("SELECT 1", {}, Exception(code, "words that tell nothing"))
    assert mysql.from_driver(error, "reading", "orders", stopping=False).kind == kind


@pytest.mark.parametrize(("name", "kind"), SQLITE.items())
def test_sqlite(name: str, kind: str) -> None:
    import sqlite3

    error = sqlite3.OperationalError("words that tell nothing")
    error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, name), name
    assert driver_errors.from_driver(error, "reading", "orders").kind == kind


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each wait would have been."""
    found: list[float] = []
    monkeypatch.setattr(Context, "wait", lambda ctx, seconds, doing: found.append(seconds))
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    return found


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("faults", "status", "expected"),
    [
        ({"perform": ["transient"]}, "succeeded", [60]),
        ({"perform": ["transient"] * 2}, "succeeded", [60, 60]),
        ({"perform": ["transient"] * 3}, "rolled_back", [60, 60]),
        ({"perform": ["resource"]}, "succeeded", [300]),
        ({"perform": ["resource"] * 2}, "rolled_back", [300]),
        ({"perform": ["permanent"]}, "rolled_back", []),
        ({"perform": ["integrity"]}, "rolled_back", []),
        ({"perform": ["damage"]}, "rolled_back", [600]),
        ({"back_up": ["resource"]}, "succeeded", []),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_the_class_decides_how_often_and_how_long(
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    waits: list[float],
    faults: dict[str, list[str]],
    status: str,
    expected: list[float],
) -> None:
    fake(**faults)
    usual = MaintenanceSetting()
    waits_of = ("transient_wait_seconds", "resource_wait_seconds", "integrity_wait_seconds")
    as_delivered: dict[str, Any] = {name: getattr(usual, name) for name in waits_of}
    MaintenanceSetting.objects.update(jobs=1, **as_delivered)
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert (run.status, waits) == (status, expected), run.ended_because
    repaired = StepRecord.objects.filter(part="repair 1").count()
    assert repaired == (1 if faults["perform" if "perform" in faults else "back_up"] == ["damage"] else 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "verb",
    [
        "diagnose",
        "back_up",
        "read_gate",
        "cut",
        "arm",
        "fingerprint",
        "image",
        "perform",
        "check",
        "open_gate",
        "disarm",
    ],
)
def test_a_line_that_is_lost_twice_is_waited_for_in_every_step(
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    waits: list[float],
    verb: str,
) -> None:
    fake(**{verb: ["transient"] * 2})
    MaintenanceSetting.objects.update(jobs=1, transient_wait_seconds=MaintenanceSetting().transient_wait_seconds)
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert (run.status, waits) == ("succeeded", [60, 60]), run.ended_because
