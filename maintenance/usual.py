"""How long an outage usually is: what happened before, with how often, and no other estimate."""

from __future__ import annotations

from statistics import median
from typing import Any

from .models import RunTarget

LOOKED_AT = 10


def usual_outage(database: str, maintenance_type: str, without: int = 0) -> dict[str, Any] | None:
    """Median of the last outages of this database by the same type; None without any."""
    found = RunTarget.objects.filter(
        database=database,
        run__maintenance_type=maintenance_type,
        outage_started_at__isnull=False,
        outage_ended_at__isnull=False,
    ).exclude(pk=without)
    spans = found.order_by("-id").values_list("outage_started_at", "outage_ended_at")[:LOOKED_AT]
    seconds = [(end - start).total_seconds() for start, end in spans if start and end]
    return {"seconds": median(seconds), "runs": len(seconds), "longest": max(seconds)} if seconds else None
