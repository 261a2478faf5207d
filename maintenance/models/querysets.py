"""What is asked about run targets again and again."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, QuerySet

from .run import ACTIVE, RunTarget, Status


def outages() -> QuerySet[RunTarget]:
    """Databases that are out of service now; by start, because for the order of ids SQLite reads the whole table."""
    found = RunTarget.objects.filter(status__in=ACTIVE, outage_started_at__isnull=False, outage_ended_at__isnull=True)
    return found.defer("plan", "gate", "image").order_by("outage_started_at")


def waiting_for_people() -> list[RunTarget]:
    """The last word on a database is 'needs operator', and nobody released it since."""
    newer = RunTarget.objects.real().filter(database=OuterRef("database"), pk__gt=OuterRef("pk"))
    # In no order: for one SQLite would read the whole table instead of the few of this status.
    stuck = RunTarget.objects.filter(~Exists(newer), status=Status.NEEDS_OPERATOR, released_at=None).order_by()
    found = stuck.select_related("run__acknowledgement").defer("plan", "gate", "image")
    return sorted(found, key=lambda target: target.database)
