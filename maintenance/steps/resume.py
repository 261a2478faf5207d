"""J: back to service in stages: some connections, the applications, more connections, all as before."""

from __future__ import annotations

from django.utils import timezone

from ..engines.errors import EngineError, Interrupted, Transient
from ..engines.words import say
from .context import Context, Done, Outcome
from .stop import let_go
from .verify import functional_checks

STEP_BACKS = 2
"""How often a stage may be taken back before people are called."""


def run(ctx: Context) -> Outcome:
    """Raises EngineError when service cannot be brought back: the procedure then calls people."""
    names = bring_back(ctx)
    return Outcome(
        "finished",
        say(
            "Service is back as before after an outage of {seconds:.1f} s{applications}.",
            seconds=ctx.target.outage_seconds,
            applications=f"; started {', '.join(names)}" if names else "",
        ),
    )


def bring_back(ctx: Context) -> list[str]:
    """Opens the gate in stages and starts the applications; returns their names. Safe to repeat."""
    started: list[str] = []
    gate = ctx.target.gate
    if gate is None:
        started = let_go(ctx)
    else:
        stages = [*ctx.setting.stages, None]
        for number, share in enumerate(stages):
            open_to(ctx, share, stages[number - 1] if number else 0.0)
            if number == 0:
                started = let_go(ctx)
        left = ctx.engine.gate_differences(gate)
        if left:
            raise Transient("bringing back the connections of", ctx.target.database, "; ".join(left))
    if ctx.target.outage_started_at is not None and ctx.target.outage_ended_at is None:
        ctx.change(outage_ended_at=timezone.now())
    return started


def open_to(ctx: Context, share: float | None, previous: float | None) -> None:
    """One stage; steps back to the previous one and tries again when the database does not bear it."""
    gate = ctx.target.gate
    assert gate is not None

    def work() -> Done:
        ctx.engine.open_gate(gate, share)
        if share is None:
            return Done(say("Connections are let in as before."))
        return Done(say("{percent:.0f} % of the connections are let in.", percent=share * 100))

    part = "release as before" if share is None else f"release {share * 100:.0f} %"
    for taken_back in range(STEP_BACKS + 1):
        ctx.again(part, work)
        if share is None:
            return
        pause(ctx)
        trouble = bears_it(ctx)
        if trouble is None:
            return
        if taken_back < STEP_BACKS:
            step_back(ctx, previous or 0.0, trouble)
    raise Transient("letting connections into", ctx.target.database, trouble or "")


def pause(ctx: Context) -> None:
    """A release is never cancelled half way: the wait ends early, the work goes on."""
    ctx.engine.stopping.wait(ctx.setting.stage_wait_seconds)


def bears_it(ctx: Context) -> str | None:
    """What is wrong after a stage, in the server's words; None when all is well."""
    try:
        ctx.engine.facts()
    except Interrupted:
        raise
    except EngineError as error:
        return str(error)
    failed = [c for c in functional_checks(ctx) if not c.passed]
    return f"{failed[0].object}: {failed[0].detail}" if failed else None


def step_back(ctx: Context, previous: float, trouble: str) -> None:
    gate = ctx.target.gate
    assert gate is not None

    def work() -> Done:
        ctx.engine.open_gate(gate, previous)
        return Done(
            say("Stepped back to {percent:.0f} % because of: {trouble}", percent=previous * 100, trouble=trouble)
        )

    ctx.again("step back", work)
    pause(ctx)
