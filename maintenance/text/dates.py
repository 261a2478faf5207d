"""Days, months and spans of time as people mean them, where they live."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

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


def passed(at: datetime) -> str:
    """Return how long ago, in the largest unit that fits."""
    seconds = max(0, int((timezone.now() - at).total_seconds()))
    if seconds < 60:
        return _("{count} s ago").format(count=seconds)
    if seconds < 3600:
        return _("{count} min ago").format(count=seconds // 60)
    if seconds < 2 * 86400:
        return _("{count} h ago").format(count=seconds // 3600)
    return ngettext("{count} day ago", "{count} days ago", seconds // 86400).format(count=seconds // 86400)


@dataclass(frozen=True, order=True)
class Month:
    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year}-{self.number:02d}"

    def __add__(self, months: int) -> Month:
        year, number = divmod(self.year * 12 + self.number - 1 + months, 12)
        return Month(year, number + 1)

    @property
    def begin(self) -> datetime:
        """Midnight in the reader's time zone."""
        return timezone.make_aware(datetime.combine(date(self.year, self.number, 1), time.min))

    @property
    def quarter(self) -> tuple[Month, Month, Month]:
        first = Month(self.year, (self.number - 1) // 3 * 3 + 1)
        return first, first + 1, first + 2

    @property
    def quarter_name(self) -> str:
        return f"{self.year} Q{(self.number - 1) // 3 + 1}"


def month_of(text: str) -> Month | None:
    """'2026-11' -> Month; None for what is no month, or none in which there could be anything of ours."""
    try:
        day = date.fromisoformat(f"{text}-01")
    except ValueError:
        return None
    # A year inside both ends, because pages look some months back and forth.
    return Month(day.year, day.month) if FIRST.year < day.year < LAST.year else None


def this_month() -> Month:
    today = timezone.localdate()
    return Month(today.year, today.month)
