"""One block of measurements: queries one after the other, each beside a control query, within a budget of time.

A control query's work cannot change, so what makes it slower is the machine; dividing by it leaves the query. A query
that is over quickly is repeated until there is something to time (Kalibera and Jones, Rigorous Benchmarking in
Reasonable Time, 2013).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from statistics import fmean

from .values import Sample

LEAST_TIMED_MS = 15.0
"""A query is repeated until its time is so long; it is the mean of the repeats."""
MOST_LOOPS = 100
CONTROL_LOOPS = 10
"""Control queries beside one time of a long query, so that the machine had as long to disturb them."""
STATEMENT_SHARE, BEGIN_SHARE = 0.35, 0.8
"""Of a block's time: what one statement may take, and until when one is begun. No block is longer than 1.15 of it."""
LEAST_TIMES = 3
"""Of a query, before the next one has its turn: few queries that are sure are worth more than many that are not."""
UNHURRIED_SECONDS = 100.0
"""Of a block that lies within nobody's outage."""
NO_TIME = "no time was left to measure it"


@dataclass(frozen=True)
class Meter:
    """What measures in one session.

    `counted` runs a query to warm up and count its work, `timed` runs it once; `control` has the same work at any time.
    """

    counted: Callable[[str], Sample]
    timed: Callable[[str], Sample]
    control: str


class Block:
    """The time of one block, from now on."""

    def __init__(self, seconds: float, repeats: int) -> None:
        self.seconds, self.repeats, self.begun = seconds, max(1, repeats), time.monotonic()
        self.statement_seconds = seconds * STATEMENT_SHARE

    @property
    def is_over(self) -> bool:
        """Whether it is too late to begin a statement."""
        return time.monotonic() - self.begun >= self.seconds * BEGIN_SHARE

    def sample(self, meter: Meter, query: str, left: int) -> Sample:
        """Measure one query in its share of the time, where `left` queries have to share what is left."""
        begun = time.monotonic()
        until = begun + (self.begun + self.seconds * BEGIN_SHARE - begun) / left
        warm = meter.counted(query)
        took = time.monotonic() - begun
        if begun + 2 * took > self.begun + self.seconds:
            # No time for a second one: the warm-up has to count, before and after the work alike.
            return replace(warm, times_ms=warm.times_ms or (took * 1000,), control_ms=(_control(meter, 0.0),))
        first = meter.timed(query)
        loops = min(MOST_LOOPS, max(1, ceil(LEAST_TIMED_MS / max(first.times_ms[0], 0.001))))
        controls = [_control(meter, first.times_ms[0])]
        times: list[float] = []
        while len(times) < self.repeats and (not times or self._goes_on(len(times), until)):
            times.append(first.times_ms[0] if self._is_long(first) and not times else _mean(meter, query, loops))
            controls.append(_control(meter, first.times_ms[0]))
        # The quicker one of before and after: what only one of them met was not the query's.
        beside = tuple(min(pair) for pair in pairwise(controls))
        known = warm if first.cost is None else first
        return replace(known, times_ms=tuple(times), control_ms=beside)

    def _goes_on(self, times: int, until: float) -> bool:
        return not self.is_over and (times < LEAST_TIMES or time.monotonic() < until)

    def _is_long(self, first: Sample) -> bool:
        """Whether the query takes so long that its first time has to count."""
        return first.times_ms[0] / 1000 > self.statement_seconds / 4

    def failed(self, query: str, cost_unit: str, error: str, begun: float) -> Sample:
        """Return the sample of a query that ended by an error: its own, or the end of its time."""
        took = time.monotonic() - begun
        if took >= self.statement_seconds:
            return Sample(query, (self.statement_seconds * 1000,), None, cost_unit, cut_short=True)
        return Sample(query, (), None, cost_unit, error=error)


def _mean(meter: Meter, query: str, loops: int) -> float:
    return fmean(meter.timed(query).times_ms[0] for _ in range(loops))


def _control(meter: Meter, query_ms: float) -> float:
    """Time the control query, several times beside a long query."""
    first = meter.timed(meter.control).times_ms[0]
    loops = min(CONTROL_LOOPS, round(query_ms / max(first, 0.001) / 4))
    return fmean([first, *(meter.timed(meter.control).times_ms[0] for _ in range(loops - 1))])
