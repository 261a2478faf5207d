"""Charts of a run: the numbers drawn are those of the comparison and of the journal, and the table says the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from maintenance.models import RunTarget, Status
from maintenance.results.comparison import compare_target
from reports import course
from reports.figures import FigureOfRun, figures
from tests import records

pytestmark = pytest.mark.django_db


def drawn(target: RunTarget) -> dict[str, FigureOfRun]:
    found = figures(target, list(target.steps.all()), list(target.actions.all()), compare_target(target))
    return {figure.told["kind"]: figure for figure in found}


@pytest.fixture
def target() -> RunTarget:
    return records.finished_run().targets.get()


def test_queries_by_their_own_scale_with_the_interval(target: RunTarget) -> None:
    figure, comparison = drawn(target)["queries"], compare_target(target)
    slowest = comparison.queries[0]
    assert slowest.interval is not None
    assert figure.told["after"][0] == slowest.ratio
    assert (figure.told["low"][0], figure.told["high"][0]) == (slowest.interval.low, slowest.interval.high)
    assert len(set(figure.told["names"])) == 4
    assert figure.sheet.rows[0][1:4] == ["840.00", "92.50", str(slowest.told)]


def test_sizes_of_what_changed(target: RunTarget) -> None:
    records.add_action(target, "public.same", bytes_before=5, bytes_after=5)
    records.add_action(target, "public.broken", state="failed", bytes_before=500_000_000, bytes_after=1)
    figure = drawn(target)["sizes"]
    assert figure.told["before"] == sorted(figure.told["before"], reverse=True)
    assert figure.told["before"][0] == 182_400_000
    assert figure.sheet.rows[0][1:] == ["182.4 MB", "84.2 MB"]
    assert len(figure.told["names"]) == 4


def test_steps_with_the_outage_behind_them(target: RunTarget) -> None:
    figure = drawn(target)["steps"]
    assert figure.told["outage"] == [20.0, 61.5]
    assert figure.told["begins"][:3] == [0.0, 0.1, 1.5]
    assert len(figure.told["names"]) == len(figure.told["seconds"]) == 11
    assert figure.sheet.rows[-1][2] == "41.5 s"


def test_an_outage_that_goes_on_is_not_drawn_as_if_it_had_ended(target: RunTarget) -> None:
    target.outage_ended_at = None
    assert drawn(target)["steps"].told["outage"] is None


def test_the_load_test_of_each_round(target: RunTarget) -> None:
    load = {"clients": 4, "seconds": 5.0, "requests": 10, "errors": 0, "p50_ms": 0.9, "p95_ms": 2.5}
    records.add_step(target, "I", "benchmark", 60, 5, part="load test", round=2, result=load)
    empty = {**load, "p50_ms": None, "p95_ms": None}
    records.add_step(target, "I", "benchmark", 66, 5, part="load test", round=3, result=empty)
    assert drawn(target)["latency"].told["p95"] == [3.41, 2.5]


def test_a_run_without_records_has_no_charts() -> None:
    run = records.empty_run(status=Status.FAILED)
    assert drawn(records.target_of(run, "shop")) == {}


def test_what_is_drawn_is_json(target: RunTarget) -> None:
    for figure in drawn(target).values():
        assert json.loads(json.dumps(figure.told, allow_nan=False)) == figure.told


def test_runs_and_answer_times_of_a_database(target: RunTarget) -> None:
    records.finished_run(("crm",))
    [run] = course.maintained("shop")
    assert run == {"at": "2026-07-01 12:00:00", "run": target.run.number, "status": "succeeded"}
    tests: list[dict[str, Any]] = course.latency("shop")
    assert tests == [{"at": "2026-07-01 12:00:58", "p50_ms": 1.05, "p95_ms": 3.41}]
    assert course.answers(tests).rows == [["2026-07-01 12:00:58", "1.05", "3.41"]]
