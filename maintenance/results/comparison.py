"""Before and after, honestly: work and time judged apart, the noise measured, and one verdict.

The one rule behind the page, the PDF, the CSV, the API, the month and the procedure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median, quantiles
from typing import Literal

from maintenance.engines.measuring import LEAST_TIMES, NO_TIME
from maintenance.engines.messages import Message, msg
from maintenance.models import Measurement, RunTarget

from .noise import Difference, Interval, Level, differences, level_of

Change = Literal["faster", "slower", "no_change", "unmeasured", "works_again"]
Work = Literal["less", "more", "same", "unknown"]
Verdict = Literal["improved", "not improved", "worse", "inconclusive"]
VERDICTS: dict[Change, Verdict] = {
    "faster": "improved",
    "works_again": "improved",
    "slower": "worse",
    "no_change": "not improved",
    "unmeasured": "inconclusive",
}
"""The same in the words of the API's first version."""
NAMES: dict[Change, Message] = {
    "faster": msg("faster"),
    "works_again": msg("works again"),
    "slower": msg("slower"),
    "no_change": msg("no measurable change"),
    "unmeasured": msg("could not be measured"),
}
"""Without figures."""
LEAST_CHANGE = 0.10
"""A change of time or work below this share is of no use to anybody, however sure it is."""
LEAST_MS = 0.2
"""Nor is one below so much of a query's time, where its work is as before."""
LONG_MS = 100.0
"""A query that takes so long has met what the machine does meanwhile, so that fewer than LEAST_TIMES of it count."""
LEAST_WORK = 4
"""Nor one below so many blocks, pages or rows."""


@dataclass(frozen=True)
class Compared:
    """One query. Times are medians in ms as they were; `ratio` is after / before with the machine divided out.

    `interval`, of `ratio`, is None where too little was measured. `at_least`: the query did not end before, and `ratio`
    is the most that it can be.
    """

    query: str
    before_ms: float | None
    after_ms: float | None
    spread: float | None
    cost_before: int | None
    cost_after: int | None
    cost_unit: str
    ratio: float | None
    interval: Interval | None
    work: Work
    change: Change
    at_least: bool = False

    @property
    def verdict(self) -> Verdict:
        """Return the change in the words of the API's first version."""
        return VERDICTS[self.change]

    @property
    def told(self) -> Message:
        """Return the change in words: '18 % faster (9–26 %)'."""
        if self.at_least and self.ratio is not None:
            return msg("at least {percent} % faster", percent=_percent(1 - self.ratio))
        return told(self.change, self.ratio, self.interval)


@dataclass(frozen=True)
class Comparison:
    queries: tuple[Compared, ...]
    ratio: float | None
    """Geometric mean of the ratios; None without a comparable query."""
    interval: Interval | None
    """Of that mean."""
    change: Change = "unmeasured"

    @property
    def improved(self) -> bool:
        """Return whether it got better."""
        return VERDICTS[self.change] == "improved"

    @property
    def verdict(self) -> Verdict:
        """Return the change in the words of the API's first version."""
        return VERDICTS[self.change]

    @property
    def told(self) -> Message:
        """Return the change of all queries together in words."""
        return told(self.change, self.ratio, self.interval)

    @property
    def summary(self) -> Message:
        """Return how many changed, and all together, in one sentence."""
        if not self.queries:
            return msg("no query could be compared")
        better = sum(VERDICTS[q.change] == "improved" for q in self.queries)
        return msg(
            "{better} of {count} queries better, {slower} slower; all together: {told}",
            better=better,
            count=len(self.queries),
            slower=sum(q.change == "slower" for q in self.queries),
            told=self.told,
        )


def told(change: Change, ratio: float | None, interval: Interval | None) -> Message:
    """Return a change in the one notation there is."""
    if change not in ("faster", "slower") or ratio is None or (ratio < 1) != (change == "faster"):
        return NAMES[change]
    faster = change == "faster"
    values = {"percent": _percent(1 - ratio if faster else ratio - 1)}
    if interval is not None:
        ends = (1 - interval.high, 1 - interval.low) if faster else (interval.low - 1, interval.high - 1)
        values |= {"low": _percent(ends[0]), "high": _percent(ends[1])}
        if faster:
            return msg("{percent} % faster ({low}–{high} %)", **values)
        return msg("{percent} % slower ({low}–{high} %)", **values)
    return msg("{percent} % faster", **values) if faster else msg("{percent} % slower", **values)


def of_target(target: RunTarget) -> Message:
    """Return the same of all queries of a database, as kept with its run."""
    change: Change = target.change if target.change in VERDICTS else "unmeasured"
    known = target.ratio_low is not None and target.ratio_high is not None
    interval = Interval(target.ratio_low or 0.0, target.ratio_high or 0.0) if known else None
    return told(change, target.ratio, interval)


def _percent(share: float) -> str:
    """'18', '<1', '>99': never more digits than were measured, never 100 % of a time."""
    if 0.99 < share < 1:
        return ">99"
    if 0 < share < 0.01:
        return "<1"
    return f"{share * 100:,.0f}"


def spread_of(times: Sequence[float]) -> float:
    """Return the interquartile range as a share of the median, 0 where it cannot be told."""
    if len(times) < 2 or median(times) == 0:
        return 0.0
    low, _, high = quantiles(times, n=4)
    return (high - low) / median(times)


def compare_target(target: RunTarget) -> Comparison:
    """Return the blocks before the work against those after its last round, query by query."""
    before: dict[str, list[Measurement]] = {}
    after: dict[str, list[Measurement]] = {}
    for measurement in target.measurements.all():
        blocks = (before if measurement.phase == "before" else after).setdefault(measurement.query, [])
        if blocks and blocks[-1].round < measurement.round and measurement.phase == "after":
            blocks.clear()
        blocks.append(measurement)
    return compare([(before[query], after[query]) for query in before if query in after])


def compare(pairs: Sequence[tuple[Sequence[Measurement], Sequence[Measurement]]]) -> Comparison:
    """Return how queries did, each by its blocks before and after the work."""
    measured = differences([(_levels(before), _levels(after)) for before, after in pairs])
    queries = tuple(_compared(*pair, each) for pair, each in zip(pairs, measured.queries, strict=True))
    overall = measured.overall
    ratio = exp(overall.change) if overall else None
    interval = overall.interval if overall else None
    return Comparison(queries, ratio, interval, _overall(queries, ratio, interval))


def _overall(queries: Sequence[Compared], ratio: float | None, interval: Interval | None) -> Change:
    """Return the verdict of all: that of those which changed, and where they contradict each other, of the mean."""
    changes = {q.change for q in queries}
    better, slower = changes & {"faster", "works_again"}, "slower" in changes
    if slower and better:
        return _of_time(ratio, interval) if interval else "unmeasured"
    if slower:
        return "slower"
    if better:
        return "faster" if "faster" in changes else "works_again"
    return _of_time(ratio, interval) if interval else "unmeasured"


def _levels(blocks: Iterable[Measurement]) -> list[Level]:
    """Return the level of each block, of log(time / time of the control query beside it)."""
    levels = []
    for block in blocks:
        beside = block.control_ms or [1.0] * len(block.times_ms)
        pairs = [(t, c) for t, c in zip(block.times_ms, beside, strict=False) if t > 0 and c > 0]
        enough = len(pairs) >= LEAST_TIMES or (pairs and pairs[0][0] >= LONG_MS)
        if enough and not block.error and not block.cut_short:
            levels.append(level_of([log(t / c) for t, c in pairs]))
    return levels


def _compared(before: Sequence[Measurement], after: Sequence[Measurement], difference: Difference | None) -> Compared:
    was, now = _times(before), _times(after)
    costs = _cost(before), _cost(after)
    work = _work(*costs)
    common = (
        before[0].query,
        median(was) if was else None,
        median(now) if now else None,
        max(spread_of(was), spread_of(now)) if was and now else None,
        *costs,
        before[0].cost_unit,
    )
    if _cut_short(before) and now:
        most = median(now) / max(b.times_ms[0] for b in before if b.cut_short)
        sure = most < 1 - LEAST_CHANGE
        ratio = most if sure else None
        return Compared(*common, ratio, None, work, "faster" if sure else "unmeasured", at_least=sure)
    if now and not was and any(b.error and b.error != NO_TIME for b in before):
        return Compared(*common, None, None, work, "works_again")
    if difference is None or _other_rows(before, after):
        return Compared(*common, None, None, work, "unmeasured")
    ratio, interval = exp(difference.change), difference.interval
    return Compared(*common, ratio, interval, work, _change(was, now, ratio, interval, work))


def _change(was: Sequence[float], now: Sequence[float], ratio: float, interval: Interval | None, work: Work) -> Change:
    """Return the verdict on one query.

    Work has no noise. Where it changed, the time need not be sure of it too, but must not point the other way.
    """
    if work == "less" and ratio < 1:
        return "faster"
    if interval is None:
        return "unmeasured"
    change = _of_time(ratio, interval)
    if change == "slower" and work == "less":
        return "no_change"
    little = abs(median(now) - median(was)) < LEAST_MS
    return "no_change" if little and work in ("same", "unknown") else change


def _of_time(ratio: float | None, interval: Interval | None) -> Change:
    if ratio is None or interval is None:
        return "unmeasured"
    if interval.high < 1 and ratio < 1 - LEAST_CHANGE:
        return "faster"
    return "slower" if interval.low > 1 and ratio > 1 + LEAST_CHANGE else "no_change"


def _times(blocks: Iterable[Measurement]) -> list[float]:
    return [time for b in blocks if not b.error and not b.cut_short for time in b.times_ms]


def _cost(blocks: Iterable[Measurement]) -> int | None:
    """Return the cost of the last block: what the first one did to the database, hint bits say, it does not do."""
    known = [b.cost for b in blocks if b.cost is not None]
    return known[-1] if known else None


def _work(before: int | None, after: int | None) -> Work:
    if before is None or after is None:
        return "unknown"
    if abs(after - before) < LEAST_WORK or abs(after - before) <= LEAST_CHANGE * before:
        return "same"
    return "less" if after < before else "more"


def _cut_short(blocks: Sequence[Measurement]) -> bool:
    """Return whether it did not end in two blocks apart in time: in one, the machine may have been at fault."""
    return len(blocks) > 1 and all(b.cut_short for b in blocks)


def _other_rows(before: Iterable[Measurement], after: Iterable[Measurement]) -> bool:
    """Return whether the answers differ in their number of rows: then they answer different questions."""
    was, now = ({b.rows for b in blocks if b.rows is not None} for blocks in (before, after))
    return bool(was and now and was != now)
