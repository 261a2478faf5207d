"""Is any database in trouble, and who is on it?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from math import floor
from statistics import geometric_mean, quantiles
from typing import Any

from django.db.models import Count, Max, Q, Sum
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from maintenance import tasks
from maintenance.models import ENDED, Feed, Incident, MaintenanceRun, RunTarget, Status
from maintenance.observation.health import Standing, standings
from maintenance.results.statistics import WANTED_SUCCESS
from maintenance.templatetags.console import passed

from .access import READING, open_to
from .live import fragment

DAYS_FOR_SUCCESS = timedelta(days=90)
DAYS_FOR_OUTAGE = timedelta(days=30)
INCIDENTS = 20
RECENT = 5
LEAST_MEASURED = 5
"""Of fewer databases no median is told."""


@open_to(*READING)
def dashboard(request: HttpRequest) -> HttpResponseBase:
    return render(request, "dashboard/page.html", told())


@open_to(*READING)
def dashboard_live(request: HttpRequest) -> HttpResponseBase:
    return fragment(request, "dashboard/parts.html", told())


def told() -> dict[str, Any]:
    found = standings()
    active = [s for s in found if s.target is not None]
    return {
        "standings": found,
        "headline": headline(found),
        "active": active,
        "waiting": list(MaintenanceRun.objects.filter(status=Status.AWAITING_APPROVAL)),
        "incidents": list(Incident.objects.filter(closed_at=None).select_related("setting")[:INCIDENTS]),
        "feed": Feed.objects.exclude(error="", problems={}).first(),
        "measured_at": max((s.measured_at for s in found if s.measured_at), default=None),
        "workers": tasks.workers_alive(),
        "success": success(),
        "outage": outage(),
        "faster": faster(),
        "backup": oldest_backup(found),
        "recent": recent(),
    }


def headline(found: Sequence[Standing]) -> str:
    """The answer in a sentence."""
    trouble = sum(s.in_trouble for s in found)
    held = sum(s.target is not None for s in found)
    parts = []
    if trouble:
        parts.append(
            ngettext("{count} database is in trouble", "{count} databases are in trouble", trouble).format(
                count=trouble
            )
        )
    if held:
        parts.append(ngettext("{count} is in maintenance", "{count} are in maintenance", held).format(count=held))
    if parts:
        return ", ".join(parts)
    if not found:
        return _("No database is registered yet")
    unseen = sum(s.word == "unknown" for s in found)
    if unseen:
        return ngettext(
            "{count} database was not looked at yet", "{count} databases were not looked at yet", unseen
        ).format(count=unseen)
    return _("No database is in trouble")


def success() -> dict[str, Any]:
    """Ended runs that succeeded; a cancelled one is neither success nor failure."""
    counted = MaintenanceRun.objects.filter(created_at__gt=timezone.now() - DAYS_FOR_SUCCESS, status__in=ENDED).exclude(
        status=Status.CANCELLED
    )
    numbers = counted.aggregate(all=Count("pk"), good=Count("pk", filter=Q(status=Status.SUCCEEDED)))
    share = numbers["good"] / numbers["all"] if numbers["all"] else None
    percent = None if share is None else f"{floor(share * 1000) / 10:.1f}"
    return {**numbers, "share": share, "percent": percent, "met": share is None or share >= WANTED_SUCCESS}


def outage() -> dict[str, Any]:
    recent = MaintenanceRun.objects.filter(created_at__gt=timezone.now() - DAYS_FOR_OUTAGE, outage_seconds__gt=0)
    return recent.aggregate(seconds=Sum("outage_seconds"), runs=Count("pk"), longest=Max("outage_seconds"))


def faster() -> dict[str, Any]:
    """Of the databases of runs that succeeded: before / after of their queries, the median and the middle half.

    RunTarget.ratio is after / before, written at the end of a run. No median of too few.
    """
    since = timezone.now() - DAYS_FOR_SUCCESS
    done = RunTarget.objects.filter(run__status=Status.SUCCEEDED, run__created_at__gt=since, ratio__gt=0)
    ratios = list(done.values_list("ratio", flat=True))
    told: dict[str, Any] = {"count": len(ratios), "least": LEAST_MEASURED}
    if len(ratios) < LEAST_MEASURED:
        return told
    low, middle, high = quantiles([1 / ratio for ratio in ratios if ratio], n=4)
    return {**told, "times": f"{middle:.1f}", "low": f"{low:.1f}", "high": f"{high:.1f}"}


def recent() -> list[tuple[MaintenanceRun, float | None]]:
    """The last that ended, with after / before as the geometric mean over its databases; None: not measured."""
    runs = list(MaintenanceRun.objects.filter(finished_at__isnull=False).order_by("-created_at", "-id")[:RECENT])
    ratios: dict[int, list[float]] = {}
    measured = RunTarget.objects.filter(run__in=runs, status=Status.SUCCEEDED, ratio__gt=0)
    for pk, ratio in measured.values_list("run_id", "ratio"):
        ratios.setdefault(pk, []).append(ratio or 1.0)
    return [(run, geometric_mean(ratios[run.pk]) if run.pk in ratios else None) for run in runs]


def oldest_backup(found: Sequence[Standing]) -> dict[str, Any] | None:
    """Of each database the newest backup that read back whole; of these the oldest."""
    kept = [(s.backup_at, s.setting.name) for s in found if s.backup_at is not None]
    if not kept:
        return None
    at, name = min(kept)
    return {"age": passed(at), "at": at, "database": name}
