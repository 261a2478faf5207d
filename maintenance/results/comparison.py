"""Before and after, honestly: medians, a confidence interval of their ratio, the deterministic cost, and a verdict.

The one function behind the page, the PDF, the CSV, the API and the procedure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from random import Random
from statistics import median, quantiles
from typing import Literal

from maintenance.engines.messages import Message, msg
from maintenance.models import Measurement, RunTarget

Verdict = Literal["improved", "not improved", "worse", "inconclusive"]
Times = tuple[float, ...]
LEAST_CHANGE = 0.10
"""A change of the median, or of the cost, below this share is of no use to anybody, however sure it is."""
LEAST_MS = 1.0
"""A query is not called worse for less than this."""
LEAST_SAMPLES = 5
"""The range of five values holds their true median in 94 of 100 cases; of fewer nothing can be said."""
CONFIDENCE = 0.95
RESAMPLES, SEED = 1999, 905
"""Of the bootstrap; the seed makes the same measurements give the same interval."""


@dataclass(frozen=True)
class Interval:
    """Of after / before, at CONFIDENCE."""

    low: float
    high: float


@dataclass(frozen=True)
class Compared:
    """One query. Times are medians in ms; `ratio` is after / before, below 1 is faster.

    `interval` is None where fewer than LEAST_SAMPLES times were measured.
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
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    queries: tuple[Compared, ...]
    ratio: float | None
    """Geometric mean of the ratios; None without a comparable query."""
    interval: Interval | None
    """Of that mean."""

    @property
    def improved(self) -> bool:
        """Return whether at least one query improved, none got worse, and the times as a whole did not grow."""
        verdicts = [q.verdict for q in self.queries]
        return "improved" in verdicts and "worse" not in verdicts and (self.ratio or 0) <= 1

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on all queries together."""
        if self.improved:
            return "improved"
        if any(q.verdict == "worse" for q in self.queries):
            return "not improved"
        return _unchanged(self.interval)

    @property
    def summary(self) -> Message:
        """Return both in one sentence."""
        counts = {v: sum(q.verdict == v for q in self.queries) for v in ("improved", "worse")}
        if self.ratio is None:
            return msg("no query could be compared")
        return msg(
            "{improved} of {count} queries improved, {worse} got worse, times are {ratio:.2f} of before",
            improved=counts["improved"],
            count=len(self.queries),
            worse=counts["worse"],
            ratio=self.ratio,
        )


def spread_of(times: Sequence[float]) -> float:
    """Return the interquartile range as a share of the median, 0 where it cannot be told."""
    if len(times) < 2 or median(times) == 0:
        return 0.0
    low, _, high = quantiles(times, n=4)
    return (high - low) / median(times)


def compare(before: Measurement, after: Measurement) -> Compared:
    """Return how the same query did in two phases."""
    comparable = bool(before.times_ms and after.times_ms and not before.error and not after.error)
    was, now = _median(before), _median(after)
    ratio = None if not comparable or was is None or now is None else now / was if was else 1.0
    pairs = ((tuple(before.times_ms), tuple(after.times_ms)),)
    interval = interval_of(pairs) if comparable else None
    return Compared(
        before.query,
        was,
        now,
        max(spread_of(before.times_ms), spread_of(after.times_ms)) if comparable else None,
        before.cost,
        after.cost,
        before.cost_unit,
        ratio,
        interval,
        _verdict(before, after, ratio, interval),
    )


def _verdict(before: Measurement, after: Measurement, ratio: float | None, interval: Interval | None) -> Verdict:
    if ratio is None or (before.rows is not None and after.rows is not None and before.rows != after.rows):
        return "inconclusive"
    cost = after.cost / before.cost if before.cost and after.cost is not None else None
    faster = interval is not None and interval.high < 1 and ratio < 1 - LEAST_CHANGE
    slower = interval is not None and interval.low > 1 and ratio > 1 + LEAST_CHANGE
    # Cost is free of noise, so it needs no interval; but the time must not say the contrary, be it only by its median.
    if faster or (cost is not None and cost < 1 - LEAST_CHANGE and ratio <= 1 + LEAST_CHANGE):
        return "improved"
    if slower and median(after.times_ms) - median(before.times_ms) > LEAST_MS and (cost is None or cost > 1):
        return "worse"
    return _unchanged(interval)


def _unchanged(interval: Interval | None) -> Verdict:
    """Not improved only where an improvement worth the name can be ruled out."""
    return "not improved" if interval is not None and interval.low >= 1 - LEAST_CHANGE else "inconclusive"


def _median(measurement: Measurement) -> float | None:
    return median(measurement.times_ms) if measurement.times_ms else None


@lru_cache(maxsize=1024)
def interval_of(pairs: tuple[tuple[Times, Times], ...]) -> Interval | None:
    """Return the percentile bootstrap of the geometric mean, over pairs (before, after), of the ratios of medians.

    Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13. None where too little was measured, or where a
    time is zero because the clock is too coarse.
    """
    samples = [times for pair in pairs for times in pair]
    if not samples or any(len(times) < LEAST_SAMPLES or min(times) <= 0 for times in samples):
        return None
    chance = Random(SEED)  # noqa: S311  (statistics, no secret)
    changes = [0.0] * RESAMPLES
    for place, times in enumerate(samples):
        sign = 1 if place % 2 else -1
        for number in range(RESAMPLES):
            changes[number] += sign * log(median(chance.choices(times, k=len(times))))
    cuts = quantiles(changes, n=round(2 / (1 - CONFIDENCE)), method="inclusive")
    return Interval(exp(cuts[0] / len(pairs)), exp(cuts[-1] / len(pairs)))


def compare_target(target: RunTarget) -> Comparison:
    """Return the first measurement before the work against the last one after it, query by query."""
    first: dict[str, Measurement] = {}
    last: dict[str, Measurement] = {}
    for measurement in target.measurements.all():
        if measurement.phase == "before":
            first.setdefault(measurement.query, measurement)
        else:
            last[measurement.query] = measurement
    both = [(first[q], last[q]) for q in first if q in last]
    queries = tuple(compare(before, after) for before, after in both)
    ratios = [q.ratio for q in queries if q.ratio]
    overall = exp(sum(map(log, ratios)) / len(ratios)) if ratios else None
    measured = [(tuple(b.times_ms), tuple(a.times_ms)) for (b, a), q in zip(both, queries, strict=True) if q.ratio]
    return Comparison(queries, overall, interval_of(tuple(measured)))
