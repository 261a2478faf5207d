"""Days, months and spans of time as people mean them, where they live."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

FIRST, LAST = date(1970, 1, 1), date(2999, 12, 31)
"""Nothing of ours lies beyond them; far beyond, a day has no midnight in every time zone."""
QUARTERS = {"Q1": 1, "Q2": 4, "Q3": 7, "Q4": 10}
"""Their first months."""


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


@dataclass(frozen=True, order=True)
class Period:
    """A month, a quarter or a year of the calendar."""

    first: Month
    months: int
    """1, 3 or 12."""

    def __str__(self) -> str:
        """As it stands in addresses and names of files: 2026-11, 2026-Q4, 2026."""
        return self.name.replace(" ", "-")

    def __add__(self, periods: int) -> Period:
        return Period(self.first + periods * self.months, self.months)

    @property
    def name(self) -> str:
        """Return it as people read it: 2026-11, 2026 Q4, 2026."""
        if self.months == 12:
            return str(self.first.year)
        return str(self.first) if self.months == 1 else f"{self.first.year} Q{(self.first.number - 1) // 3 + 1}"

    @property
    def each(self) -> list[Month]:
        """Return its months, oldest first."""
        return [self.first + n for n in range(self.months)]

    @property
    def begin(self) -> datetime:
        """Return midnight of its first day in the reader's time zone."""
        return self.first.begin

    @property
    def end(self) -> datetime:
        """Return midnight after its last day."""
        return (self.first + self.months).begin

    @property
    def around(self) -> Period:
        """Return the next larger one that it lies in: the quarter of a month, the year of a quarter or of a year."""
        year = Month(self.first.year, 1)
        return Period(year + (self.first.number - 1) // 3 * 3, 3) if self.months == 1 else Period(year, 12)


def month_of(text: str) -> Month | None:
    """'2026-11' -> Month; None for what is no month, or none in which there could be anything of ours."""
    try:
        day = date.fromisoformat(f"{text}-01")
    except ValueError:
        return None
    # Years inside both ends, because pages look two years back and one forth.
    return Month(day.year, day.month) if FIRST.year + 2 < day.year < LAST.year else None


def period_of(text: str) -> Period | None:
    """'2026-11', '2026-Q4' or '2026' -> Period; None for anything else."""
    year, _dash, part = text.partition("-")
    if part in QUARTERS:
        first, months = f"{year}-{QUARTERS[part]:02d}", 3
    else:
        first, months = (text, 1) if part else (f"{year}-01", 12)
    month = month_of(first)
    return Period(month, months) if month else None


def months_of(periods: Iterable[Period]) -> list[Month]:
    """Return every month from the first one of the first to the last one of the last, without a gap."""
    periods = list(periods)
    first, last = min(p.first for p in periods), max(p.each[-1] for p in periods)
    return [first + n for n in range((last.year - first.year) * 12 + last.number - first.number + 1)]


def this_month() -> Month:
    today = timezone.localdate()
    return Month(today.year, today.month)
