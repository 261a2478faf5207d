"""One database over time beside its looks: when it was maintained, and how fast it answered the load test after."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from maintenance.models import DatabaseState, Node, RunTarget, Status, StepRecord, StepState
from maintenance.text import labels

from .sheets import Column, Sheet

MOST = 200
"""Runs that are marked, the newest."""


def maintained(database: str) -> list[dict[str, Any]]:
    """Oldest first: time, number of the run and how it ended."""
    targets = RunTarget.objects.real().filter(database=database, started_at__isnull=False, finished_at__isnull=False)
    light = targets.select_related("run").only("started_at", "status", "run__created_at").order_by("-id")[:MOST]
    return [
        {"at": labels.moment(t.started_at), "run": t.run.number, "status": str(Status(t.status).label)}
        for t in reversed(light)
    ]


def latency(database: str) -> list[dict[str, Any]]:
    """Oldest first: time, and within how many ms half and 95 % of the requests of a load test were answered."""
    tests = StepRecord.objects.filter(
        target__database=database, node=Node.BENCHMARK, part="load test", state=StepState.FINISHED
    ).order_by("-id")
    told = [(at, result or {}) for at, result in tests.values_list("finished_at", "result")[:MOST]]
    return [
        {"at": labels.moment(at), "p50_ms": load.get("p50_ms"), "p95_ms": load.get("p95_ms")}
        for at, load in reversed(told)
    ]


def looks(states: list[DatabaseState]) -> Sheet:
    """The numbers of the chart, newest first."""
    columns = [
        Column(_("When"), "name"),
        Column(_("Health"), "number"),
        Column(_("Size"), "number"),
        Column(_("Sessions"), "number"),
    ]
    rows = [
        [
            labels.moment(s.measured_at),
            "—" if s.health is None else str(s.health),
            "—" if s.size_bytes is None else labels.size(s.size_bytes),
            "—" if s.connections is None else labels.count(s.connections),
        ]
        for s in states
    ]
    return Sheet(columns, rows)


def answers(tests: list[dict[str, Any]]) -> Sheet:
    """The load tests of the chart, newest first."""
    columns = [
        Column(_("Load test"), "name"),
        Column(_("Half within (ms)"), "number"),
        Column(_("Nearly all (95 %) within, ms"), "number"),
    ]
    rows = [[t["at"], labels.milliseconds(t["p50_ms"]), labels.milliseconds(t["p95_ms"])] for t in reversed(tests)]
    return Sheet(columns, rows)
