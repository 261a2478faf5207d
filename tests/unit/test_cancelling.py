"""A run that is cancelled, too late, or late ends in service."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from maintenance.engines.values import Load
from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import heartbeat, runner
from tests.fakes import FakeEngine
from tests.unit.walking import assert_in_service, go, walked

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_reports"), pytest.mark.whole]
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


def test_a_cancel_ends_in_service(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    target = run.targets.get()
    original = heartbeat.Heart.start

    def start(heart: heartbeat.Heart) -> None:
        """The cancel arrives while the work is being done."""
        perform = heart.ctx.engine.actions.perform

        def cancelling(action: Any, allow_data_loss: bool) -> Any:
            if action.object == "orders":
                launch.cancel(someone, run)
                heart.beat()
            return perform(action, allow_data_loss)

        monkeypatch.setattr(heart.ctx.engine.actions, "perform", cancelling)
        original(heart)

    monkeypatch.setattr(heartbeat.Heart, "start", start)
    runner.advance(target.pk)
    run.refresh_from_db()
    assert (run.status, walked(run)) == ("cancelled", "ABCDEFGSU")
    assert f"Cancelled by {someone.name} during" in run.ended_because
    assert_in_service(setting)


def test_a_cancel_while_measuring_ends_in_service_and_is_no_success(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)

    def start(heart: heartbeat.Heart) -> None:
        def cancelling(*args: Any) -> Load:
            launch.cancel(someone, run)
            heart.beat()
            return Load(1, 0.0, 0, 0, None, None)

        monkeypatch.setattr(heart.ctx.engine.benchmark, "load_test", cancelling)
        original(heart)

    original = heartbeat.Heart.start
    monkeypatch.setattr(heartbeat.Heart, "start", start)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert (run.status, walked(run)) == ("cancelled", "ABCDEFGHIJK")
    assert f"Cancelled by {someone.name} during" in run.ended_because, "whoever it was came after the work began"
    assert_in_service(setting)


def test_a_cancel_before_the_worker_came_ends_at_once(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    launch.cancel(someone, run)
    assert MaintenanceRun.objects.get(pk=run.pk).status == "cancelled"
    assert runner.advance(run.targets.get().pk) is False
    assert_in_service(setting)


def test_the_time_limit_rolls_back(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    setting.timeout_minutes, setting.reserve_minutes = 30, 30
    setting.save()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    original = heartbeat.Heart.start

    def start(heart: heartbeat.Heart) -> None:
        cut = heart.ctx.engine.gate.cut

        def late(*args: Any) -> Any:
            if heart.ctx.reason is None:
                heart.beat()
            return cut(*args)

        monkeypatch.setattr(heart.ctx.engine.gate, "cut", late)
        original(heart)

    monkeypatch.setattr(heartbeat.Heart, "start", start)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == "timed_out"
    assert_in_service(setting)


def test_being_late_is_told_once(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """The heart asks every 50 ms here; people get one message for it."""
    fake()
    settings.LEASE_SECONDS = 0.2
    announced: list[str] = []
    monkeypatch.setattr("maintenance.notifications.events.announce", lambda run, event, *words: announced.append(event))
    monkeypatch.setattr("maintenance.workflow.progress.LATE", -1)
    monkeypatch.setattr("maintenance.workflow.progress.ENOUGH_RUNS", 0)
    usual = {"runs": 3, "seconds": 1.0, "longest": 1.0}
    monkeypatch.setattr("maintenance.workflow.progress.usual_outage", lambda *about: usual)
    plain = FakeEngine.perform

    def slow(self: FakeEngine, *given: Any) -> Any:
        time.sleep(0.3)
        return plain(self, *given)

    monkeypatch.setattr(FakeEngine, "perform", slow)
    run = go(someone, request_for("shop"))
    assert run.targets.get().late_at is not None
    assert announced.count("late") == 1
