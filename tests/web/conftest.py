"""What pages are shown with: databases with states, runs in every status, an audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone, translation

from maintenance import tasks
from maintenance.auditing import chain
from maintenance.models import (
    ENDED,
    ActionRecord,
    BackupFile,
    DatabaseState,
    MaintenanceRun,
    MaintenanceSetting,
    Node,
    RunTarget,
    Status,
    StepRecord,
)

WALK = [node for node in Node if node <= Node.COMPLETE]
STEPS = {node: node.step for node in WALK}


@pytest.fixture
def as_(people: dict[str, User]) -> Callable[[str], Client]:
    """A browser of one of the people; 'anonymous' has not logged in."""

    def log_in(who: str) -> Client:
        client = Client()
        if who != "anonymous":
            client.force_login(people[who])
        return client

    return log_in


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    """A page leaves its reader's language behind in the thread; the next request of a server sets its own."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def plans_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that makes every plan at once."""
    monkeypatch.setattr("maintenance.queue.enqueue_plan", tasks.make_plan)


@pytest.fixture
def looked_at() -> Callable[..., DatabaseState]:
    """A state of a database."""

    def make(setting: MaintenanceSetting, state: str = "degraded", **values: Any) -> DatabaseState:
        finding = {
            "code": "table_bloat",
            "severity": "high",
            "object": "orders",
            "evidence": "half of it is unused",
            "hint": "many rows were deleted",
        }
        table = {"name": "orders", "bytes": 4000, "rows": 4, "bloat_share": 0.5, "dead_share": None, "stale_share": 0.1}
        known: dict[str, Any] = {
            "source": "diagnosis",
            "health": 60,
            "findings": [finding],
            "tables": [{**table, "damaged": False}],
            "size_bytes": 6100,
            "connections": 3,
            "version": "Fake 1",
        }
        return DatabaseState.objects.create(setting=setting, state=state, **{**known, **values})

    return make


@pytest.fixture
def ran() -> Callable[..., MaintenanceRun]:
    """A run with its journal as the worker would have left it."""

    def make(
        setting: MaintenanceSetting, status: str = Status.SUCCEEDED, lines: int = 11, **values: Any
    ) -> MaintenanceRun:
        now = timezone.now()
        over = status in ENDED
        known: dict[str, Any] = {
            "maintenance_type": "rebuild",
            "target_databases": [setting.name],
            "severity_level": "high",
            "reason": "checkout times out",
            "requested_by_name": "somebody",
            "origin": "web",
            "started_at": now - timedelta(minutes=2),
            "finished_at": now if over else None,
            "outage_seconds": 12.5 if over else None,
        }
        run = MaintenanceRun.objects.create(status=status, **{**known, **values})
        target = RunTarget.objects.create(
            run=run,
            setting=setting,
            database=setting.name,
            engine="sqlite",
            status=status,
            node="K" if over else "G",
            token=1,
            beat_at=now,
            started_at=known["started_at"],
            finished_at=known["finished_at"],
            outage_started_at=now - timedelta(seconds=13),
            outage_ended_at=now if over else None,
            ended_because="Told by the test." if over else "",
            plan=[planned("orders"), planned("customers")],
            progress={} if over else in_hand(),
        )
        for number in range(lines):
            node = WALK[number % len(WALK)]
            StepRecord.objects.create(
                target=target,
                node=node,
                step=STEPS[node],
                part="" if number < len(WALK) else f"part {number}",
                state="finished",
                sentence=f"Line {number}.",
                token=1,
                finished_at=now,
            )
        ActionRecord.objects.create(
            target=target, object="orders", action="rebuild", reason="because", state="finished", finished_at=now,
            sentence="Rewrote orders.", bytes_before=4000, bytes_after=1000,
        )  # fmt: skip
        BackupFile.objects.create(
            target=target, role="primary", method="dump", path="/backups/orders.json", bytes=100, verified=True
        )
        chain.record("somebody", "run.launched", run.number, after={"reason": run.reason})
        return run

    return make


def planned(name: str) -> dict[str, Any]:
    return {
        "object": name,
        "kind": "rebuild",
        "reason": "because",
        "lock": "nobody reads",
        "bytes": 4000,
        "disk_bytes": 1,
    }


def in_hand() -> dict[str, Any]:
    return {
        "share": None,
        "finished": 1,
        "planned": 2,
        "objects": [{"object": "customers", "share": None, "statement": "REWRITE customers", "detail": "waits for 42"}],
    }
