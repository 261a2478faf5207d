"""A block of measurements keeps its budget, and databases of one run take turns in measuring. The clock is ours."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from maintenance.engines import measuring
from maintenance.engines.measuring import Block, Meter
from maintenance.engines.values import Sample
from maintenance.models import MeasuringTurn
from maintenance.workflow.steps.measuring_turn import HELD_AT_MOST, take
from tests import records

CONTROL = "control"


class Clock:
    """Time that passes only while a query runs."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    return clock


def meter(clock: Clock, ms: dict[str, float]) -> tuple[Meter, list[str]]:
    asked: list[str] = []

    def timed(query: str) -> Sample:
        asked.append(query)
        clock.now += ms.get(query, 10.0) / 1000
        return Sample(query, (ms.get(query, 10.0),), 7, "blocks", 1)

    return Meter(timed, timed, CONTROL), asked


def test_a_fast_query_is_repeated_until_there_is_something_to_time(clock: Clock) -> None:
    made, asked = meter(clock, {"fast": 0.5})
    sample = Block(100, 3).sample(made, "fast", 1)
    assert sample.times_ms == (0.5, 0.5, 0.5)
    assert sample.control_ms == (10.0, 10.0, 10.0)
    assert asked.count("fast") == 2 + 3 * 30


def test_every_time_stands_between_two_of_the_control_query(clock: Clock) -> None:
    made, asked = meter(clock, {"slow": 200.0})
    Block(100, 2).sample(made, "slow", 1)
    assert asked[2] == asked[-1] == CONTROL
    assert [q for n, q in enumerate(asked[2:]) if q != asked[n + 1]] == [CONTROL, "slow", CONTROL, "slow", CONTROL]


@pytest.mark.parametrize("ms", [0.01, 1.0, 30.0, 250.0, 520.0])
@pytest.mark.parametrize("count", [1, 6, 40])
def test_no_block_outlasts_its_budget(clock: Clock, ms: float, count: int) -> None:
    block, begun = Block(1.5, 9), clock.now
    made, _asked = meter(clock, {str(n): ms for n in range(count)})
    measured = 0
    for number in range(count):
        if block.is_over:
            break
        block.sample(made, str(number), count - number)
        measured += 1
    assert clock.now - begun <= 1.5 * 1.15 + 0.2  # of the control query, beside the last one
    assert measured >= 1


def test_a_query_that_took_all_its_time_is_no_failed_one(clock: Clock) -> None:
    block, begun = Block(1.5, 9), clock.now
    assert block.failed("a", "blocks", "no such table", begun).error == "no such table"
    clock.now += block.statement_seconds
    cut = block.failed("a", "blocks", "canceling statement", begun)
    assert (cut.cut_short, cut.error) == (True, None)
    assert cut.times_ms == pytest.approx((525.0,))


@pytest.fixture
def pair() -> tuple[int, int, int]:
    run = records.finished_run(("shop", "crm"), 1)
    first, second = run.targets.order_by("pk")
    return run.pk, first.pk, second.pk


@pytest.mark.django_db
def test_one_database_of_a_run_measures_at_a_time(pair: tuple[int, int, int]) -> None:
    run, first, second = pair
    assert take(run, first)
    assert not take(run, second)
    MeasuringTurn.objects.all().delete()
    assert take(run, second)


@pytest.mark.django_db
def test_a_turn_is_its_own_again_after_a_crash(pair: tuple[int, int, int]) -> None:
    run, first, _second = pair
    assert take(run, first)
    assert take(run, first)


@pytest.mark.django_db
def test_who_died_with_the_turn_keeps_nobody_waiting_for_ever(
    pair: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, first, second = pair
    assert take(run, first)
    later = timezone.now() + HELD_AT_MOST + timedelta(seconds=1)
    monkeypatch.setattr("maintenance.workflow.steps.measuring_turn.timezone.now", lambda: later)
    assert take(run, second)
