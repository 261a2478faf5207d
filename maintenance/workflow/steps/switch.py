"""The dead man's switch: armed only while the data is known to be whole, so that a console whose whole host is
gone does not keep its database closed. A late worker learns at the disarming that it came too late."""

from __future__ import annotations

from contextlib import suppress

from maintenance.engines.errors import EngineError, Unable
from maintenance.engines.messages import msg
from maintenance.models.evidence import StepEvidence, StillClosed

from .context import Context, Done, done


def arm(ctx: Context) -> None:
    """Let the target open by itself from here on when nothing is heard of this console. Refusal is no failure."""
    gate, seconds = ctx.target.gate, ctx.setting.switch_seconds
    if ctx.armed or gate is None or not seconds or ctx.run.rehearsal:
        return

    def work() -> Done[StepEvidence]:
        try:
            ctx.engine.switch.arm(gate, seconds)
        except Unable as error:
            return done(
                msg(
                    "Automatic reopening of {database} could not be set: {why}",
                    database=ctx.target.database,
                    why=error.words,
                )
            )
        return done(
            msg(
                "{database} opens by itself when nothing is heard of this console for {seconds:.0f} s.",
                database=ctx.target.database,
                seconds=seconds,
            )
        )

    ctx.again("arm the switch", work)
    ctx.armed = True


def disarm(ctx: Context) -> bool:
    """Keep it closed; return False when it was opened before, by switch or person: others may have written since."""

    def work() -> Done[StillClosed]:
        ctx.engine.switch.disarm()
        closed = ctx.engine.gate.is_cut()
        sentence = msg("{database} is open: automatic reopening or a person opened it.", database=ctx.target.database)
        if closed:
            sentence = msg("{database} stays closed until its data is proven.", database=ctx.target.database)
        elif ctx.engine.gate.dies_with_worker:
            sentence = msg("{database} is open: its lock ended with the worker.", database=ctx.target.database)
        return Done(sentence, StillClosed(closed))

    closed = ctx.again("disarm the switch", work).closed
    ctx.armed = False
    return closed


def retire(ctx: Context) -> None:
    """Put the switch off for good: everything is as before, so there is nothing left to open."""

    def work() -> Done[StepEvidence]:
        ctx.engine.switch.disarm()
        return done(msg("Automatic reopening is off again."))

    ctx.again("put the switch away", work)
    ctx.armed = False


def disarm_if_reachable(ctx: Context) -> None:
    """Disarm where a target is left to people. What cannot be reached was whole when its switch was armed."""
    if ctx.target.gate is not None:
        with suppress(EngineError):
            disarm(ctx)
