"""Month and quarter at a glance: every number of the management section, added up by the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

from django.db.models import Case, Count, IntegerField, Max, Q, QuerySet, Sum, Value, When
from django.utils import timezone

from maintenance.models import ENDED, MaintenanceRun, RunTarget, Status

WANTED_SUCCESS = 0.95
"""Specification 8.2."""
LIMIT_SECONDS = 180 * 60
"""Specification 3.1 and 8.1."""
TREND = 12
"""Months of the trend, the chosen one included."""
TROUBLED = 10
"""Databases that are named."""
GROUPS: Mapping[str, Q] = {
    "much_faster": Q(ratio__lte=0.5),
    "faster": Q(ratio__gt=0.5, ratio__lt=0.9),
    "alike": Q(ratio__gte=0.9, ratio__lte=1.1),
    "slower": Q(ratio__gt=1.1),
    "unmeasured": Q(ratio__isnull=True),
}
"""Databases that succeeded, by the geometric mean of after / before."""
BAD = tuple(s for s in ENDED if s not in (Status.SUCCEEDED, Status.CANCELLED))


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
    """'2026-11' -> Month; None for what is no month."""
    try:
        return Month(*date.fromisoformat(f"{text}-01").timetuple()[:2])
    except ValueError:
        return None


def this_month() -> Month:
    today = timezone.localdate()
    return Month(today.year, today.month)


@dataclass(frozen=True)
class Asked:
    """Which runs are counted; '' is every one."""

    database: str = ""
    maintenance_type: str = ""
    severity_level: str = ""

    def runs(self) -> QuerySet[MaintenanceRun]:
        """Without a condition on the status: the database would take that index, and read every run there ever was."""
        found = MaintenanceRun.objects.filter(**self._exactly("")).order_by()
        return found.filter(targets__database=self.database) if self.database else found

    def targets(self) -> QuerySet[RunTarget]:
        found = RunTarget.objects.filter(**self._exactly("run__")).order_by()
        return found.filter(database=self.database) if self.database else found

    def _exactly(self, prefix: str) -> dict[str, str]:
        wanted = {"maintenance_type": self.maintenance_type, "severity_level": self.severity_level}
        return {prefix + name: value for name, value in wanted.items() if value}


@dataclass(frozen=True)
class Figures:
    """Runs that were asked for in one span of time and have ended. Seconds and bytes."""

    name: str
    endings: Mapping[str, int] = field(default_factory=dict)
    outage: float = 0.0
    longest_outage: float = 0.0
    worked: float = 0.0
    longest: float = 0.0
    timed: int = 0
    """Runs whose duration is known."""
    over_limit: int = 0
    won: int = 0
    won_known: int = 0
    """Databases that the space is known of."""
    groups: Mapping[str, int] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        return sum(self.endings.values())

    @property
    def counted(self) -> int:
        """A cancelled run is neither success nor failure."""
        return self.runs - self.endings.get(Status.CANCELLED, 0)

    @property
    def success(self) -> float | None:
        return self.endings.get(Status.SUCCEEDED, 0) / self.counted if self.counted else None

    @property
    def missed(self) -> bool:
        return self.success is not None and self.success < WANTED_SUCCESS

    @property
    def average(self) -> float | None:
        """Duration of a run, seconds."""
        return self.worked / self.timed if self.timed else None


def total(name: str, parts: Iterable[Figures]) -> Figures:
    parts = list(parts)
    return Figures(
        name,
        _added(p.endings for p in parts),
        sum(p.outage for p in parts),
        max((p.longest_outage for p in parts), default=0.0),
        sum(p.worked for p in parts),
        max((p.longest for p in parts), default=0.0),
        sum(p.timed for p in parts),
        sum(p.over_limit for p in parts),
        sum(p.won for p in parts),
        sum(p.won_known for p in parts),
        _added(p.groups for p in parts),
    )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for count in counts:
        for name, number in count.items():
            found[name] = found.get(name, 0) + number
    return found


@dataclass(frozen=True)
class Troubled:
    """One database in the quarter."""

    database: str
    runs: int
    bad: int
    outage: float


@dataclass(frozen=True)
class Glance:
    month: Figures
    before: Figures
    """The month before it."""
    quarter: Figures
    trend: Sequence[Figures]
    """Oldest first."""
    troubled: Sequence[Troubled]


def glance(month: Month, asked: Asked) -> Glance:
    """Three queries, whatever the number of runs; none brings a run itself into memory."""
    last = max(month, month.quarter[-1])
    months = [month + n for n in range(1 - TREND, 1)]
    months += [m for m in month.quarter if m > month]
    figures = dict(zip(months, _figures(months, asked), strict=True))
    return Glance(
        figures[month],
        figures[month + -1],
        total(month.quarter_name, (figures[m] for m in month.quarter)),
        [figures[m] for m in months if m <= month],
        _troubled(month.quarter[0].begin, (last + 1).begin, asked),
    )


def _figures(months: Sequence[Month], asked: Asked) -> list[Figures]:
    begin, end = months[0].begin, (months[-1] + 1).begin
    runs = asked.runs().filter(created_at__gte=begin, created_at__lt=end).annotate(month=_which(months, "created_at"))
    counted = runs.values("month", "status").annotate(
        runs=Count("pk"),
        outage=Sum("outage_seconds"),
        longest_outage=Max("outage_seconds"),
        worked=Sum("duration_seconds"),
        longest=Max("duration_seconds"),
        timed=Count("duration_seconds"),
        over_limit=Count("pk", filter=Q(duration_seconds__gt=LIMIT_SECONDS)),
    )
    found: list[list[Figures]] = [[] for _ in months]
    for row in (r for r in counted if r["status"] in ENDED):
        found[row["month"]].append(
            Figures(
                "",
                {row["status"]: row["runs"]},
                row["outage"] or 0.0,
                row["longest_outage"] or 0.0,
                row["worked"] or 0.0,
                row["longest"] or 0.0,
                row["timed"],
                row["over_limit"],
            )
        )
    targets = asked.targets().filter(run__created_at__gte=begin, run__created_at__lt=end)
    good = Q(status=Status.SUCCEEDED)
    gains: Any = (
        targets.annotate(month=_which(months, "run__created_at"))
        .values("month")
        .annotate(
            won=Sum("bytes_won", filter=good),
            won_known=Count("bytes_won", filter=good),
            **{name: Count("pk", filter=good & which) for name, which in GROUPS.items()},
        )
    )
    for gain in gains:
        groups = {name: gain[name] for name in GROUPS}
        found[gain["month"]].append(Figures("", won=gain["won"] or 0, won_known=gain["won_known"], groups=groups))
    return [total(str(month), parts) for month, parts in zip(months, found, strict=True)]


def _which(months: Sequence[Month], column: str) -> Case:
    """The place of the month in the list. Comparisons only: cutting dates costs SQLite a call of Python a row."""
    after = [(n, (month + 1).begin) for n, month in enumerate(months[:-1])]
    whens = [When(**{f"{column}__lt": end}, then=Value(n)) for n, end in after]
    return Case(*whens, default=Value(len(months) - 1), output_field=IntegerField())


def _troubled(begin: datetime, end: datetime, asked: Asked) -> list[Troubled]:
    """Most runs that ended badly first, then the longest outage."""
    rows: Any = (
        asked.targets()
        .filter(run__created_at__gte=begin, run__created_at__lt=end)
        .values("database")
        .annotate(
            runs=Count("pk", filter=Q(status__in=ENDED)),
            bad=Count("pk", filter=Q(status__in=BAD)),
            outage=Sum("out_seconds"),
        )
        .order_by("-bad", "-outage", "database")[:TROUBLED]
    )
    return [Troubled(r["database"], r["runs"], r["bad"], r["outage"] or 0.0) for r in rows]
