"""What a rehearsal tells of the outage that the work would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maintenance.engines.messages import Message, msg, plural
from maintenance.models import MaintenanceRun, Node, RunTarget, Status, StepRecord, StepState
from maintenance.models.evidence import RestoreEvidence, StageEvidence

OUT = (
    Node.STOP_APPLICATIONS,
    Node.CUT_CONNECTIONS,
    Node.MAINTAIN,
    Node.VERIFY,
    Node.BENCHMARK,
    Node.NOT_IMPROVED,
    Node.ADDITIONAL_MAINTENANCE,
    Node.RESUME,
)
"""The steps in which a database is out of service."""
SPAN = 0.25
"""Either way, until maintenances after a rehearsal tell how far it is off: what the tests of the demo ask for."""
LEAST_PAIRS = 3
LOOKED_AT = 10


@dataclass(frozen=True)
class Expected:
    """The outage that the work would take, in seconds, and on what basis."""

    seconds: float
    low: float
    high: float
    basis: Message


def expected_outage(target: RunTarget) -> Expected | None:
    """Return what a rehearsal of this target tells of the outage; None where it did not come to the end of it.

    `seconds` are those of the steps in which the database would have been closed, as they took on the copy, and those
    that its applications took last to stop and to start. The interval spans real ÷ expected of the last maintenances
    that were rehearsed, where there are enough of them.
    """
    lines = [line for line in target.steps.all() if line.node in OUT and line.finished_at is not None]
    steps = [line for line in lines if not line.part]
    if not any(line.node == Node.RESUME and line.state == StepState.FINISHED for line in steps):
        return None
    seconds = sum(line.seconds or 0.0 for line in steps) + _applications(target)
    ratios = _real_to_expected(target)
    if len(ratios) < LEAST_PAIRS:
        basis = msg(
            "the steps of the rehearsal; fewer than {least} maintenances followed one yet, so a quarter either way",
            least=LEAST_PAIRS,
        )
        return Expected(seconds, seconds * (1 - SPAN), seconds * (1 + SPAN), basis)
    basis = msg(
        "the steps of the rehearsal, and how {runs} after one took",
        runs=plural(len(ratios), "{n} maintenance", "{n} maintenances"),
    )
    return Expected(seconds, seconds * min(1.0, *ratios), seconds * max(1.0, *ratios), basis)


def _applications(target: RunTarget) -> float:
    """Seconds that stopping and starting the applications of this database took when that was done last."""
    real = RunTarget.objects.real().filter(database=target.database, outage_ended_at__isnull=False)
    last = real.filter(pk__lt=target.pk).order_by("-id").first()
    if last is None or target.setting is None or not target.setting.applications:
        return 0.0
    parts = [f"{doing} {name}" for doing in ("stop", "start") for name in target.setting.applications]
    return sum(line.seconds or 0.0 for line in last.steps.filter(part__in=parts, state=StepState.FINISHED))


def _real_to_expected(target: RunTarget) -> list[float]:
    """Real ÷ expected outage of the last maintenances of this database that were rehearsed and succeeded."""
    after = RunTarget.objects.filter(
        database=target.database,
        run__rehearsed_in__isnull=False,
        status=Status.SUCCEEDED,
        outage_ended_at__isnull=False,
        pk__lt=target.pk,
    )
    ratios = []
    for real in after.select_related("run").order_by("-id")[:LOOKED_AT]:
        rehearsed = RunTarget.objects.filter(run=real.run.rehearsed_in_id, database=target.database).first()
        steps = [] if rehearsed is None else rehearsed.steps.filter(part="", node__in=OUT)
        seconds = sum(line.seconds or 0.0 for line in steps)
        if seconds:
            ratios.append(real.outage_seconds / seconds)
    return ratios


def rehearsal(run: MaintenanceRun, target: RunTarget) -> dict[str, Any] | None:
    """Return what a rehearsal showed of this target, as JSON types; None for any other run. Seconds and bytes."""
    if not run.rehearsal:
        return None
    lines = [line for line in target.steps.all() if line.state == StepState.FINISHED]
    stage = _last(lines, "copy for the rehearsal")
    restored = [line for line in lines if line.part.startswith("restore test")]
    expected = expected_outage(target)
    copy = stage.evidence(StageEvidence).stage if stage else None
    tested = restored[-1].evidence(RestoreEvidence).restored if restored else None
    return {
        "copy": copy and {"name": copy.name, "bytes": copy.bytes, "seconds": copy.seconds, "by_file": copy.by_file},
        "backup_restores": None if tested is None else tested.extent,
        "expected_outage_seconds": expected and round(expected.seconds, 3),
        "expected_outage_low": expected and round(expected.low, 3),
        "expected_outage_high": expected and round(expected.high, 3),
        "expected_outage_basis": expected and expected.basis,
        "pieces": [
            {"step": line.step, "part": line.part or None, "seconds": line.seconds}
            for line in lines
            if line.node in OUT
        ],
    }


def _last(lines: Sequence[StepRecord], part: str) -> StepRecord | None:
    return next((line for line in reversed(lines) if line.part == part), None)
