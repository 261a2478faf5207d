"""The verdict on queries: sure where the measurements allow it, and no surer. The judge is a generator of timings that
knows the truth: drift of the machine, noise of blocks and of single times, outliers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import exp
from typing import Any

import pytest

from maintenance.models import Measurement
from maintenance.results.comparison import Compared, Comparison, compare
from maintenance.results.noise import t_quantile

STEADY = (9.8, 9.9, 10.0, 10.0, 10.1)
Blocks = list[Measurement]


def block(times: tuple[float, ...] = STEADY, factor: float = 1.0, number: int = 1, **values: Any) -> Measurement:
    times_ms = [t * factor for t in times]
    return Measurement(query="SELECT 1", times_ms=times_ms, block=number, cost_unit="blocks", **values)


def blocks(*factors: float, **values: Any) -> Blocks:
    return [block(factor=f, number=n, **values) for n, f in enumerate(factors, 1)]


def compared(before: Blocks, after: Blocks) -> Compared:
    return compare([(before, after)]).queries[0]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ((1.0, 1.01), (0.5, 0.51), "faster"),
        ((1.0, 1.01), (0.95, 0.96), "no_change"),  # Sure, and of no use to anybody.
        ((1.0, 1.01), (1.0, 1.0), "no_change"),
        ((1.0, 1.01), (1.5, 1.5), "slower"),
        ((1.0, 2.0), (0.8, 1.3), "no_change"),
        ((1.0, 1.4), (0.05, 0.06), "faster"),
        ((1.0,), (0.5,), "unmeasured"),  # Of one block a phase nobody knows the noise.
        ((0.01, 0.0101), (0.02, 0.0201), "no_change"),  # A tenth of a millisecond is nobody's trouble.
    ],
)
def test_the_verdict_follows_the_blocks(before: tuple[float, ...], after: tuple[float, ...], change: str) -> None:
    found = compared(blocks(*before), blocks(*after))
    assert found.change == change
    if found.interval is not None and found.ratio is not None:
        assert found.interval.low <= found.ratio <= found.interval.high


def test_the_machine_is_divided_out() -> None:
    slow_machine = blocks(3.0, 3.0, control_ms=[30.0] * 5)
    assert compared(blocks(1.0, 1.0, control_ms=[10.0] * 5), slow_machine).change == "no_change"


def test_less_work_needs_no_statistics_but_the_time_must_not_say_the_contrary() -> None:
    noisy = (1.0, 1.5)
    assert compared(blocks(*noisy, cost=1000), blocks(1.1, 1.2, cost=400)).change == "faster"
    assert compared(blocks(1.0, 1.0, cost=1000), blocks(1.5, 1.5, cost=400)).change == "no_change"
    assert compared(blocks(1.0, 1.0, cost=14), blocks(0.97, 0.97, cost=13)).change == "no_change"
    assert compared(blocks(1.0, 1.0, cost=5), blocks(0.97, 0.97, cost=2)).work == "same"


def test_work_and_time_are_judged_apart() -> None:
    found = compared(blocks(1.0, 1.0, cost=400), blocks(1.0, 1.0, cost=1000))
    assert (found.work, found.change) == ("more", "no_change")


def test_what_failed_before_works_again() -> None:
    found = compared([block((), error="index is corrupted")] * 2, blocks(1.0, 1.0))
    assert (found.change, found.verdict, str(found.told)) == ("works_again", "improved", "works again")


def test_what_nobody_had_time_for_did_not_fail() -> None:
    from maintenance.engines.measuring import NO_TIME

    assert compared([block((), error=NO_TIME)] * 2, blocks(1.0, 1.0)).change == "unmeasured"


def test_a_query_that_did_not_end_in_its_time_took_at_least_so_long() -> None:
    found = compared([block((900.0,), cut_short=True)] * 2, blocks(1.0, 1.0))
    assert (found.change, str(found.told)) == ("faster", "at least 99 % faster")
    assert compared([block((9.0,), cut_short=True)] * 2, blocks(1.0, 1.0)).change == "unmeasured"


def test_a_query_that_once_did_not_end_may_have_met_a_busy_machine() -> None:
    assert compared([block((900.0,), cut_short=True), block(number=2)], blocks(1.0, 1.0)).change == "no_change"


def test_other_rows_are_another_answer() -> None:
    assert compared(blocks(1.0, 1.0, rows=10), blocks(0.5, 0.5, rows=11)).change == "unmeasured"


def test_a_failed_measurement_is_no_measurement() -> None:
    found = compared(blocks(1.0, 1.0), [block((), error="canceling statement")] * 2)
    assert (found.change, found.ratio, found.interval, found.before_ms) == ("unmeasured", None, None, 10.0)


@pytest.mark.parametrize(
    ("factor", "words"),
    [(0.8, r"20 % faster (14–26 %)"), (1.5, "50 % slower (39–61 %)"), (0.0001, ">99 % faster (>99–>99 %)")],
)
def test_there_is_one_notation(factor: float, words: str) -> None:
    assert str(compared(blocks(1.0, 1.0), blocks(factor, factor)).told) == words


@pytest.mark.parametrize(
    ("factors", "change"), [((0.5, 1.0), "faster"), ((0.5, 1.9), "no_change"), ((1.0, 1.0), "no_change")]
)
def test_all_queries_together(factors: tuple[float, ...], change: str) -> None:
    assert compare([(blocks(1.0, 1.0), blocks(f, f)) for f in factors]).change == change


def test_nothing_measured_could_not_be_measured() -> None:
    assert compare([]) == Comparison((), None, None, "unmeasured")


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.776), (6, 2.447), (10, 2.228), (30, 2.042)])
def test_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(quantile, rel=0.01)


@dataclass(frozen=True)
class Machine:
    """How a machine disturbs what is timed on it: standard deviations of log time, and how often a time is far off."""

    drift: float
    """Of the whole machine between blocks; the control query has it too."""
    block: float
    """Of one query in one block; the control query has it not."""
    single: float
    outliers: float = 0.0

    def blocks(self, chance: random.Random, level: float, drifts: list[float], start: int) -> Blocks:
        return [self._block(chance, level, drift, n) for n, drift in enumerate(drifts[start : start + 2], 1)]

    def _block(self, chance: random.Random, level: float, drift: float, number: int) -> Measurement:
        own = chance.gauss(0, self.block)
        times = [level * exp(drift + own + self._off(chance)) for _ in range(5)]
        controls = [10 * exp(drift + self._off(chance)) for _ in range(6)]
        beside = [min(pair) for pair in pairwise(controls)]
        return Measurement(query=str(level), times_ms=times, control_ms=beside, block=number)

    def _off(self, chance: random.Random) -> float:
        return chance.gauss(0, self.single) + (chance.random() < self.outliers) * chance.uniform(0.5, 2.0)


MACHINES = {
    "quiet": Machine(0.02, 0.01, 0.01),
    "busy": Machine(0.3, 0.05, 0.1, 0.1),
    "drifting": Machine(0.6, 0.03, 0.05),
    "noisy": Machine(0.3, 0.15, 0.3, 0.1),
}


def judged(machine: Machine, factor: float, queries: int, runs: int, seed: int = 905) -> list[Comparison]:
    chance = random.Random(seed)
    found = []
    for _ in range(runs):
        drifts = [chance.gauss(0, machine.drift) for _ in range(4)]
        levels = [chance.lognormvariate(3, 1) for _ in range(queries)]
        found.append(
            compare(
                [
                    (machine.blocks(chance, level, drifts, 0), machine.blocks(chance, level * factor, drifts, 2))
                    for level in levels
                ]
            )
        )
    return found


def share(runs: list[Comparison], holds: Callable[[Comparison], bool]) -> float:
    return sum(map(holds, runs)) / len(runs)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("queries", [1, 5, 12])
def test_of_runs_that_change_nothing_few_are_called_a_change(name: str, queries: int) -> None:
    runs = judged(MACHINES[name], 1.0, queries, 150)
    assert share(runs, lambda c: c.change == "no_change") >= 0.95
    assert share(runs, lambda c: all(q.change == "no_change" for q in c.queries)) >= 0.95


@pytest.mark.parametrize(("name", "factor"), [("quiet", 0.8), ("busy", 0.4), ("drifting", 0.6)])
@pytest.mark.parametrize("queries", [1, 5])
def test_of_runs_that_help_most_are_called_faster(name: str, factor: float, queries: int) -> None:
    runs = judged(MACHINES[name], factor, queries, 150)
    assert share(runs, lambda c: c.change == "faster") >= 0.95


@pytest.mark.rare
@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_the_intervals_of_a_run_hold_the_truth_together(name: str) -> None:
    runs = judged(MACHINES[name], 0.8, 5, 150)
    held = share(
        runs, lambda c: all(q.interval is not None and q.interval.low <= 0.8 <= q.interval.high for q in c.queries)
    )
    assert held >= 0.93
