"""Who is taken for gone, when, and by whom it is taken up: without trusting any clock of the day."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from maintenance import tasks
from maintenance.auditing import chain
from maintenance.models import AuditEntry, MaintenanceRun, MaintenanceSetting, RunTarget
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import heartbeat, journal, lease, recovery, runner
from tests import fakes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.whole]
ELSEWHERE = "elsewhere/1:1:boot/1"


@pytest.fixture
def target(fake: Callable[..., MaintenanceSetting], request_for: Callable[..., Request], someone: Actor) -> RunTarget:
    fake()
    return launch.launch(someone, request_for("shop"), enqueue=False).targets.get()


class Clock:
    """The seconds that this process counts."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("maintenance.workflow.recovery.time", SimpleNamespace(monotonic=made))
    return made


@pytest.fixture
def watch(clock: Clock) -> recovery.Watch:
    return recovery.Watch()


def look(watch: recovery.Watch, clock: Clock, seconds: float) -> list[int]:
    clock.now += seconds
    return watch.orphans()


def test_a_worker_that_is_silent_for_a_lease_is_gone(target: RunTarget, watch: recovery.Watch, clock: Clock) -> None:
    assert journal.claim(target.pk, ELSEWHERE) is not None
    assert look(watch, clock, 0) == []
    assert look(watch, clock, 10) == []
    assert look(watch, clock, 10) == []
    assert look(watch, clock, 10) == [target.pk]
    assert journal.claim(target.pk) is not None


def test_a_worker_that_beats_is_not(target: RunTarget, watch: recovery.Watch, clock: Clock) -> None:
    mine = journal.claim(target.pk, ELSEWHERE)
    assert mine is not None
    for _ in range(6):
        mine.beat()
        assert look(watch, clock, 10) == []
    assert journal.claim(target.pk) is None


@pytest.mark.parametrize("hours", [1, -1])
def test_a_jumping_clock_takes_nothing_from_a_worker_that_beats(
    target: RunTarget, watch: recovery.Watch, clock: Clock, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    mine = journal.claim(target.pk, ELSEWHERE)
    assert mine is not None
    assert look(watch, clock, 0) == []
    jumped(monkeypatch, hours)
    for _ in range(6):
        assert look(watch, clock, 10) == []
        mine.beat()
    assert tasks.sweep(watch, recovery.Recoverers()) == []


@pytest.mark.parametrize("hours", [1, -1])
def test_a_jumping_clock_does_not_keep_a_dead_worker_alive(
    target: RunTarget, watch: recovery.Watch, clock: Clock, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    assert journal.claim(target.pk, ELSEWHERE) is not None
    assert look(watch, clock, 0) == []
    jumped(monkeypatch, hours)
    assert [look(watch, clock, 10) for _ in range(3)][-1] == [target.pk]
    assert journal.claim(target.pk) is not None


def test_recover_believes_no_lease_from_another_time(target: RunTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    assert journal.claim(target.pk, ELSEWHERE) is not None
    assert not tasks.without_worker().exists()
    jumped(monkeypatch, -1)
    assert tasks.without_worker().get() == target
    assert journal.claim(target.pk) is not None


def jumped(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    now = timezone.now
    monkeypatch.setattr("django.utils.timezone.now", lambda: now() + timedelta(hours=hours))


def test_a_pause_of_the_watch_is_no_silence_of_the_worker(
    target: RunTarget, watch: recovery.Watch, clock: Clock
) -> None:
    assert journal.claim(target.pk, ELSEWHERE) is not None
    assert look(watch, clock, 0) == []
    assert look(watch, clock, 3600) == []


def test_who_was_heard_at_the_last_moment_keeps_the_target(target: RunTarget) -> None:
    mine = journal.claim(target.pk, ELSEWHERE)
    assert mine is not None
    target.refresh_from_db()
    mine.beat()
    assert not lease.expire(target.token, target.beat_at, target.pk)


class Full(recovery.Recoverers):
    def take(self, target_id: int) -> bool:
        return False


def test_what_no_recovery_has_room_for_is_put_on_the_queue_once(
    target: RunTarget, watch: recovery.Watch, clock: Clock
) -> None:
    assert journal.claim(target.pk, ELSEWHERE) is not None
    RunTarget.objects.update(lease_until=None)
    assert tasks.sweep(watch, Full()) == [target.pk]
    tasks.sweep(watch, Full())
    assert OrmQ.objects.count() == 1


def test_of_two_sweeps_that_look_at_once_one_sends_a_lost_message_again(target: RunTarget) -> None:
    long_ago = timezone.now() - 2 * tasks.LOST_MESSAGE
    RunTarget.objects.update(enqueued_at=long_ago)
    assert [tasks._enqueued_again(target.pk, long_ago) for _ in range(2)] == [True, False]
    assert OrmQ.objects.count() == 1


@pytest.mark.long
def test_an_orphan_is_taken_up_beside_the_ordinary_workers(target: RunTarget) -> None:
    assert journal.claim(target.pk, ELSEWHERE) is not None
    RunTarget.objects.update(lease_until=None)
    recoverers = recovery.Recoverers()
    assert tasks.sweep(recovery.Watch(), recoverers) == [target.pk]
    recoverers.wait()
    target.refresh_from_db()
    assert target.status == "succeeded", target.ended_because
    assert not OrmQ.objects.exists()


@pytest.fixture
def told() -> Iterator[None]:
    """This process may be told to end, and is itself again afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    recovery.leave_when_told()
    yield
    heartbeat.told_to_leave.clear()
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("told")
@pytest.mark.long
def test_a_worker_that_is_told_to_end_leaves_its_run_to_a_successor_which_finishes_it(
    target: RunTarget, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    setting = MaintenanceSetting.objects.get()
    MaintenanceSetting.objects.update(jobs=1)
    rows = state(setting)["tables"]
    perform = fakes.FakeEngine.perform
    telling: list[threading.Timer] = []

    def slowly(engine: fakes.FakeEngine, action: Any, allow_data_loss: bool) -> Any:
        if not heartbeat.must_leave():
            if not telling:
                telling.append(threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)))
                telling[0].start()
            assert engine.stopping.wait(10), "the statement in hand is ended"
        return perform(engine, action, allow_data_loss)

    monkeypatch.setattr(fakes.FakeEngine, "perform", slowly)
    begun = time.monotonic()
    assert not runner.advance(target.pk)
    assert time.monotonic() - begun < settings.LEASE_SECONDS
    assert not runner.advance(target.pk), "who leaves takes nothing new"
    target.refresh_from_db()
    assert (target.status, target.node, target.lease_until, target.attempt) == ("running", "G", None, 0)
    assert AuditEntry.objects.filter(operation="target.left").count() == 1
    assert state(setting)["marker"] is not None
    heartbeat.told_to_leave.clear()
    monkeypatch.setattr(fakes.FakeEngine, "perform", perform)
    assert runner.advance(target.pk)
    run = MaintenanceRun.objects.get()
    assert run.status == "succeeded", run.ended_because
    assert state(setting)["gate"] == fakes.OPEN
    assert state(setting)["tables"] == rows
    assert chain.verify().whole


def state(setting: MaintenanceSetting) -> dict[str, Any]:
    with fakes.opened(str(setting.engine_url.database)) as found:
        return dict(found)
