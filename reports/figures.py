"""Charts of a run that has ended, for the page: the numbers that plotly draws, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from maintenance.models import ActionRecord, RunTarget, StepRecord, StepState
from maintenance.models.evidence import LoadEvidence
from maintenance.results.comparison import Comparison
from maintenance.text import labels
from maintenance.text.render import render

from .drawings import shortened
from .sheets import Column, Sheet

MOST = 12
"""Bars of one chart; its table says how many there are in all."""


@dataclass(frozen=True)
class FigureOfRun:
    """`told` goes to static/figures.js as JSON; `key` is its place in the page."""

    key: str
    title: str
    told: dict[str, Any]
    sheet: Sheet


def figures(
    target: RunTarget, lines: Sequence[StepRecord], records: Sequence[ActionRecord], comparison: Comparison
) -> list[FigureOfRun]:
    """Those that have something to show. Asks the database nothing."""
    found = (_queries(comparison), _sizes(records), _steps(target, lines), _latency(lines))
    return [figure for figure in found if figure is not None]


def _queries(comparison: Comparison) -> FigureOfRun | None:
    """Each query by its own scale, so that fast and slow ones stand side by side; the slowest before come first."""
    known = [(n, q) for n, q in enumerate(comparison.queries, 1) if q.ratio is not None and q.before_ms]
    chosen = sorted(known, key=lambda item: -(item[1].before_ms or 0))[:MOST]
    if not chosen:
        return None
    names = [f"{n}  {shortened(q.query, 28)}" for n, q in chosen]
    told = {
        "kind": "queries",
        "names": names,
        "before": [1.0 for _n, _q in chosen],
        "after": [q.ratio for _n, q in chosen],
        "low": [q.interval.low if q.interval else None for _n, q in chosen],
        "high": [q.interval.high if q.interval else None for _n, q in chosen],
        "bad": [q.change == "slower" for _n, q in chosen],
        "words": {
            "before": _("before"),
            "after": _("after, with interval"),
            "axis": _("time, before = 1"),
        },
    }
    columns = [
        Column(_("Query"), "name"),
        Column(_("Before, median (ms)"), "number"),
        Column(_("After, median (ms)"), "number"),
        Column(_("Verdict"), "name"),
        Column(_("Spread"), "number"),
    ]
    rows = [
        [
            name,
            labels.milliseconds(q.before_ms),
            labels.milliseconds(q.after_ms),
            render(q.told),
            labels.share(q.spread),
        ]
        for name, (_n, q) in zip(names, chosen, strict=True)
    ]
    return FigureOfRun("figure-queries", _("Time of each query, before and after"), told, Sheet(columns, rows))


def _sizes(records: Sequence[ActionRecord]) -> FigureOfRun | None:
    """Finished work that changed a size; the largest come first."""
    sized = [
        (labels.work(r.object, r.action), r.bytes_before, r.bytes_after)
        for r in records
        if r.state == StepState.FINISHED and r.bytes_before is not None and r.bytes_after is not None
    ]
    changed = sorted((s for s in sized if s[1] != s[2]), key=lambda s: -s[1])[:MOST]
    if not changed:
        return None
    told = {
        "kind": "sizes",
        "names": [shortened(name, 40) for name, _before, _after in changed],
        "before": [before for _name, before, _after in changed],
        "after": [after for _name, _before, after in changed],
        "words": {"before": _("before"), "after": _("after"), "axis": _("size (bytes)")},
    }
    columns = [Column(_("Object"), "name"), Column(_("Before"), "number"), Column(_("After"), "number")]
    rows = [[name, labels.size(before), labels.size(after)] for name, before, after in changed]
    return FigureOfRun("figure-sizes", _("Size of each object, before and after"), told, Sheet(columns, rows))


def _steps(target: RunTarget, lines: Sequence[StepRecord]) -> FigureOfRun | None:
    """Seconds since the first step; the outage behind them. A step that was broken off has no length."""
    steps = [line for line in lines if not line.part]
    if not steps:
        return None
    begin = min(line.started_at for line in steps)
    names = [f"{n}  {labels.label(labels.STEPS, line.step)}" for n, line in enumerate(steps, 1)]
    bad = [line.state in (StepState.FAILED, StepState.INTERRUPTED) for line in steps]
    lengths = [labels.duration(line.seconds) if line.seconds is not None else _("broken off") for line in steps]
    outage = None
    if target.outage_started_at and target.outage_ended_at:
        ends = (target.outage_started_at, target.outage_ended_at)
        outage = [round((at - begin).total_seconds(), 3) for at in ends]
    told = {
        "kind": "steps",
        "names": names,
        "begins": [round((line.started_at - begin).total_seconds(), 3) for line in steps],
        "seconds": [round(line.seconds or 0.0, 3) for line in steps],
        "bad": bad,
        "outage": outage,
        "words": {
            "axis": _("seconds since the beginning"),
            "outage": _("outage {time}").format(time=labels.duration(target.outage_seconds)) if outage else "",
            "told": [f"{name}: {length}" for name, length in zip(names, lengths, strict=True)],
        },
    }
    columns = [
        Column(_("Step"), "name"),
        Column(_("Began"), "number"),
        Column(_("Took"), "number"),
        Column(_("State"), "number"),
    ]
    rows = [
        [name, labels.clock(line.started_at), length, str(StepState(line.state).label)]
        for name, line, length in zip(names, steps, lengths, strict=True)
    ]
    if outage:
        rows.append([_("Outage"), labels.clock(target.outage_started_at), labels.duration(target.outage_seconds), ""])
    marks = ["bad" if wrong else "" for wrong in bad] + [""] * (len(rows) - len(bad))
    return FigureOfRun("figure-steps", _("Steps over time, and the outage"), told, Sheet(columns, rows, marks))


def _latency(lines: Sequence[StepRecord]) -> FigureOfRun | None:
    """Of the load test, one group of bars a round."""
    done = [x for x in lines if x.part == "load test" and x.state == StepState.FINISHED]
    loads = [(line, line.evidence(LoadEvidence).load) for line in done]
    loads = [(line, load) for line, load in loads if load.p50_ms is not None and load.p95_ms is not None]
    if not loads:
        return None
    names = [_("round {number}").format(number=line.round) for line, _load in loads]
    told = {
        "kind": "latency",
        "names": names,
        "p50": [load.p50_ms for _line, load in loads],
        "p95": [load.p95_ms for _line, load in loads],
        "words": {"p50": _("half answered within"), "p95": _("95 percent answered within"), "axis": _("milliseconds")},
    }
    columns = [
        Column(_("Load test"), "name"),
        Column(_("Clients"), "number"),
        Column(_("Requests"), "number"),
        Column(_("Errors"), "number"),
        Column(_("Half within (ms)"), "number"),
        Column(_("Nearly all (95 %) within, ms"), "number"),
    ]
    rows = [
        [
            name,
            labels.count(load.clients),
            labels.count(load.requests),
            labels.count(load.errors),
            labels.milliseconds(load.p50_ms),
            labels.milliseconds(load.p95_ms),
        ]
        for name, (_line, load) in zip(names, loads, strict=True)
    ]
    return FigureOfRun("figure-latency", _("Answer times of the load test after the work"), told, Sheet(columns, rows))
