"""What stands on every page: an outage that lasts, and a database that waits for a person."""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject

from maintenance.models import ACTIVE, RunTarget, Status

from .access import READING, open_to
from .live import fragment


def frame(request: HttpRequest) -> dict[str, Any]:
    """Context processor; asks the database only for people who may know, and on pages that say it."""
    user = getattr(request, "user", None)
    if user is None or not any(user.has_perm(f"maintenance.{p}") for p in READING):
        return {}
    return {
        "outages": SimpleLazyObject(lambda: list(outages())),
        "waiting_for_people": SimpleLazyObject(waiting_for_people),
    }


def outages() -> QuerySet[RunTarget]:
    """Databases that are out of service now; by start, because for the order of ids SQLite reads the whole table."""
    found = RunTarget.objects.filter(status__in=ACTIVE, outage_started_at__isnull=False, outage_ended_at__isnull=True)
    return found.defer("plan", "gate", "image").order_by("outage_started_at")


def waiting_for_people() -> list[RunTarget]:
    """The last word on a database is 'needs operator', and nobody released it since."""
    newer = RunTarget.objects.filter(database=OuterRef("database"), pk__gt=OuterRef("pk"))
    # In no order: for one SQLite would read the whole table instead of the few of this status.
    stuck = RunTarget.objects.filter(~Exists(newer), status=Status.NEEDS_OPERATOR, released_at=None).order_by()
    found = stuck.select_related("run__acknowledgement").defer("plan", "gate", "image")
    return sorted(found, key=lambda target: target.database)


@open_to()
def alarm(request: HttpRequest) -> HttpResponseBase:
    """The bar's part of it, refreshed on every page."""
    if not any(request.user.has_perm(f"maintenance.{p}") for p in READING):
        return HttpResponse(status=286)
    return fragment(request, "alarm.html", {})
