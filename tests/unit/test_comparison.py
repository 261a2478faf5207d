"""The verdict on a query: sure where the measurements allow it, and no surer."""

from __future__ import annotations

from typing import Any

import pytest

from maintenance.models import Measurement
from maintenance.results.comparison import Compared, Comparison, compare, interval_of

STEADY = (9.8, 9.9, 10.0, 10.0, 10.1, 10.2, 10.0, 9.9, 10.1)
NOISY = (4.0, 22.0, 7.0, 10.0, 31.0, 5.0, 12.0, 9.0, 18.0)


def measured(times: tuple[float, ...], **values: Any) -> Measurement:
    return Measurement(query="SELECT 1", times_ms=list(times), cost_unit="blocks", **values)


def compared(before: tuple[float, ...], factor: float, **after: Any) -> Compared:
    cost = after.pop("cost_before", None)
    rows = after.pop("rows_before", None)
    return compare(measured(before, cost=cost, rows=rows), measured(tuple(t * factor for t in before), **after))


@pytest.mark.parametrize(
    ("times", "factor", "verdict"),
    [
        (STEADY, 0.5, "improved"),
        (STEADY, 0.95, "not improved"),
        (STEADY, 1.0, "not improved"),
        (STEADY, 1.5, "worse"),
        (NOISY, 0.8, "inconclusive"),
        (NOISY, 1.0, "inconclusive"),
        (NOISY, 0.05, "improved"),
        (STEADY[:3], 0.5, "inconclusive"),
        ((0.1,) * 9, 2.0, "not improved"),  # A tenth of a millisecond is nobody's trouble.
    ],
)
def test_the_verdict_follows_the_interval(times: tuple[float, ...], factor: float, verdict: str) -> None:
    found = compared(times, factor)
    assert found.verdict == verdict
    if found.interval is not None and found.ratio is not None:
        assert found.interval.low - 1e-9 <= found.ratio <= found.interval.high + 1e-9


def test_less_work_is_an_improvement_that_needs_no_statistics() -> None:
    assert compared(NOISY, 1.0, cost_before=1000, cost=400).verdict == "improved"
    assert compared(STEADY[:3], 1.0, cost_before=1000, cost=400).verdict == "improved"
    assert compared(STEADY, 1.5, cost_before=1000, cost=400).verdict != "improved"


def test_a_little_less_work_or_a_slower_median_is_no_improvement() -> None:
    assert compared(STEADY, 1.0, cost_before=14, cost=13).verdict == "not improved"
    assert compared(NOISY, 1.19, cost_before=14, cost=13).verdict != "improved"
    assert compared(NOISY, 1.19, cost_before=1000, cost=400).verdict != "improved"


def test_slower_with_less_work_is_not_called_worse() -> None:
    assert compared(STEADY, 1.5, cost_before=1000, cost=400).verdict == "not improved"


def test_other_rows_are_another_answer() -> None:
    assert compared(STEADY, 0.5, rows_before=10, rows=11).verdict == "inconclusive"


def test_a_failed_measurement_is_no_measurement() -> None:
    found = compare(measured(STEADY), measured((), error="canceling statement"))
    assert (found.verdict, found.ratio, found.interval, found.before_ms) == ("inconclusive", None, None, 10.0)


def test_the_interval_is_the_same_for_the_same_measurements() -> None:
    pairs = ((NOISY, STEADY), (STEADY, NOISY))
    first = interval_of(pairs)
    interval_of.cache_clear()
    assert first == interval_of(pairs)
    assert first is not None
    assert first.low < 1 < first.high


def test_no_interval_from_too_little_or_from_a_clock_too_coarse() -> None:
    assert interval_of(()) is None
    assert interval_of(((STEADY, STEADY[:4]),)) is None
    assert interval_of(((STEADY, (0.0,) * 9),)) is None


@pytest.mark.rare
@pytest.mark.long
def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    import random

    chance = random.Random(905)
    covered = 0
    for _ in range(200):
        before = tuple(chance.lognormvariate(2, 0.1) for _ in range(9))
        after = tuple(chance.lognormvariate(2, 0.1) * 0.8 for _ in range(9))
        found = interval_of(((before, after),))
        assert found is not None
        covered += found.low <= 0.8 <= found.high
    assert covered >= 180


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ((0.5, 1.0), "improved"),
        ((0.5, 1.6), "not improved"),
        ((1.0, 1.0), "not improved"),
    ],
)
def test_all_queries_together(factors: tuple[float, ...], verdict: str) -> None:
    queries = tuple(compared(STEADY, factor) for factor in factors)
    overall = interval_of(tuple((STEADY, tuple(t * f for t in STEADY)) for f in factors))
    assert Comparison(queries, 0.8, overall).verdict == verdict


def test_nothing_measured_is_inconclusive() -> None:
    assert Comparison((), None, None).verdict == "inconclusive"
