"""J: back to service in stages: some connections, the applications, more connections, all as before."""

from __future__ import annotations

from django.utils import timezone

from maintenance.engines.errors import EngineError, Interrupted, Transient
from maintenance.engines.messages import listed, msg
from maintenance.engines.values import Json
from maintenance.models import Node
from maintenance.models.evidence import StepEvidence

from . import switch
from .context import Context, Done, Outcome, done
from .functional import newly_failed
from .stop import Released, release_applications

STEP_BACKS = 2
"""How often a stage may be taken back before people are called."""


def run(ctx: Context) -> Outcome:
    """Bring service back (J). Raises EngineError when that cannot be done: the procedure then calls people."""
    applications = bring_back(ctx)
    if ctx.run.rehearsal:
        return Outcome("finished", msg("The copy was opened again as a database would be; nobody was locked out."))
    seconds = ctx.target.outage_seconds
    if applications.left:
        return Outcome(
            "finished",
            msg(
                "Connections are as before after {seconds:.1f} s; {applications} stay stopped for other databases "
                "of this run.",
                seconds=seconds,
                applications=", ".join(applications.left),
            ),
        )
    if applications.started:
        return Outcome(
            "finished",
            msg(
                "Service is back as before after an outage of {seconds:.1f} s; started {applications}.",
                seconds=seconds,
                applications=", ".join(applications.started),
            ),
        )
    return Outcome("finished", msg("Service is back as before after an outage of {seconds:.1f} s.", seconds=seconds))


def bring_back(ctx: Context) -> Released:
    """Open the gate in stages and start the applications; return which. Safe to repeat. Raises EngineError."""
    applications = Released([], [])
    gate = ctx.target.gate
    if gate is None or (ctx.untouched and never_closed(ctx, gate)):
        applications = release_applications(ctx)
    else:
        # Once it is open as before - a crash, the switch, a person - nobody is restricted again.
        stages = [*ctx.setting.stages, None] if ctx.engine.gate.is_cut() else [None]
        if stages[0] is not None:
            switch.arm(ctx)
        for number, share in enumerate(stages):
            open_to(ctx, share, stages[number - 1] if number else 0.0)
            if number == 0:
                applications = release_applications(ctx)
        left = ctx.engine.gate.differences(gate)
        if left:
            raise Transient("bringing back the connections of", ctx.target.database, listed(left))
        if ctx.armed:
            switch.retire(ctx)
    if ctx.target.outage_started_at is not None and ctx.target.outage_ended_at is None:
        ctx.change(outage_ended_at=timezone.now())
    return applications


def never_closed(ctx: Context, gate: Json) -> bool:
    """Return whether the cut never took hold: a right is missing, the server takes no writes."""
    return not ctx.engine.gate.is_cut() and not ctx.engine.gate.differences(gate)


def open_to(ctx: Context, share: float | None, previous: float | None) -> None:
    """Open one stage; step back to the previous one and try again when the database does not bear it.

    Raises Transient.
    """
    gate = ctx.target.gate
    assert gate is not None

    def work() -> Done[StepEvidence]:
        ctx.engine.gate.open(gate, share)
        if share is None:
            return done(msg("Connections are let in as before."))
        return done(msg("{percent:.0f} % of the connections are let in.", percent=share * 100))

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
    """Wait between two stages; never cancelled half way: the wait ends early, the work goes on."""
    ctx.engine.stopping.wait(ctx.setting.stage_wait_seconds)


def bears_it(ctx: Context) -> str | None:
    """Return what is wrong after a stage, in the server's words; None when all is well."""
    try:
        ctx.engine.sessions.facts()
    except Interrupted:
        raise
    except EngineError as error:
        return error.sentence
    if ctx.target.node != Node.RESUME:
        return None  # On the way back from a failure the data is as it was: no query has a say in that.
    failed = newly_failed(ctx)
    return msg("{object}: {detail}", object=failed[0].object, detail=failed[0].detail) if failed else None


def step_back(ctx: Context, previous: float, trouble: str) -> None:
    """Let in the `previous` share again, and wait."""
    gate = ctx.target.gate
    assert gate is not None

    def work() -> Done[StepEvidence]:
        ctx.engine.gate.open(gate, previous)
        return done(
            msg("Stepped back to {percent:.0f} % because of: {trouble}", percent=previous * 100, trouble=trouble)
        )

    ctx.again("step back", work)
    pause(ctx)
