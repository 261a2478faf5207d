"""How long an outage and a maintenance usually take: what happened before, how often, and no other estimate."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from statistics import median
from typing import Any

from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber

from maintenance.models import RunTarget

LOOKED_AT = 10


def usual_outage(database: str, maintenance_type: str, without: int = 0) -> dict[str, Any] | None:
    """Return median and longest, in seconds, of the last outages of this database by this type; None without any."""
    outages = _over(maintenance_type).filter(database=database).exclude(pk=without).order_by("-id")
    return _told(outages.values_list("outage_started_at", "outage_ended_at")[:LOOKED_AT])


def usual_outages(databases: Collection[str], maintenance_type: str) -> dict[str, dict[str, Any] | None]:
    """Return the same of each of several databases, by one query."""
    newest_first = Window(RowNumber(), partition_by="database", order_by=F("id").desc())
    outages = _over(maintenance_type).filter(database__in=databases).annotate(nth=newest_first)
    spans: dict[str, list[tuple[datetime | None, datetime | None]]] = {name: [] for name in databases}
    for name, start, end in outages.filter(nth__lte=LOOKED_AT).values_list(
        "database", "outage_started_at", "outage_ended_at"
    ):
        spans[name].append((start, end))
    return {name: _told(of_one) for name, of_one in spans.items()}


def usual_durations(database: str, maintenance_type: str) -> list[float]:
    """Return the seconds that the last maintenances of this database by the same type took from begin to end."""
    done = RunTarget.objects.real().filter(
        database=database, run__maintenance_type=maintenance_type, started_at__isnull=False, finished_at__isnull=False
    )
    spans = done.order_by("-id").values_list("started_at", "finished_at")[:LOOKED_AT]
    return [(end - start).total_seconds() for start, end in spans if start and end]


def _over(maintenance_type: str) -> QuerySet[RunTarget]:
    return RunTarget.objects.real().filter(
        run__maintenance_type=maintenance_type, outage_started_at__isnull=False, outage_ended_at__isnull=False
    )


def _told(spans: Iterable[tuple[datetime | None, datetime | None]]) -> dict[str, Any] | None:
    seconds = [(end - start).total_seconds() for start, end in spans if start and end]
    if not seconds:
        return None
    return {"seconds": median(seconds), "runs": len(seconds), "shortest": min(seconds), "longest": max(seconds)}
