"""The message and the run are one commit; with Redis it follows the commit, and the sweep mends a loss."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ
from redis.exceptions import ConnectionError as RedisGone

from maintenance import queue, tasks
from maintenance.models import MaintenanceSetting, RunTarget, Status
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import recovery

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[tuple[Any, ...]]:
    """What went to Redis."""
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "redis": "redis://127.0.0.1:1/0"}
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(queue, "async_task", lambda *args, **kwargs: found.append(args))
    return found


def test_in_the_control_database_the_message_is_part_of_the_transaction() -> None:
    with transaction.atomic():
        queue.send("maintenance.tasks.look", 1, task_name="x")
        assert OrmQ.objects.count() == 1
        transaction.set_rollback(True)
    assert OrmQ.objects.count() == 0


def test_redis_hears_of_it_after_the_commit_only(sent: list[tuple[Any, ...]]) -> None:
    with transaction.atomic():
        queue.send("maintenance.tasks.look", 1, task_name="x")
        assert sent == []
    assert sent == [("maintenance.tasks.look", 1)]


def test_redis_never_hears_of_what_was_rolled_back(sent: list[tuple[Any, ...]]) -> None:
    with transaction.atomic():
        queue.send("maintenance.tasks.look", 1, task_name="x")
        transaction.set_rollback(True)
    assert sent == []


def test_what_redis_did_not_take_the_sweep_sends_again(
    sent: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
) -> None:
    fake("shop")

    def gone(*args: Any, **kwargs: Any) -> None:
        raise RedisGone("Connection refused")

    with monkeypatch.context() as away:
        away.setattr(queue, "async_task", gone)
        run = launch.launch(someone, request_for("shop"))
    assert "the sweep sends it again: Connection refused" in caplog.text
    target = RunTarget.objects.get()
    assert (run.status, target.status, sent) == (Status.QUEUED, Status.QUEUED, [])
    RunTarget.objects.update(enqueued_at=timezone.now() - tasks.LOST_MESSAGE - timedelta(seconds=1))
    assert tasks.sweep(recovery.Watch(), recovery.Recoverers()) == [target.pk]
    assert ("maintenance.tasks.advance", target.pk) in sent
