"""The performance report: one CSV a run, one row a measurement, units in the heading."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maintenance.models import MaintenanceRun, Measurement, Node, RunTarget, StepState
from maintenance.models.evidence import LoadEvidence
from maintenance.results.outcome import outcome

from . import files

COLUMNS: Mapping[str, str] = {
    "run": "number of the run, e.g. EM-2026-0147",
    "run_id": "its id in the API",
    "database": "name of the database",
    "engine": "postgresql, mysql, mariadb or sqlite",
    "run_started_utc": "when the work on the database began, ISO 8601 in UTC",
    "run_finished_utc": "when it ended, ISO 8601 in UTC",
    "measured_utc": "when this row was measured (queries: after the work; objects: when the work on it ended)",
    "kind": "query, all_queries (their geometric mean), object or load_test",
    "name": "the query, or the object that was worked on",
    "action": "object: what was done to it",
    "round": "object, load_test: the round of maintenance, 2 for an additional one",
    "before_median_ms": "query: median time before the work, milliseconds",
    "after_median_ms": "query: median time after the work, milliseconds",
    "spread_share": "query: the larger interquartile range of both phases as a share of its median, 0.05 = 5 %",
    "ratio_after_to_before": "query: time after / before with the machine divided out, below 1 is faster",
    "ratio_low": "query: lower end of its interval, all of a database together at 95 %; empty with too few blocks",
    "ratio_high": "query: upper end of it",
    "verdict": "query: improved, not improved, worse or inconclusive",
    "change": "query: the same as faster, slower, no_change, unmeasured or works_again",
    "change_in_words": "query: the same in words, such as 18 % faster (9–26 %)",
    "work": "query: less, more, same or unknown, judged by the cost alone",
    "cost_before": "query: deterministic cost before, in cost_unit",
    "cost_after": "query: deterministic cost after, in cost_unit",
    "cost_unit": "unit of the cost, e.g. blocks",
    "before_bytes": "object: size before the work, bytes",
    "after_bytes": "object: size after the work, bytes",
    "duration_s": "object: how long the work took; load test: how long it lasted, seconds",
    "clients": "load_test: clients at one time",
    "requests": "load_test: requests answered",
    "errors": "load_test: requests that failed",
    "latency_p50_ms": "load_test: half of the requests were answered within, milliseconds",
    "latency_p95_ms": "load_test: 95 % of the requests were answered within, milliseconds",
}
"""Every column and what it holds. An empty cell: does not apply, or not available from this engine."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
Row = dict[str, Any]


def write(run: MaintenanceRun, folder: Path, bom: bool = True) -> Path:
    """Makes the CSV of `run` in `folder` and returns its path; replaces an earlier one whole."""
    return files.put(text(run).encode("utf-8-sig" if bom else "utf-8"), folder / f"{run.number}-performance.csv")


def text(run: MaintenanceRun) -> str:
    """The CSV itself. Spreadsheets take UTF-8 for what it is only after a byte order mark: see `write`."""
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, COLUMNS)
    writer.writeheader()
    for row in measurements(run):
        writer.writerow({name: inert(value) for name, value in row.items()})
    return sheet.getvalue()


def measurements(run: MaintenanceRun) -> Iterator[Row]:
    """Of every database: queries, then objects, then the load test."""
    told = outcome(run)
    for target, found in zip(run.targets.all(), told["targets"], strict=True):
        common = {
            "run": told["number"],
            "run_id": told["id"],
            "database": found["database"],
            "engine": found["engine"],
            "run_started_utc": found["started_at"],
            "run_finished_utc": found["finished_at"],
        }
        for row in (*_queries(target, found), *_overall(found), *_objects(target, found), *_load(target)):
            yield {**common, **row}


def _queries(target: RunTarget, found: Mapping[str, Any]) -> Iterator[Row]:
    after = Measurement.objects.filter(target=target, phase="after").order_by("id")
    at = dict(after.values_list("query", "measured_at"))
    for query in found["benchmark"]:
        yield {
            "kind": "query",
            "name": query["query"],
            "measured_utc": _iso(at.get(query["query"])),
            "before_median_ms": query["before_ms"],
            "after_median_ms": query["after_ms"],
            "spread_share": query["spread"],
            "ratio_after_to_before": query["ratio"],
            "ratio_low": query["ratio_low"],
            "ratio_high": query["ratio_high"],
            "verdict": query["verdict"],
            "change": query["change"],
            "change_in_words": str(query["told"]),
            "work": query["work"],
            "cost_before": query["cost_before"],
            "cost_after": query["cost_after"],
            "cost_unit": query["cost_unit"],
        }


def _overall(found: Mapping[str, Any]) -> Iterator[Row]:
    if found["benchmark_change"] is not None:
        yield {
            "kind": "all_queries",
            "measured_utc": found["finished_at"],
            "ratio_after_to_before": found["benchmark_ratio"],
            "ratio_low": found["benchmark_ratio_low"],
            "ratio_high": found["benchmark_ratio_high"],
            "verdict": found["benchmark_verdict"],
            "change": found["benchmark_change"],
            "change_in_words": str(found["benchmark_told"]),
        }


def _objects(target: RunTarget, found: Mapping[str, Any]) -> Iterator[Row]:
    for record, action in zip(target.actions.all(), found["actions"], strict=True):
        if action["state"] != StepState.FINISHED:
            continue
        yield {
            "kind": "object",
            "name": action["object"],
            "measured_utc": _iso(record.finished_at),
            "action": action["action"],
            "round": action["round"],
            "before_bytes": action["bytes_before"],
            "after_bytes": action["bytes_after"],
            "duration_s": action["seconds"],
        }


def _load(target: RunTarget) -> Iterator[Row]:
    for line in target.steps.filter(node=Node.BENCHMARK, part="load test", state=StepState.FINISHED):
        load = line.evidence(LoadEvidence).load
        yield {
            "kind": "load_test",
            "measured_utc": _iso(line.finished_at),
            "round": line.round,
            "duration_s": load.seconds,
            "clients": load.clients,
            "requests": load.requests,
            "errors": load.errors,
            "latency_p50_ms": load.p50_ms,
            "latency_p95_ms": load.p95_ms,
        }


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None


def inert(value: object) -> object:
    """A name that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
