"""Messages to the workers, and which workers live. A message says no more than 'advance run target 42'."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_q.tasks import async_task
from redis.exceptions import RedisError

from .models import RunTarget, Worker

log = logging.getLogger("maintenance")
TASKS = frozenset(
    f"maintenance.tasks.{name}"
    for name in (
        *("advance", "look", "make_plan", "release"),
        *("pull", "check_audit", "remove_old", "send_management_report"),
    )
)
"""All that a worker ever does for a message; `maintenance.broker` lets nothing else in."""


def send(function: str, *args: object, task_name: str) -> None:
    """A message to the workers. In the control database it is part of the caller's transaction.

    Redis knows no transaction of ours: there it goes out after the commit, and when Redis is away the sweep
    sends what still waits again (`LOST_MESSAGE`).
    """
    if settings.Q_CLUSTER.get("redis"):
        transaction.on_commit(partial(_send_to_redis, function, args, task_name))
    else:
        async_task(function, *args, task_name=task_name)


def _send_to_redis(function: str, args: tuple[object, ...], task_name: str) -> None:
    try:
        async_task(function, *args, task_name=task_name)
    except RedisError as error:
        log.error("The queue does not take %s now, the sweep sends it again: %s", task_name, error)


def enqueue(target_id: int) -> None:
    """In the caller's transaction: run, audit entry and message are one commit."""
    RunTarget.objects.filter(pk=target_id).update(enqueued_at=timezone.now())
    send("maintenance.tasks.advance", target_id, task_name=f"run target {target_id}")


def enqueue_look(setting_id: int) -> None:
    """A diagnosis by a worker: never inside a page request."""
    send("maintenance.tasks.look", setting_id, task_name=f"look at {setting_id}")


def enqueue_plan(plan_id: int) -> None:
    """A plan needs a diagnosis: made by a worker, never inside a page request."""
    send("maintenance.tasks.make_plan", plan_id, task_name=f"plan {plan_id}")


def enqueue_release(request_id: int) -> None:
    """A release speaks to the target and to applications: done by a worker, never inside a page request."""
    send("maintenance.tasks.release", request_id, task_name=f"release {request_id}")


def alive(name: str) -> None:
    """A cluster says that it is there."""
    Worker.objects.update_or_create(name=name, defaults={"seen_at": timezone.now()})


def workers_alive(within: timedelta = timedelta(seconds=60)) -> int:
    return Worker.objects.filter(seen_at__gt=timezone.now() - within).count()
