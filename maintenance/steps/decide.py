"""C: which work on which object, and why; refuses with numbers what could not end well."""

from __future__ import annotations

from typing import cast

from ..engines.errors import Unable
from ..engines.values import Action, Diagnosis, MaintenanceType
from ..engines.words import say, size
from .context import Context, Outcome, stored_action

SPARE = 1.2
"""Free space asked for beside the largest pieces of work, as a factor; rewrites need a little more than 1."""


def run(ctx: Context) -> Outcome:
    """Plans from a fresh look, because the findings in TBL-097 are for people."""
    diagnosis = ctx.engine.diagnose(ctx.setting.thresholds, ctx.tables)
    actions = ctx.engine.plan(
        cast(MaintenanceType, ctx.run.maintenance_type),
        diagnosis,
        ctx.setting.thresholds,
        ctx.tables,
        ctx.run.allow_data_loss,
    )
    refuse_without_room(actions, diagnosis, ctx.setting.limits.jobs, ctx.target.database)
    plan = [stored_action(a) for a in actions]
    if not actions and ctx.run.maintenance_type == "optimize":
        return Outcome(
            "nothing",
            say("Nothing crosses the thresholds of {database}: no outage is needed.", database=ctx.target.database),
            {"plan": plan},
        )
    return Outcome(
        "finished",
        say(
            "{count} pieces of work on {objects} objects, {bytes} in all.",
            count=len(actions),
            objects=len({a.object for a in actions}),
            bytes=size(sum(a.bytes for a in actions)),
        ),
        {"plan": plan},
    )


def refuse_without_room(actions: list[Action], diagnosis: Diagnosis, jobs: int, database: str) -> None:
    """Raises Unable when the server tells its free space and the work at one time needs more."""
    if diagnosis.free_bytes is None:
        return
    at_once = sorted((a.disk_bytes for a in actions), reverse=True)[:jobs]
    needed = int(sum(at_once) * SPARE)
    if needed > diagnosis.free_bytes:
        raise Unable(
            "planning the work on",
            database,
            f"it needs {size(needed)} of free disk space, {size(diagnosis.free_bytes)} are free; "
            "make room or name fewer tables",
        )
