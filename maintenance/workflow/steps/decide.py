"""C: which work on which object, and why; refuses with numbers what could not end well."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import cast

from django.conf import settings
from django.utils import timezone

from maintenance.engines.errors import Unable
from maintenance.engines.messages import Message, msg, size
from maintenance.engines.values import Action, Diagnosis, Json, MaintenanceType
from maintenance.models import Approval
from maintenance.models.asked import changed_since, digest

from . import plural
from .context import Context, Outcome

SPARE = 1.2
"""Free space asked for beside the largest pieces of work, as a factor; rewrites need a little more than 1."""
NAMED = 10
"""Pieces of work that a sentence names."""


def run(ctx: Context) -> Outcome:
    """Plan (C) from what B has just seen, or after a crash from a fresh look: findings in TBL-097 are for people."""
    _refuse_other_settings(ctx)
    diagnosis = ctx.diagnosis or ctx.engine.diagnostics.diagnose(ctx.setting.thresholds, ctx.tables)
    ctx.diagnosis = None
    actions = ctx.engine.planner.plan(
        cast(MaintenanceType, ctx.run.maintenance_type),
        diagnosis,
        ctx.setting.thresholds,
        ctx.tables,
        ctx.run.allow_data_loss,
    )
    refuse_without_room(actions, diagnosis, ctx.setting.limits.jobs, ctx.target.database)
    refuse_damage_left(ctx, diagnosis, actions)
    plan, sentence = settled(ctx, actions)
    if not actions and ctx.run.maintenance_type == "optimize":
        return Outcome(
            "nothing",
            msg("Nothing crosses the thresholds of {database}: no outage is needed.", database=ctx.target.database),
            {"plan": plan},
        )
    return Outcome("finished", sentence, {"plan": plan})


def refuse_damage_left(ctx: Context, diagnosis: Diagnosis, actions: list[Action]) -> None:
    """Raise Unable where a run that is no repair would leave a damaged table as it is: it could not succeed."""
    damaged = [fact.name for fact in diagnosis.tables if fact.damaged]
    left = unplanned(ctx, damaged, actions) if ctx.run.maintenance_type != "repair" else []
    if left:
        raise Unable(
            "planning the work on",
            ctx.target.database,
            msg(
                "{objects} are damaged, which this maintenance does not repair; begin one of type repair",
                objects=", ".join(left[:NAMED]),
            ),
        )


def unplanned(ctx: Context, tables: Collection[str], plan: Sequence[Action]) -> list[str]:
    """Return those of the `tables` that no piece of work is about."""
    if not tables:
        return []
    objects = {action.object for action in plan}
    resolved, unknown = ctx.engine.sessions.resolve(sorted(objects)) if objects else ([], [])
    # Work on what is no table is on the file as a whole, or on an index.
    return [] if unknown else [name for name in tables if name not in objects and name not in resolved]


def settled(ctx: Context, fresh: list[Action]) -> tuple[list[Json], Message]:
    """What is carried out: the plan that was confirmed, exactly; or a new one where the database is no longer
    as that plan found it, with what differs. Raises Unable when the new one would lose rows nobody agreed to lose.
    """
    amount = {
        "work": plural.pieces(len(fresh)),
        "objects": plural.objects(len({a.object for a in fresh})),
        "bytes": size(sum(a.bytes for a in fresh)),
    }
    agreed = ctx.run.agreed_plan
    if agreed is None or agreed.made_at is None:
        return [asdict(a) for a in fresh], msg("{work} on {objects}, {bytes} in all.", **amount)
    at = f"{agreed.made_at:%Y-%m-%d %H:%M} UTC"
    promised = agreed.actions(ctx.target.database)
    before, now = {_work(a) for a in promised}, {(a.object, a.kind) for a in fresh}
    if before == now:
        return promised, msg(
            "{work} on {objects}, {bytes} in all: exactly the plan of {at} that was confirmed.",
            **amount,
            at=at,
        )
    refuse_unagreed_loss(ctx, fresh, before)
    _refuse_unapproved_work(ctx, before, now)
    return [asdict(a) for a in fresh], msg(
        "Planned again, because {database} changed since the plan of {at} that was confirmed: "
        "{work} on {objects}, {bytes} in all. New: {added}. No longer needed: {dropped}.",
        **amount,
        database=ctx.target.database,
        at=at,
        added=_listed(now - before),
        dropped=_listed(before - now),
    )


def _work(entry: Json) -> tuple[str, str]:
    return str(entry["object"]), str(entry["kind"])


def _listed(work: set[tuple[str, str]]) -> str:
    named = [f"{kind} {object}" for object, kind in sorted(work)]
    return ", ".join([*named[:NAMED], *(["…"] if len(named) > NAMED else [])]) or "-"


def refuse_unagreed_loss(ctx: Context, fresh: list[Action], before: set[tuple[str, str]]) -> None:
    """Raise Unable where rows may be lost of which the confirmed plan (`before`: object and kind) did not say it."""
    agreed = ctx.run.agreed_plan
    if agreed is None or agreed.made_at is None:
        return
    new = [a.object for a in fresh if a.needs_data_loss and (a.object, a.kind) not in before]
    if new:
        raise Unable(
            "planning the work on",
            ctx.target.database,
            msg(
                "rows of {tables} may be lost, which the plan of {at} did not say; look at a new plan and confirm that",
                tables=", ".join(new),
                at=f"{agreed.made_at:%Y-%m-%d %H:%M} UTC",
            ),
        )


def _approval(ctx: Context) -> Approval | None:
    """The word on which it began: a second person's, or that the glass was broken; None: nobody had to give one."""
    return Approval.objects.filter(run=ctx.run).exclude(digest="").first()


def _refuse_other_settings(ctx: Context) -> None:
    """Raises Unable where the approval was given for other settings, or so long ago that nobody remembers why."""
    approval = _approval(ctx)
    if approval is None:
        return
    changed = changed_since(ctx.run)
    if approval.digest != digest(ctx.run) or changed:
        words = msg("{names} changed since it was approved; ask again", names=", ".join(changed) or msg("its plan"))
        raise Unable("planning the work on", ctx.target.database, words)
    if timezone.now() - approval.at > timedelta(hours=settings.APPROVAL_HOURS):
        raise Unable("planning the work on", ctx.target.database, "the approval is too old by now; ask again")


def _refuse_unapproved_work(ctx: Context, before: set[tuple[str, str]], now: set[tuple[str, str]]) -> None:
    approval = _approval(ctx)
    # Whoever broke the glass spoke for the plan of that hour: nobody is there to be asked about a later one.
    if now - before and approval is not None and not approval.broken_glass:
        words = msg("{work} was not in the plan that was approved; ask again", work=_listed(now - before))
        raise Unable("planning the work on", ctx.target.database, words)


def refuse_without_room(actions: list[Action], diagnosis: Diagnosis, jobs: int, database: str) -> None:
    """Raise Unable when the server tells its free space and the work at one time needs more. Bytes."""
    if diagnosis.free_bytes is None:
        return
    at_once = sorted((a.disk_bytes for a in actions), reverse=True)[:jobs]
    needed = int(sum(at_once) * SPARE)
    if needed > diagnosis.free_bytes:
        raise Unable(
            "planning the work on",
            database,
            msg(
                "it needs {needed} of free disk space, {free} are free; make room or name fewer tables",
                needed=size(needed),
                free=size(diagnosis.free_bytes),
            ),
        )
