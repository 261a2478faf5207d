"""G: the work itself, several objects at a time, each written down before and after."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from django.db import connections

from maintenance.engines.errors import EngineError, Interrupted, Transient
from maintenance.engines.messages import msg, size
from maintenance.engines.values import Action, Performed
from maintenance.models import ActionRecord, StepState
from maintenance.results.sizes import of_target

from . import plural, switch
from .context import Context, Outcome

NO_WORK = msg("No operation was needed.")
ROUNDS = 5
"""So often at most a target that was opened meanwhile is closed and looked at anew."""


def run(ctx: Context) -> Outcome:
    """Work (G): stages in order, the actions of a stage in parallel, the largest first. The first failure ends it."""
    if not switch.disarm(ctx):
        return _opened(ctx)
    plan = ctx.plan
    finished = _finished(ctx)
    for _, group in groupby(sorted(plan, key=lambda a: a.stage), key=lambda a: a.stage):
        actions = [a for a in group if (a.object, a.kind) not in finished]
        work(ctx, sorted(actions, key=lambda a: -a.bytes))
    records = ActionRecord.objects.filter(target=ctx.target, round=ctx.target.round, state=StepState.FINISHED)
    sizes = of_target(ctx.target)
    if sizes is None:
        return Outcome("finished", msg("{work} done.", work=plural.pieces(len(records))) if records else NO_WORK)
    return Outcome(
        "finished",
        msg(
            "{work} done: {before} became {after}.",
            work=plural.pieces(len(records)),
            before=size(sizes[0]),
            after=size(sizes[1]),
        ),
    )


def _opened(ctx: Context) -> Outcome:
    """What was proven at the cut holds no longer: back to the cut, before anything is changed."""
    if ctx.target.round >= ROUNDS:
        raise Transient("keeping closed", ctx.target.database, "it was opened again and again")
    return Outcome(
        "opened",
        msg("{database} was opened meanwhile; it is cut and fingerprinted anew.", database=ctx.target.database),
        {"round": ctx.target.round + 1, "hold_lost": True},
    )


def _finished(ctx: Context) -> set[tuple[str, str]]:
    records = ActionRecord.objects.filter(target=ctx.target, round=ctx.target.round, state=StepState.FINISHED)
    return set(records.values_list("object", "action"))


def work(ctx: Context, actions: list[Action]) -> None:
    """Do the actions side by side. Raises the first failure after those that run have ended."""
    failures: list[BaseException] = []

    def one(action: Action) -> None:
        try:
            if not failures:
                perform(ctx, action)
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max(1, ctx.setting.limits.jobs)) as pool:
        list(pool.map(one, actions))
    if failures:
        raise failures[0]


def perform(ctx: Context, action: Action) -> Performed:
    """Do one action with its journal lines. After a transient error the step is tried again, without what is done."""
    line = ctx.journal.action_started(action, ctx.target.round)
    try:
        ctx.engine.raise_if_stopping(action.kind, action.object)
        performed = ctx.engine.actions.perform(action, ctx.run.allow_data_loss)
    except EngineError as error:
        state = StepState.INTERRUPTED if isinstance(error, Interrupted) else StepState.FAILED
        ctx.journal.action_failed(line, state, error.sentence)
        raise
    ctx.journal.action_finished(line, performed)
    return performed
