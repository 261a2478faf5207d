"""An application that several databases of a run share: whatever becomes of them, the last of them starts it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maintenance.models import ApplicationHold, MaintenanceRun, MaintenanceSetting, RunTarget, Status
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner

pytestmark = pytest.mark.django_db(transaction=True)
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)


@pytest.fixture
def flag(tmp_path: Path, settings: Any) -> Path:
    """Is there while the application runs."""
    made = tmp_path / "the application runs"
    made.touch()
    words = {
        "stop": ["rm", "-f", str(made)],
        "start": ["touch", str(made)],
        "check": ["test", "-e", str(made)],
        "timeout_seconds": 2,
    }
    settings.CONFIG_FILE.write_text(json.dumps({"applications": {"web": words}}))
    return made


@pytest.fixture
def targets(fake: Register, request_for: Ask, someone: Actor, flag: Path) -> list[RunTarget]:
    """Two databases of one run that share it; the first is done and has left it to the second to start it."""
    for name in ("shop", "stock"):
        fake(name)
    MaintenanceSetting.objects.update(applications=["web"])
    run = launch.launch(someone, request_for("shop", "stock"), enqueue=False)
    first, second = run.targets.all()
    runner.advance(first.pk)
    first.refresh_from_db()
    assert (first.status, flag.exists()) == (Status.SUCCEEDED, False), first.ended_because
    return [first, second]


def test_a_cancel_before_the_second_began_starts_it_again(targets: list[RunTarget], someone: Actor, flag: Path) -> None:
    first, second = targets
    launch.cancel(someone, first.run)
    runner.advance(second.pk)
    second.refresh_from_db()
    assert second.status == Status.CANCELLED
    assert flag.exists()
    assert second.outage_started_at is None
    assert MaintenanceRun.objects.get().status == Status.CANCELLED


def test_a_second_that_cannot_even_be_begun_is_left_to_people(
    targets: list[RunTarget], flag: Path, settings: Any
) -> None:
    """Its sentence says that the application is still stopped: nobody can start what config.json does not tell."""
    good = settings.CONFIG_FILE.read_text()
    settings.CONFIG_FILE.write_text("{")
    for _ in range(runner.LAST_ATTEMPT):
        runner.advance(targets[1].pk)
        RunTarget.objects.update(lease_until=None)
    target = RunTarget.objects.get(pk=targets[1].pk)
    assert (target.status, flag.exists()) == (Status.NEEDS_OPERATOR, False)
    assert "to be started by hand: web" in target.ended_because
    settings.CONFIG_FILE.write_text(good)


def test_a_worker_that_died_with_applications_stopped_leaves_no_mere_failure(
    fake: Register, request_for: Ask, someone: Actor, flag: Path, settings: Any
) -> None:
    """Nothing was cut yet, but service is down, and config.json is broken when the successors come."""
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    target = run.targets.get()
    ApplicationHold.objects.create(run=run, target=target, name="web", was_running=True)
    flag.unlink()
    RunTarget.objects.update(
        status=Status.RUNNING, node="E", token=1, attempt=1, outage_started_at=target.run.created_at
    )
    settings.CONFIG_FILE.write_text("{")
    for _ in range(runner.LAST_ATTEMPT):
        runner.advance(target.pk)
        RunTarget.objects.update(lease_until=None)
    target.refresh_from_db()
    assert target.status == Status.NEEDS_OPERATOR, setting
