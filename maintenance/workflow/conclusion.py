"""The end of a run, once every target has ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.models import (
    ENDED,
    WORST_FIRST,
    ActionRecord,
    MaintenanceRun,
    RunTarget,
    ScopeHold,
    Status,
    StepState,
    longest_outage,
)
from maintenance.notifications import events
from maintenance.results.comparison import compare_target
from maintenance.workflow.signals import run_ending

log = logging.getLogger("maintenance")
WENT_WRONG = frozenset({Status.ROLLED_BACK, Status.FAILED, Status.TIMED_OUT})


def conclude(run_id: int) -> bool:
    """End the run if all its targets have ended; return whether this call did. Idempotent."""
    run = MaintenanceRun.objects.get(pk=run_id)
    targets = list(run.targets.all())
    if run.finished_at is not None or not targets or any(t.status not in ENDED for t in targets):
        return False
    status = worst([t.status for t in targets])
    run.status = status
    run.ended_because = "; ".join(f"{t.database}: {t.ended_because}" for t in targets)
    run.outage_seconds = longest_outage(targets)
    run.finished_at = timezone.now()
    run_ending.send(MaintenanceRun, run=run)
    with transaction.atomic():
        ended = MaintenanceRun.objects.filter(pk=run_id, finished_at__isnull=True).update(
            status=run.status,
            ended_because=run.ended_because,
            outage_seconds=run.outage_seconds,
            finished_at=run.finished_at,
            duration_seconds=(run.finished_at - run.started_at).total_seconds() if run.started_at else None,
            report_pdf=run.report_pdf,
            performance_csv=run.performance_csv,
        )
        if not ended:
            return False
        for target in targets:
            RunTarget.objects.filter(pk=target.pk).update(**figures(target))
        ScopeHold.objects.filter(run_id=run_id).delete()
        chain.record("console", "run.ended", run.number, after={"status": status, "because": run.ended_because})
        announce(run, targets)
    log.info("%s %s: %s", run.number, status, run.ended_because)
    return True


def announce(run: MaintenanceRun, targets: Sequence[RunTarget]) -> None:
    """Tell people how the run ended; who needs an operator was told when it ended (`Journal.ended`)."""
    if run.status != Status.NEEDS_OPERATOR:
        events.announce(run, run.status)
        return
    for target in targets:
        if target.status in WENT_WRONG:
            events.announce(run, target.status, target.ended_because, target.database)


def figures(target: RunTarget) -> dict[str, float | int | str | None]:
    """Return what came of it: ratio of times with interval and verdict, bytes, seconds. None and '': not measured."""
    sized = ActionRecord.objects.filter(
        target=target, state=StepState.FINISHED, bytes_before__isnull=False, bytes_after__isnull=False
    )
    comparison = compare_target(target)
    interval = comparison.interval
    return {
        "ratio": comparison.ratio,
        "ratio_low": interval.low if interval else None,
        "ratio_high": interval.high if interval else None,
        "change": comparison.change if comparison.queries else "",
        "bytes_won": sized.aggregate(won=Sum(F("bytes_before") - F("bytes_after")))["won"],
        "out_seconds": target.outage_seconds,
    }


def worst(statuses: Sequence[str]) -> Status:
    """Return the worst status: a run is as bad as its worst target."""
    return next(s for s in WORST_FIRST if s in statuses)


def go_on_counting() -> None:
    """Write the outages that outlive their run, because people are needed, as they are now."""
    lasting = RunTarget.objects.filter(
        status=Status.NEEDS_OPERATOR, outage_started_at__isnull=False, outage_ended_at__isnull=True
    )
    for run in MaintenanceRun.objects.filter(pk__in=lasting.values("run"), finished_at__isnull=False):
        recount(run)


def recount(run: MaintenanceRun) -> None:
    """Write the outage of a run that has ended, in seconds as it is now."""
    targets = list(run.targets.filter(outage_started_at__isnull=False))
    for target in targets:
        RunTarget.objects.filter(pk=target.pk).update(out_seconds=target.outage_seconds)
    MaintenanceRun.objects.filter(pk=run.pk).update(outage_seconds=longest_outage(targets))
