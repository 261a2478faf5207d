"""What a deeper look finds after the plan was made: it becomes work in a repair, or ends the run before the work."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from maintenance.engines.errors import Damaged
from maintenance.engines.messages import msg
from maintenance.engines.values import Check, Fingerprint
from maintenance.models.evidence import StepEvidence

from . import plural
from .context import Context, Done, done
from .decide import refuse_unagreed_loss, refuse_without_room, unplanned

NAMED = 5


@dataclass(frozen=True)
class Damage:
    """Failing checks of the structure, and tables that cannot be read with the error that reading raised."""

    checks: Sequence[Check]
    unreadable: Mapping[str, str]

    @property
    def tables(self) -> list[str]:
        """Return tables and, where a check does not tell its table, the object it looked at."""
        return list(dict.fromkeys([*(c.table or c.object for c in self.checks), *self.unreadable]))

    def __str__(self) -> str:
        words = [f"{c.object}: {c.detail or c.name}" for c in self.checks]
        words += [f"{name}: {error}" for name, error in self.unreadable.items()]
        return "; ".join([*words[:NAMED], *(["…"] if len(words) > NAMED else [])])


def damage(checks: Sequence[Check], prints: Mapping[str, Fingerprint], tables: Collection[str] | None) -> Damage:
    """Return what is broken of the `tables` (None: of all)."""
    failing = [check for check in checks if check.structural and not check.passed]
    unreadable = {name: p.error for name, p in prints.items() if p.error is not None}
    return Damage(failing, {n: e for n, e in unreadable.items() if tables is None or n in tables})


def refuse_unplanned(ctx: Context, broken: Damage) -> None:
    """Raise Damaged where a run that is no repair would leave damage as it is."""
    left = unplanned(ctx, broken.tables, ctx.plan)
    if left:
        raise Damaged(
            "looking closely at",
            ctx.target.database,
            msg(
                "{objects} are damaged, which this maintenance does not repair; begin one of type repair ({words})",
                objects=", ".join(left[:NAMED]),
                words=str(broken),
            ),
        )


def compare(ctx: Context, checks: Sequence[Check], prints: Mapping[str, Fingerprint]) -> None:
    """Under the cut: a repair plans again with what was found; any other run is refused. Raises EngineError."""
    broken = damage(checks, prints, ctx.tables)
    if not broken.tables:
        return
    if ctx.run.maintenance_type == "repair":
        ctx.once("plan again", StepEvidence, lambda: _plan_again(ctx, broken))
    else:
        refuse_unplanned(ctx, broken)


def _plan_again(ctx: Context, broken: Damage) -> Done[StepEvidence]:
    """What was planned stays planned; what was found comes to it."""
    diagnosis = ctx.engine.diagnostics.diagnose(ctx.setting.thresholds, ctx.tables)
    informed = ctx.engine.planner.informed(diagnosis, broken.checks, broken.unreadable)
    fresh = ctx.engine.planner.plan("repair", informed, ctx.setting.thresholds, ctx.tables, ctx.run.allow_data_loss)
    planned = {(action.object, action.kind) for action in ctx.plan}
    added = [action for action in fresh if (action.object, action.kind) not in planned]
    if not added:
        return done(msg("Damaged: {objects}. All of it is in the plan.", objects=", ".join(broken.tables[:NAMED])))
    refuse_unagreed_loss(ctx, added, planned)
    refuse_without_room([*ctx.plan, *added], informed, ctx.setting.limits.jobs, ctx.target.database)
    ctx.change(plan=[*(ctx.target.plan or []), *(asdict(action) for action in added)])
    return done(
        msg(
            "Damaged: {objects}. Planned with it: {work}.",
            objects=", ".join(broken.tables[:NAMED]),
            work=plural.pieces(len(added)),
        )
    )
