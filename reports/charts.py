"""From `outcome` to the drawings of the report, and the few words that go with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from maintenance.models import RunTarget, StepState
from maintenance.models.evidence import LoadEvidence
from maintenance.results.sizes import of_objects
from maintenance.text import labels
from maintenance.text.render import render

from . import drawings
from .drawings import Pair, Span

MOST, FEW = 12, 3
"""Bars in one chart, and in one of a long report; the tables hold the rest."""
Json = Mapping[str, Any]


def queries(found: Json, most: int = MOST) -> SafeString:
    """Median times; the slowest before the work come first. Numbers of queries are those of the table."""
    numbered = [{**q, "query": f"{i}  {q['query']}"} for i, q in enumerate(found["benchmark"], 1)]
    measured = [q for q in numbered if q["before_ms"] and q["after_ms"] is not None]
    slowest = sorted(measured, key=lambda q: -float(q["before_ms"]))[:most]
    if not slowest:
        return SafeString("")
    pairs = [
        Pair(
            q["query"],
            q["before_ms"],
            q["after_ms"],
            f"{labels.milliseconds(q['before_ms'])} → {labels.milliseconds(q['after_ms'])} ms",
            q["change"] == "slower",
        )
        for q in slowest
    ]
    return drawings.relative_bars(_("Median time of each query, before and after"), pairs)


def space(found: Json, most: int = MOST) -> SafeString:
    """Sizes of what was worked on; the largest come first, what kept its size is left out."""
    changed = [a for a in _sized(found) if a["bytes_before"] != a["bytes_after"]]
    largest = sorted(changed, key=lambda a: -int(a["bytes_before"]))[:most]
    if not largest:
        return SafeString("")
    pairs = [
        Pair(
            labels.work(a["object"], a["action"]),
            a["bytes_before"],
            a["bytes_after"],
            f"{labels.size(a['bytes_before'])} → {labels.size(a['bytes_after'])}",
        )
        for a in largest
    ]
    return drawings.absolute_bars(_("Size of each object, before and after"), pairs)


def _sized(found: Json) -> list[Json]:
    return [
        a
        for a in found["actions"]
        if a["state"] == StepState.FINISHED and a["bytes_before"] is not None and a["bytes_after"] is not None
    ]


def freed(targets: Sequence[Json]) -> str:
    """What came free of all objects; two pieces of work on one do not count its size twice."""
    known = [
        size
        for found in targets
        if (size := of_objects((a["object"], a["bytes_before"], a["bytes_after"]) for a in _sized(found)))
    ]
    return labels.size(sum(before - after for before, after in known)) if known else "—"


def changes(targets: Sequence[Json]) -> str:
    """The verdict of one database, the number of each verdict for several."""
    if not targets:
        return "—"
    if len(targets) == 1:
        return render(targets[0]["benchmark_told"])
    counts = Counter(t["benchmark_change"] for t in targets)
    return ", ".join(f"{label}: {counts[name]}" for name, label in labels.CHANGES.items() if counts[name])


def steps(target: RunTarget, found: Json) -> SafeString:
    """The steps of the flowchart over time, with the outage behind them."""
    spans = [
        Span(
            labels.label(labels.STEPS, step["step"]),
            _at(step["started_at"]),
            _end(step),
            labels.duration(step["seconds"]) if step["seconds"] is not None else _("broken off"),
            step["state"] in (StepState.FAILED, StepState.INTERRUPTED),
        )
        for step in found["steps"]
        if step["part"] is None
    ]
    return drawings.timeline(
        _("Steps of {database} over time, and the outage").format(database=found["database"]),
        spans,
        _outage(target),
        _("outage {time}").format(time=outage_time(target, found)),
    )


def databases(targets: Sequence[tuple[RunTarget, Json]]) -> SafeString:
    """Every database over one axis of time; the outage of each is the dark part of its bar."""
    spans = [
        Span(
            found["database"],
            _at(found["started_at"]),
            labels.local(found["finished_at"]),
            outage_time(target, found),
            out=_outage(target),
        )
        for target, found in targets
        if found["started_at"]
    ]
    return drawings.timeline(_("Databases over time; dark: service out"), spans, None, "")


def _at(text: str) -> datetime:
    found = labels.local(text)
    assert found is not None
    return found


def _end(step: Json) -> datetime | None:
    begun = _at(step["started_at"])
    return (
        None if step["seconds"] is None else datetime.fromtimestamp(begun.timestamp() + step["seconds"], begun.tzinfo)
    )


def _outage(target: RunTarget) -> tuple[datetime, datetime] | None:
    begun = labels.local(target.outage_started_at)
    over = labels.local(target.outage_ended_at or target.finished_at)
    return (begun, over) if begun and over else None


def outage_time(target: RunTarget, found: Json) -> str:
    """An outage that goes on has no length yet: told by the clock it would change with every report."""
    if target.outage_lasts:
        return _("not ended")
    return labels.duration(found["outage_seconds"])


def outage_words(target: RunTarget, found: Json) -> str:
    begun, over = labels.clock(target.outage_started_at), labels.clock(target.outage_ended_at)
    if target.outage_started_at is None:
        return _("none")
    if target.outage_ended_at is None:
        return _("since {begun}, not ended").format(begun=begun)
    return _("{time} ({begun} – {over})").format(time=outage_time(target, found), begun=begun, over=over)


def load_words(target: RunTarget) -> str:
    """The newest load test, from the journal line that holds its numbers."""
    lines = [s for s in target.steps.all() if s.part == "load test" and s.state == StepState.FINISHED]
    if not lines:
        return ""
    load = lines[-1].evidence(LoadEvidence).load
    return _(
        "Load test after the work: {requests} requests by {clients} clients in {time}, {errors} errors; "
        "half answered within {p50}, 95 % within {p95}."
    ).format(
        requests=labels.count(load.requests),
        clients=load.clients,
        time=labels.duration(load.seconds),
        errors=labels.count(load.errors),
        p50=_ms(load.p50_ms),
        p95=_ms(load.p95_ms),
    )


def overall(found: Json) -> str:
    """All queries together: the verdict."""
    if found["benchmark_change"] is None:
        return ""
    return _("All queries together: {told}.").format(told=render(found["benchmark_told"]))


def _ms(value: float | None) -> str:
    return labels.unknown() if value is None else f"{labels.milliseconds(value)} ms"
