"""Numbers over many runs, added up by the database: month and quarter at a glance, and the dashboard's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import floor
from statistics import quantiles
from typing import Any, cast

from django.db.models import (
    Case,
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from maintenance.engines.messages import Message, msg
from maintenance.engines.messages import listed as one_sentence
from maintenance.models import (
    ENDED,
    WORST_FIRST,
    ActionRecord,
    Approval,
    DatabaseState,
    MaintenanceRun,
    RunTarget,
    Status,
    StepState,
)
from maintenance.text.dates import Month, Period, months_of

from . import comparison
from .noise import Interval

WANTED_SUCCESS = 0.95
"""Specification 8.2."""
LIMIT_SECONDS = 180 * 60
"""Specification 3.1 and 8.1."""
DAYS_FOR_SUCCESS = timedelta(days=90)
DAYS_FOR_OUTAGE = timedelta(days=30)
RECENT = 5
LEAST_MEASURED = 5
"""Of fewer databases no median is told."""
TREND = 12
"""Months of the trend, the chosen one included."""
TROUBLED = 10
"""Databases that are named."""
GROUPS: Mapping[str, Q] = {
    "much_faster": Q(change="faster", ratio__lte=0.5),
    "faster": Q(change="works_again") | Q(change="faster") & (Q(ratio__gt=0.5) | Q(ratio__isnull=True)),
    "alike": Q(change="no_change"),
    "slower": Q(change="slower"),
    "unmeasured": Q(change__in=("", "unmeasured")),
}
"""Databases that succeeded, by the verdict on their queries; what became faster twice, by the geometric mean too."""
BAD = tuple(s for s in ENDED if s not in (Status.SUCCEEDED, Status.CANCELLED))


@dataclass(frozen=True)
class Asked:
    """Which runs are counted; '' is every one."""

    database: str = ""
    maintenance_type: str = ""
    severity_level: str = ""

    def runs(self) -> QuerySet[MaintenanceRun]:
        """Return the runs, without a condition on status: the database would take that index, and read every run."""
        runs = MaintenanceRun.objects.real().filter(**self._exactly("")).order_by()
        return runs.filter(targets__database=self.database) if self.database else runs

    def targets(self) -> QuerySet[RunTarget]:
        """Return their targets."""
        targets = RunTarget.objects.real().filter(**self._exactly("run__")).order_by()
        return targets.filter(database=self.database) if self.database else targets

    def _exactly(self, prefix: str) -> dict[str, str]:
        values = {"maintenance_type": self.maintenance_type, "severity_level": self.severity_level}
        return {prefix + name: value for name, value in values.items() if value}


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
    approved: int = 0
    unapproved: int = 0
    """Runs that began without the second person, with a reason."""
    waited: float = 0.0
    """For the second person's word."""
    attended: float = 0.0
    """In need of an operator: until released, or until now."""
    lost: int = 0
    """Rows given up by consent."""
    lost_unknown: int = 0
    """Objects of which nobody knows how many."""

    @property
    def people(self) -> float:
        """Return the seconds of steps that waited for people."""
        return self.waited + self.attended

    @property
    def runs(self) -> int:
        """Return how many ended."""
        return sum(self.endings.values())

    @property
    def counted(self) -> int:
        """Return how many of them count: a cancelled run is neither success nor failure."""
        return self.runs - self.endings.get(Status.CANCELLED, 0)

    @property
    def success(self) -> float | None:
        """Return the share that succeeded, 0..1; None without any."""
        return self.endings.get(Status.SUCCEEDED, 0) / self.counted if self.counted else None

    @property
    def missed(self) -> bool:
        """Return whether the share is below what the specification asks for."""
        return self.success is not None and self.success < WANTED_SUCCESS

    @property
    def average(self) -> float | None:
        """Return the mean duration of a run in seconds; None where none is known."""
        return self.worked / self.timed if self.timed else None


Placed = Iterator[tuple[int, Figures]]
"""Parts of the figures, each with the place of its month in the list."""


def total(name: str, parts: Iterable[Figures]) -> Figures:
    """Return the figures of several spans of time as those of one."""
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
        sum(p.approved for p in parts),
        sum(p.unapproved for p in parts),
        sum(p.waited for p in parts),
        sum(p.attended for p in parts),
        sum(p.lost for p in parts),
        sum(p.lost_unknown for p in parts),
    )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for count in counts:
        for name, number in count.items():
            totals[name] = totals.get(name, 0) + number
    return totals


@dataclass(frozen=True)
class Troubled:
    """One database."""

    database: str
    runs: int
    bad: int
    outage: float


@dataclass(frozen=True)
class Glance:
    period: Figures
    before: Figures
    """The period before it, of the same length."""
    around: Figures | None
    """The quarter of a month, the year of a quarter; None for a year."""
    trend: Sequence[Figures]
    """Months up to the last one of the period, oldest first."""
    troubled: Sequence[Troubled]

    @property
    def spans(self) -> list[Figures]:
        """Return the period and what it is compared with."""
        return [self.period, self.before, *([self.around] if self.around else [])]

    @property
    def failing(self) -> list[Figures]:
        """Return the months of the trend in which too few runs succeeded."""
        return [m for m in self.trend if m.missed]


def glance(period: Period, asked: Asked) -> Glance:
    """Return the period by a few queries, whatever the number of runs; none brings a run itself into memory."""
    around, last = period.around, period.each[-1]
    trend = [last + n for n in range(1 - TREND, 1)]
    months = months_of([period, period + -1, around, Period(trend[0], 1)])
    figures = dict(zip(months, _figures(months, asked), strict=True))

    def added(span: Period) -> Figures:
        return total(span.name, (figures[m] for m in span.each))

    return Glance(
        added(period),
        added(period + -1),
        added(around) if around != period else None,
        [figures[m] for m in trend],
        _troubled(around.begin, around.end, asked),
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
    parts_of_month: list[list[Figures]] = [[] for _ in months]
    for row in (r for r in counted if r["status"] in ENDED):
        parts_of_month[row["month"]].append(
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
        parts_of_month[gain["month"]].append(
            Figures("", won=gain["won"] or 0, won_known=gain["won_known"], groups=groups)
        )
    for place, part in (*_approvals(months, runs), *_attended(months, targets), *_lost(months, targets)):
        parts_of_month[place].append(part)
    return [total(str(month), parts) for month, parts in zip(months, parts_of_month, strict=True)]


def _approvals(months: Sequence[Month], runs: QuerySet[MaintenanceRun]) -> Placed:
    """By second persons, and begun without one."""
    given = Approval.objects.filter(run__in=runs.values("pk")).annotate(month=_which(months, "run__created_at"))
    rows: Any = given.values("month").annotate(
        approved=Count("pk", filter=Q(broken_glass="")),
        unapproved=Count("pk", filter=~Q(broken_glass="")),
        waited=Sum(ExpressionWrapper(F("at") - F("run__created_at"), DurationField())),
    )
    for row in rows.order_by():
        waited = max(row["waited"].total_seconds(), 0.0)
        yield row["month"], Figures("", approved=row["approved"], unapproved=row["unapproved"], waited=waited)


def _attended(months: Sequence[Month], targets: QuerySet[RunTarget]) -> Placed:
    """A run once, however many of its databases waited; a later maintenance of the same database ends the wait."""
    later = RunTarget.objects.real().filter(database=OuterRef("database"), pk__gt=OuterRef("pk"))
    over = Coalesce("released_at", Subquery(later.order_by("pk").values("run__created_at")[:1]), timezone.now())
    rows: Any = (
        targets.filter(status=Status.NEEDS_OPERATOR, finished_at__isnull=False)
        .annotate(month=_which(months, "run__created_at"), over=over)
        .values("month", "run")
        .annotate(begin=Min("finished_at"), end=Max("over"))
    )
    for row in rows:
        yield row["month"], Figures("", attended=max((row["end"] - row["begin"]).total_seconds(), 0.0))


def _lost(months: Sequence[Month], targets: QuerySet[RunTarget]) -> Placed:
    """Of databases that were not brought back. Without leave nothing is ever given up, so few runs are asked."""
    kept = targets.filter(run__allow_data_loss=True, status__in=(Status.SUCCEEDED, Status.NEEDS_OPERATOR))
    done = ActionRecord.objects.filter(target__in=kept.values("pk")).exclude(state=StepState.STARTED)
    told = done.exclude(losses=[]).annotate(month=_which(months, "target__run__created_at")).order_by()
    for month, losses in told.values_list("month", "losses"):
        lost, unknown = rows_lost(losses)
        yield month, Figures("", lost=lost, lost_unknown=unknown)


def rows_lost(losses: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many rows are known to be lost, and of how many objects the number is not known."""
    counts = [loss["rows"] for loss in losses]
    return sum(count or 0 for count in counts), sum(count is None for count in counts)


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


def listed(period: Period, asked: Asked, most: int) -> QuerySet[MaintenanceRun]:
    """Return runs of the period that have ended, with all that is told of each; those that ended badly first."""
    worst = Case(*(When(status=s, then=Value(n)) for n, s in enumerate(WORST_FIRST)), default=Value(len(WORST_FIRST)))
    pks = (
        asked.runs()
        .filter(created_at__gte=period.begin, created_at__lt=period.end, status__in=ENDED)
        .order_by(worst, F("outage_seconds").desc(nulls_last=True), "-pk")
        .values_list("pk", flat=True)[:most]
    )
    looks = DatabaseState.objects.filter(source=DatabaseState.Source.DIAGNOSIS).order_by("pk").defer("tables")
    targets = RunTarget.objects.defer("plan", "gate", "image").prefetch_related(
        Prefetch("states", looks), Prefetch("actions", ActionRecord.objects.order_by("pk"))
    )
    runs = MaintenanceRun.objects.filter(pk__in=list(pks)).select_related("approval").defer("asked_settings")
    return runs.order_by(worst, F("outage_seconds").desc(nulls_last=True), "-pk").prefetch_related(
        Prefetch("targets", targets)
    )


def success() -> dict[str, Any]:
    """Return how many ended runs succeeded; a cancelled one is neither success nor failure."""
    ended = MaintenanceRun.objects.real().filter(created_at__gt=timezone.now() - DAYS_FOR_SUCCESS, status__in=ENDED)
    counted = ended.exclude(status=Status.CANCELLED)
    numbers = counted.aggregate(all=Count("pk"), good=Count("pk", filter=Q(status=Status.SUCCEEDED)))
    share = numbers["good"] / numbers["all"] if numbers["all"] else None
    percent = None if share is None else f"{floor(share * 1000) / 10:.1f}"
    return {**numbers, "share": share, "percent": percent, "met": share is None or share >= WANTED_SUCCESS}


def outage() -> dict[str, Any]:
    """Return sum, number and longest of the outages of the last days, in seconds."""
    since = timezone.now() - DAYS_FOR_OUTAGE
    recent = MaintenanceRun.objects.real().filter(created_at__gt=since, outage_seconds__gt=0)
    return recent.aggregate(seconds=Sum("outage_seconds"), runs=Count("pk"), longest=Max("outage_seconds"))


def faster() -> dict[str, Any]:
    """Return after / before of the queries of runs that succeeded, with the machine divided out: median, middle half.

    RunTarget.ratio is written at the end of a run. No median of too few.
    """
    since = timezone.now() - DAYS_FOR_SUCCESS
    done = RunTarget.objects.real().filter(run__status=Status.SUCCEEDED, run__created_at__gt=since, ratio__gt=0)
    ratios = list(done.values_list("ratio", flat=True))
    figures: dict[str, Any] = {"count": len(ratios), "least": LEAST_MEASURED}
    if len(ratios) < LEAST_MEASURED:
        return figures
    low, middle, high = quantiles([ratio for ratio in ratios if ratio], n=4)
    half = Interval(low, high)
    return {**figures, "told": comparison.told("faster" if middle < 1 else "slower", middle, half)}


def recent() -> list[tuple[MaintenanceRun, Message | None]]:
    """Return the last that ended, with what became of their queries in words; None: not measured."""
    ended = MaintenanceRun.objects.real().filter(finished_at__isnull=False)
    runs = list(ended.order_by("-created_at", "-id")[:RECENT])
    changes: dict[int, list[RunTarget]] = {}
    for target in RunTarget.objects.filter(run__in=runs, status=Status.SUCCEEDED).exclude(change=""):
        changes.setdefault(target.run_id, []).append(target)
    return [(run, _told(changes[run.pk]) if run.pk in changes else None) for run in runs]


def _told(targets: Sequence[RunTarget]) -> Message:
    """The change of one database, and of several how many have which."""
    if len(targets) == 1:
        return comparison.of_target(targets[0])
    kinds = Counter(target.change for target in targets)
    return one_sentence(
        [
            msg("{count} × {told}", count=n, told=comparison.NAMES[cast(comparison.Change, kind)])
            for kind, n in kinds.items()
        ]
    )
