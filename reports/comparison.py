"""Before and after, honestly: medians, their spread, the deterministic cost, and a verdict.

The one function behind the page, the PDF, the CSV, the API and the procedure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median, quantiles
from typing import Literal

from maintenance.engines.words import Sentence, say
from maintenance.models import Measurement, RunTarget

Verdict = Literal["improved", "not improved", "worse", "inconclusive"]
LEAST_CHANGE = 0.10
"""Changes of the median below this share are noise whatever the spread says."""
SPREADS = 3.0
"""A change counts when it exceeds this many times the spread (IQR / median) of either phase."""
LEAST_MS = 1.0
"""A query is not called worse for less than this."""
LESS_WORK = 0.95
"""Cost is free of noise: this share of it or less is an improvement unless the time contradicts."""


@dataclass(frozen=True)
class Compared:
    """One query. Times are medians in ms; `ratio` is after / before, below 1 is faster."""

    query: str
    before_ms: float | None
    after_ms: float | None
    spread: float | None
    cost_before: int | None
    cost_after: int | None
    cost_unit: str
    ratio: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    queries: tuple[Compared, ...]
    ratio: float | None
    """Geometric mean of the ratios; None without a comparable query."""

    @property
    def improved(self) -> bool:
        """At least one query improved, none got worse, and the times as a whole did not grow."""
        verdicts = [q.verdict for q in self.queries]
        return "improved" in verdicts and "worse" not in verdicts and (self.ratio or 0) <= 1

    @property
    def summary(self) -> Sentence:
        counts = {v: sum(q.verdict == v for q in self.queries) for v in ("improved", "worse")}
        if self.ratio is None:
            return say("no query could be compared")
        return say(
            "{improved} of {count} queries improved, {worse} got worse, times are {ratio:.2f} of before",
            improved=counts["improved"],
            count=len(self.queries),
            worse=counts["worse"],
            ratio=self.ratio,
        )


def spread_of(times: Sequence[float]) -> float:
    """Interquartile range as a share of the median."""
    if len(times) < 2 or median(times) == 0:
        return 0.0
    low, _, high = quantiles(times, n=4)
    return (high - low) / median(times)


def compare(before: Measurement, after: Measurement) -> Compared:
    """Same query, two phases."""
    if not before.times_ms or not after.times_ms or before.error or after.error:
        return Compared(
            before.query,
            _median(before),
            _median(after),
            None,
            before.cost,
            after.cost,
            before.cost_unit,
            None,
            "inconclusive",
        )
    was, now = median(before.times_ms), median(after.times_ms)
    ratio = now / was if was else 1.0
    spread = max(spread_of(before.times_ms), spread_of(after.times_ms))
    noise = max(LEAST_CHANGE, SPREADS * spread)
    cost = after.cost / before.cost if before.cost and after.cost is not None else None
    verdict: Verdict
    if before.rows is not None and after.rows is not None and before.rows != after.rows:
        verdict = "inconclusive"
    elif ratio < 1 - noise or (cost is not None and cost <= LESS_WORK and ratio <= 1 + noise):
        verdict = "improved"
    elif ratio > 1 + noise and now - was > LEAST_MS and (cost is None or cost > 1):
        verdict = "worse"
    elif noise > 0.5:
        verdict = "inconclusive"
    else:
        verdict = "not improved"
    return Compared(before.query, was, now, spread, before.cost, after.cost, before.cost_unit, ratio, verdict)


def _median(measurement: Measurement) -> float | None:
    return median(measurement.times_ms) if measurement.times_ms else None


def compare_target(target: RunTarget) -> Comparison:
    """The first measurement before the work against the last one after it, query by query."""
    first: dict[str, Measurement] = {}
    last: dict[str, Measurement] = {}
    for measurement in target.measurements.all():
        if measurement.phase == "before":
            first.setdefault(measurement.query, measurement)
        else:
            last[measurement.query] = measurement
    queries = tuple(compare(first[q], last[q]) for q in first if q in last)
    ratios = [q.ratio for q in queries if q.ratio]
    overall = exp(sum(map(log, ratios)) / len(ratios)) if ratios else None
    return Comparison(queries, overall)
