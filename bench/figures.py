"""The arithmetic of the benchmark: spans of time, medians with their spread, ratios. Nothing here knows a database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, order=True)
class Span:
    """From one moment to another, in seconds since the epoch."""

    begun: float
    ended: float

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.begun)

    def within(self, other: Span) -> Span:
        """The part of this span inside the other; without length where they do not meet."""
        begun = max(self.begun, other.begun)
        return Span(begun, max(begun, min(self.ended, other.ended)))


def covered(spans: Iterable[Span]) -> float:
    """Seconds in which at least one of the spans was under way: what overlaps counts once."""
    total, end = 0.0, float("-inf")
    for span in sorted(spans):
        if span.ended > end:
            total += span.ended - max(span.begun, end)
            end = span.ended
    return total


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, and the smallest and the largest of them."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError without any measurement."""
    if not values:
        raise ValueError("nothing was measured")
    return Spread(median(values), min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Each round's own ratio, because what disturbs a machine disturbs both sides of one round alike."""
    return spread([mine / other for mine, other in zip(ours, theirs, strict=True)])


@dataclass(frozen=True)
class Row:
    """One line of a table: `limit` is the most that `measured` may be in the median, None where nothing is asked."""

    name: str
    measured: Spread
    limit: float | None = None
    unit: str = "s"

    @property
    def holds(self) -> bool | None:
        return None if self.limit is None else self.measured.median <= self.limit
