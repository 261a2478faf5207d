"""Days as people mean them in a filter: from midnight to midnight where they live."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from django.db.models import Q
from django.utils import timezone

FIRST, LAST = date(1970, 1, 1), date(2999, 12, 31)
"""Nothing of ours lies beyond them; far beyond, a day has no midnight in every time zone."""


def between(field: str, since: date | None, until: date | None) -> Q:
    """Moments from one day to another, both inclusive, in the current time zone; None: without that end."""
    found = Q()
    if since:
        found &= Q(**{f"{field}__gte": _midnight(since)})
    if until:
        found &= Q(**{f"{field}__lt": _midnight(until) + timedelta(days=1)})
    return found


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(min(max(day, FIRST), LAST), time.min))
