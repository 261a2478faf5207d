"""What workers do: the functions that messages name, and the sweep."""

from __future__ import annotations

import logging
import signal
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from reports import monthly

from . import broker, retention
from .auditing import chain
from .models import DailyWork, MaintenanceRun, RunTarget, Status
from .observation import prometheus, watch
from .queue import enqueue, enqueue_look, send, workers_alive
from .requests import launch, planning
from .workflow import conclusion, heartbeat, lease, recovery, runner
from .workflow import release as release_

log = logging.getLogger("maintenance")
LOST_MESSAGE = timedelta(minutes=2)
"""A queued target that nobody took in this time gets a new message; a claim decides if both arrive."""


def advance(target_id: int) -> None:
    """What a worker does with a message."""
    recovery.leave_when_told()
    try:
        runner.advance(target_id)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        heartbeat.told_to_leave.clear()


def look(setting_id: int) -> None:
    """Diagnoses one database outside any run: 'diagnose now' and the watch window."""
    watch.look(setting_id)


def make_plan(plan_id: int) -> None:
    """What a person wants to see before they confirm."""
    planning.make(plan_id)


def release(request_id: int) -> None:
    """Opens again what waits for people, because a person said so."""
    release_.carry_out(request_id)


def check_audit() -> None:
    """Once a day: the chain is verified and its end signed anew, also on days when nothing happened."""
    verdict = chain.checkpoint("console")
    if verdict.whole:
        log.info("The audit chain is whole: %s entries.", verdict.entries)
    else:
        log.error("The audit chain is broken: %s.", verdict.problem)


def remove_old() -> None:
    """Once a day: what is older than its setting allows goes (specification 7.2)."""
    retention.remove("console")


def send_management_report() -> None:
    """Once a day, because whom it did not reach gets it on the next; once a month for everybody else."""
    monthly.send_if_due()


DAILY = ("check_audit", "remove_old", "send_management_report")
"""Functions here that every day needs once."""


def send_daily() -> None:
    """Has the daily work done that is due, each by the message of one of the clusters that ask."""
    now = timezone.now()
    waited = Q(begun_at=None) | Q(begun_at__lte=now - timedelta(days=1))
    for name in DAILY:
        DailyWork.objects.get_or_create(name=name)
        if DailyWork.objects.filter(waited, name=name).update(begun_at=now):
            send(f"maintenance.tasks.{name}", task_name=name.replace("_", " "))


def pull() -> None:
    """Fetches the states of all databases from Prometheus."""
    prometheus.pull()


def sweep(watch_: recovery.Watch, recoverers: recovery.Recoverers) -> list[int]:
    """Has every target without a worker taken up; ends runs whose last worker died too early.

    Called by every live cluster each SWEEP_SECONDS. Returns the ids of the targets.
    """
    orphans = watch_.orphans()
    waiting = [target_id for target_id in orphans if not recoverers.take(target_id)]
    again = RunTarget.objects.filter(_lost_message(LOST_MESSAGE) | (Q(pk__in=waiting) & ~_enqueued_recently()))
    requeued = [target_id for target_id, at in again.values_list("pk", "enqueued_at") if _enqueued_again(target_id, at)]
    found = sorted({*orphans, *requeued})
    for run in MaintenanceRun.objects.waiting_for_approval():
        try:
            launch.end_outdated(run)
        except Exception:
            log.exception("%s waits for an approval and could not be looked at; the others go on", run.number)
    for run in MaintenanceRun.objects.filter(status__in=[Status.QUEUED, Status.RUNNING, Status.CANCELLING]):
        try:
            conclusion.conclude(run.pk)
        except Exception:
            log.exception("%s could not be concluded; the others go on", run.number)
    conclusion.go_on_counting()
    for setting_id in watch.due():
        enqueue_look(setting_id)
    broker.refuse_schedules()
    if prometheus.due():
        send("maintenance.tasks.pull", task_name="pull from Prometheus")
    return found


def _enqueued_again(target_id: int, last: datetime | None) -> bool:
    """A new message where `last` is still the latest: of several sweeps at once one sends it."""
    with transaction.atomic():
        unsent = RunTarget.objects.select_for_update().filter(pk=target_id, enqueued_at=last).exists()
        if unsent:
            enqueue(target_id)
    return unsent


def without_worker() -> QuerySet[RunTarget]:
    """Targets that nobody works on, by the clock of this host. Without a live cluster, what is queued is one too."""
    gone = [target.pk for target in RunTarget.objects.in_work() if lease.worker_is_gone(target.worker)]
    lost = _lost_message(LOST_MESSAGE if workers_alive() else timedelta(0))
    return RunTarget.objects.filter(lost | lease.abandoned() | Q(pk__in=gone))


def _lost_message(after: timedelta) -> Q:
    return Q(status=Status.QUEUED, enqueued_at__lt=timezone.now() - after)


def _enqueued_recently() -> Q:
    return Q(enqueued_at__gt=timezone.now() - timedelta(seconds=30)) & ~Q(enqueued_at__lt=F("beat_at"))
