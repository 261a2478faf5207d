"""How far a target is, how long it will still take and on what basis, and whether it is late."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.utils import timezone

from maintenance.engines.messages import Message, msg, span
from maintenance.engines.values import Json, Progress
from maintenance.models import ActionRecord, RunTarget, StepState
from maintenance.results.estimates import usual_outage

SEEN_SHARE, SEEN_SECONDS = 0.02, 5.0
"""A pace is told after so much of the work in so much time; before that it would jump about."""
LATE, ENOUGH_RUNS = 1.5, 3
"""An outage is late when it lasts this many times the longest of its last ten, if there were so many at all."""


class Forecast:
    """The work of one target as one worker observes it; the pace is its own, whatever a predecessor did."""

    def __init__(self, target_id: int) -> None:
        self.target_id = target_id
        self._first: tuple[int, float, float] | None = None
        """Round, share and time (s, monotonic) of the first look at the work."""

    def look(self, running: Sequence[Progress]) -> dict[str, Any]:
        """Return `share` of the bytes to work on, 0..1, None outside the work; `left_seconds` with its basis."""
        target = RunTarget.objects.select_related("run", "setting").get(pk=self.target_id)
        forecast: dict[str, Any] = shares(target, running)
        left, basis = self._left(target, forecast["share"])
        late = self._late(target, left)
        return {
            **forecast,
            "left_seconds": left,
            "left_basis": basis or "",
            "late": late or "",
        }

    def _left(self, target: RunTarget, share: float | None) -> tuple[float | None, Message | None]:
        if share is None:
            self._first = None
            return usual_left(target)
        now = time.monotonic()
        if self._first is None or self._first[0] != target.round:
            self._first = (target.round, share, now)
        _, before, begun = self._first
        if share - before < SEEN_SHARE or now - begun < SEEN_SECONDS:
            return usual_left(target)
        left = (1 - share) * (now - begun) / (share - before)
        return left, msg(
            "until the work is done, at its pace so far: {share:.0%} of the bytes in {seconds:.0f} s",
            share=share - before,
            seconds=now - begun,
        )

    def _late(self, target: RunTarget, left: float | None) -> Message | None:
        """The limit is missed at this pace, or the outage is far longer than it ever was."""
        setting, now = target.setting, timezone.now()
        if setting is None:
            return None
        limit, reserve = timedelta(minutes=setting.timeout_minutes), timedelta(minutes=setting.reserve_minutes)
        deadline = target.deadline(limit, reserve)
        end = now + timedelta(seconds=left or 0)
        if deadline is not None and target.at_work and end > deadline:
            return msg(
                "At this pace the work on {database} ends {time} after its time limit.",
                database=target.database,
                time=span((end - deadline).total_seconds()),
            )
        usual = usual_outage(target.database, target.run.maintenance_type, target.pk)
        out = target.outage_started_at is not None and target.outage_ended_at is None
        if out and usual and usual["runs"] >= ENOUGH_RUNS and target.outage_seconds > LATE * usual["longest"]:
            return msg(
                "The outage of {database} lasts {now}; the longest of the last {runs} such outages took {longest}.",
                database=target.database,
                now=span(target.outage_seconds),
                runs=usual["runs"],
                longest=span(usual["longest"]),
            )
        return None


def usual_left(target: RunTarget) -> tuple[float | None, Message | None]:
    """Return the seconds left of the outage by what it took before, with the basis; None when nobody knows."""
    if target.outage_started_at is None or target.outage_ended_at is not None:
        return None, None
    usual = usual_outage(target.database, target.run.maintenance_type, target.pk)
    if usual is None or usual["seconds"] <= target.outage_seconds:
        return None, None
    return usual["seconds"] - target.outage_seconds, msg(
        "until the outage is over: its usual length, median of the last {runs}", runs=usual["runs"]
    )


def shares(target: RunTarget, running: Sequence[Progress]) -> Json:
    """Return what is being worked on, and the overall share weighted by bytes."""
    plan = target.plan or []
    total = sum(a["bytes"] for a in plan)
    records = ActionRecord.objects.filter(target=target, round=target.round)
    states = {(r.object, r.action): r.state for r in records.only("object", "action", "state")}
    reported = {p.object: p.share or 0.0 for p in running}

    def worked(action: Json) -> float:
        state = states.get((str(action["object"]), str(action["kind"])))
        if state == StepState.FINISHED:
            return 1.0
        return reported.get(str(action["object"]), 0.0) if state == StepState.STARTED else 0.0

    return {
        "share": sum(a["bytes"] * worked(a) for a in plan) / total if total and target.at_work else None,
        "finished": sum(state == StepState.FINISHED for state in states.values()),
        "planned": len(plan),
        "objects": [asdict(p) for p in running],
    }
