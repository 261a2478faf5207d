"""The loop that walks the flowchart with one run target."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, transaction

from maintenance.conf import config, logs
from maintenance.conf.secrets import mark_signer
from maintenance.engines import open_engine
from maintenance.engines.errors import EngineError, Interrupted
from maintenance.engines.messages import Message, msg, plural, span
from maintenance.engines.values import Tag
from maintenance.models import Node, RunTarget, Status, StepState
from maintenance.models.evidence import Proof

from . import conclusion, rehearsal
from .blackbox import BlackBoxUnwritable
from .flowchart import FLOWCHART, Service, row
from .heartbeat import Heart, must_leave
from .journal import Journal, LeaseLost, claim
from .steps import (
    back_up,
    benchmark,
    complete,
    cut,
    decide,
    diagnose,
    maintain,
    resume,
    roll_back,
    stop,
    switch,
    verify,
)
from .steps.context import Context, Outcome
from .steps.retry import retried
from .verdict import unproven

log = logging.getLogger("maintenance")
RETRIES_OF_A_RUN = 1
"""Specification 3.1: a run whose worker died is continued once; after that it is ended safely."""
LAST_ATTEMPT = 5
"""A run that keeps dying on its way out is left to people, never in a loop."""


def _passed(ctx: Context) -> Outcome:
    return Outcome("finished", msg("The work on {database} begins.", database=ctx.target.database))


WORK: Mapping[Node, Callable[[Context], Outcome]] = {
    Node.START: _passed,
    Node.DIAGNOSE: diagnose.run,
    Node.DECIDE: decide.run,
    Node.BACK_UP: back_up.run,
    Node.STOP_APPLICATIONS: stop.run,
    Node.CUT_CONNECTIONS: cut.run,
    Node.MAINTAIN: maintain.run,
    Node.VERIFY: verify.run,
    Node.BENCHMARK: benchmark.run,
    Node.RESUME: resume.run,
    Node.COMPLETE: complete.run,
    Node.ASK_FOR_MANUAL_DIAGNOSIS: diagnose.ask_for_people,
    Node.ALTERNATE_BACKUP: back_up.run_alternate,
    Node.ROLL_BACK: roll_back.run,
    Node.ADDITIONAL_MAINTENANCE: benchmark.one_more_round,
    Node.END_IN_FAILURE: roll_back.fail,
    Node.CALL_AN_OPERATOR: roll_back.call_people,
}
"""What is done at a box. A box without work says only that the ordinary way was left, and leads on."""


def advance(target_id: int) -> bool:
    """Take one run target as far as it goes; return False when somebody else has it.

    Every exit is one of: ended; lease lost (the successor goes on); process killed (the sweep goes on).
    """
    journal = None if must_leave() else claim(target_id)
    if journal is None:
        return False
    try:
        with logs.about(**journal.about):
            _walk(journal)
    except LeaseLost as lost:
        log.warning("%s; leaving it to its new worker", lost)
        if must_leave():
            _left(journal)
        return False
    except Exception as error:
        # A step's own failures do not come here. The sweep tries again, but not for ever.
        log.exception("Run target %s cannot be worked on", target_id)
        if not _given_up(journal, error):
            return False
    finally:
        close_old_connections()
    conclusion.conclude(journal.target().run_id)
    return True


def _left(journal: Journal) -> None:
    with suppress(LeaseLost):
        journal.leave()


def _given_up(journal: Journal, error: Exception) -> bool:
    """End a target that cannot even be begun, when it was tried often enough."""
    target = journal.target()
    if target.attempt < LAST_ATTEMPT:
        return False
    words = error.sentence if isinstance(error, EngineError) else str(error)
    because = msg("The console could not work on {database}: {error}", database=target.database, error=words)
    copy = rehearsal.copy_of(target) if target.run.rehearsal else None
    if copy is not None:
        because = msg("{because} - its copy {copy} is to be removed by hand", because=because, copy=copy)
    with transaction.atomic():
        stopped = stop.left_stopped(target)
        if stopped:
            because = msg("{because} - to be started by hand: {applications}", because=because, applications=stopped)
        out = target.outage_started_at is not None and target.outage_ended_at is None
        journal.ended(Status.NEEDS_OPERATOR if out or stopped else Status.FAILED, because)
    return True


def _walk(journal: Journal) -> None:
    target = journal.target()
    if target.setting is None:
        journal.ended(Status.NEEDS_OPERATOR, msg("The settings of {database} are gone.", database=target.database))
        return
    setting = target.setting
    tag = Tag(target.pk, journal.token, target.site, mark_signer())
    engine = open_engine(setting.engine_url, tag, setting.limits)
    engine.lock.assert_lease = journal.beat
    ctx = Context(journal, target, engine, config.load())
    if target.run.rehearsal:
        rehearsal.go_on_copy(ctx)
    else:
        if target.gate is not None:
            engine.gate.recall(target.gate)
        _open_box(ctx)
    heart = Heart(ctx)
    heart.start()
    try:
        _take_up(ctx)
        heart.listening = True
        heart.beat()  # What was cancelled before it began must not begin until the next beat.
        while _step(ctx):
            pass
    finally:
        heart.stop()
        ctx.engine.close()
        engine.close()


def _open_box(ctx: Context) -> None:
    journal, target, setting = ctx.journal, ctx.target, ctx.setting
    try:
        journal.open_box(
            target.database,
            [setting.backup_dir, setting.alternate_backup_dir],
            {
                "url": setting.url,
                "sealed_password": setting.sealed_password,
                "run": target.run_id,
                "site": target.site,
            },
            ctx.config.backup_roots,
        )
    except BlackBoxUnwritable as error:
        log.error("%s", error)


def _take_up(ctx: Context) -> None:
    """Ends what an earlier claim still does on the target, and decides whether to go on or to get out."""
    target = ctx.target
    here = row(target.node)
    if here.service is Service.OVER:
        return
    try:
        ended = retried(ctx, ctx.production.lock.fence, "fencing off earlier sessions")
        if ctx.on_copy:
            ended += retried(ctx, ctx.engine.lock.fence, "fencing off earlier sessions")
        if ended:
            log.warning("ended %s sessions of an earlier claim on %s", ended, target.database)
    except EngineError as error:
        _go(ctx, Node.DIAGNOSIS_FAILED if here.service is Service.UNTOUCHED else Node.CALL_AN_OPERATOR, error.sentence)
        return
    if target.token == 1:
        return
    if target.gate is not None and target.outage_ended_at is None and here.outage:
        _look_who_opened(ctx)
        here = row(target.node)
    died = _deaths(target)
    if target.attempt >= LAST_ATTEMPT:
        _go(ctx, Node.CALL_AN_OPERATOR, died)
    elif target.attempt > RETRIES_OF_A_RUN + 1 and here.outage:
        _go(ctx, Node.ROLL_BACK, died)
    elif target.attempt > RETRIES_OF_A_RUN + 1 and here.service is Service.UNTOUCHED:
        _go(ctx, Node.END_IN_FAILURE, died)
    elif target.gate is not None and target.outage_ended_at is None and here.outage:
        _cut_again(ctx)


def _look_who_opened(ctx: Context) -> None:
    """A lock that died with its worker, the dead man's switch, or a person let others in meanwhile."""
    if not ctx.finished(Node.CUT_CONNECTIONS, "cut") and not ctx.engine.gate.dies_with_worker:
        return
    ctx.step = "cut_connections"
    try:
        closed = retried(ctx, lambda: switch.disarm(ctx), "looking whether it is still closed")
    except EngineError as error:
        _go(ctx, Node.ROLL_BACK, error.sentence)
        return
    if not closed:
        ctx.change(hold_lost=True)
        if row(ctx.target.node).service is Service.PROVEN and not ctx.engine.gate.dies_with_worker:
            # Service is back already.
            ctx.change(node=Node.RESUME)


def _cut_again(ctx: Context) -> None:
    """After a crash inside the outage everybody may be in again; nothing goes on before they are out."""
    if ctx.target.hold_lost and ctx.target.node not in (Node.MAINTENANCE_FAILED, Node.INTEGRITY_ERROR):
        # Others may have written meanwhile, so what was measured under the old hold says nothing.
        ctx.change(node=Node.CUT_CONNECTIONS, round=ctx.target.round + 1)
        return
    if ctx.target.node in (Node.STOP_APPLICATIONS, Node.CUT_CONNECTIONS):
        return
    ctx.step = "cut_connections"
    try:
        retried(ctx, lambda: cut.close(ctx), "cutting connections again")
    except EngineError as error:
        _go(ctx, Node.ROLL_BACK, error.sentence)


def _go(ctx: Context, node: Node, because: Message) -> None:
    """Leaves the ordinary way; the reason is kept for the end."""
    ctx.change(**_leaving(ctx, node, because, FLOWCHART[node].begins))


def _leaving(ctx: Context, node: Node, because: Message, status: Status | None) -> dict[str, Any]:
    """What to set on the way to `node`. The first reason to end counts, but for the call for people."""
    if status is None or (ctx.target.ending and node != Node.CALL_AN_OPERATOR):
        return {"node": node}
    return {"node": node, "ending": status, "ended_because": because}


def _step(ctx: Context) -> bool:
    """Does the node where the target is and takes the edge of its outcome; False at an end."""
    target = ctx.target
    node = Node(target.node)
    here, work = FLOWCHART[node], WORK.get(node)
    ctx.step = node.step
    if work is None:
        line = ctx.journal.started(node, node.step, "", target.round)
        because = _last_failure(ctx)
        next_node = here.edges["finished"]
        changes = _leaving(ctx, next_node, because, FLOWCHART[next_node].begins)
        ctx.journal.closed(line, StepState.FINISHED, because, event=node.step, **changes)
        ctx.take_over(changes)
        return True
    if here.ends_in is not None and target.attempt >= LAST_ATTEMPT + 1:
        _end(ctx, here.ends_in, _deaths(target))
        return False
    if ctx.run.rehearsal and not ctx.on_copy and here.service not in (Service.UNTOUCHED, Service.OVER):
        # Whatever led here: a rehearsal never does to the database itself what is meant for its copy.
        _go(
            ctx,
            Node.END_IN_FAILURE,
            msg("There is no copy to go on with; {database} was not touched.", database=target.database),
        )
        return True
    if node == Node.RESUME and not target.ending and (doubt := _doubt(ctx)):
        # However it came here: nobody is let in as after a success that was not proven.
        _go(ctx, Node.ROLL_BACK, doubt)
        return True
    line = ctx.journal.started(node, node.step, "", target.round)
    outcome, state = _attempt(ctx, node, work)
    if here.ends_in is not None:
        ctx.journal.closed(line, state, outcome.sentence, **outcome.changes)
        _end(ctx, here.ends_in, outcome.sentence)
        return False
    next_node = here.leads_to[outcome.edge]
    status = FLOWCHART[next_node].begins
    if outcome.edge == "stopped":
        status = {"cancelled": Status.CANCELLED, "timed_out": Status.TIMED_OUT}.get(ctx.reason or "", status)
    changes = {**outcome.changes, **_leaving(ctx, next_node, outcome.sentence, status)}
    ctx.journal.closed(line, state, outcome.sentence, **changes)
    ctx.take_over(changes)
    return True


def _attempt(ctx: Context, node: Node, work: Callable[[Context], Outcome]) -> tuple[Outcome, StepState]:
    """Run a step with its retries; turn an expected failure into an outcome. Bugs end as failures too,
    because a database must not stay locked over a bug - but they say so."""
    patience = time.monotonic() + settings.PATIENCE_SECONDS
    while True:
        try:
            return _once(ctx, node, work)
        except (OperationalError, InterfaceError):
            # The control database, not the target: every step may be begun again.
            if time.monotonic() > patience:
                raise
            log.warning("The control database does not answer; the step begins again.", exc_info=True)
            close_old_connections()
            time.sleep(1)


def _once(ctx: Context, node: Node, work: Callable[[Context], Outcome]) -> tuple[Outcome, StepState]:
    try:
        if ctx.reason == "left" or (ctx.reason is not None and FLOWCHART[node].cancellable):
            raise Interrupted(node.step, ctx.target.database, "stopped on request")
        outcome = retried(ctx, lambda: work(ctx), node.step)
        if ctx.reason is not None and FLOWCHART[node].cancellable:
            # Measuring keeps errors in its samples, so the end of the work may look like its success.
            raise Interrupted(node.step, ctx.target.database, "stopped on request")
        return outcome, StepState.FINISHED
    except Interrupted as error:
        if ctx.reason in (None, "lost", "left"):
            raise LeaseLost(str(error)) from error
        # Whoever cancelled did so after this worker had read the run.
        ctx.run.refresh_from_db(fields=["cancel_requested_by"])
        sentences = {
            "cancelled": msg("Cancelled by {who} during {step}.", who=ctx.run.cancel_requested_by, step=node.step),
            "timed_out": msg(
                "Stopped during {step}: the time limit of {limit}, less the reserve for a rollback.",
                step=node.step,
                limit=span(ctx.setting.timeout_minutes * 60),
            ),
        }
        ctx.engine.clear_interrupt()
        if not FLOWCHART[node].cancellable:
            return _once(ctx, node, work)
        return Outcome("stopped", sentences[ctx.reason]), StepState.INTERRUPTED
    except EngineError as error:
        return Outcome("failed", error.sentence), StepState.FAILED
    except (LeaseLost, OperationalError, InterfaceError):
        raise
    except Exception as error:
        log.exception("A bug in step %s", node.step)
        sentence = msg(
            "A bug in the console during {step}: {kind}: {error}",
            step=node.step,
            kind=type(error).__name__,
            error=str(error),
        )
        return Outcome("failed", sentence), StepState.FAILED


def _last_failure(ctx: Context) -> Message:
    """Why the ordinary way was left: the last step's own words, or what kept it from being begun."""
    line = ctx.target.steps.filter(part="").exclude(state=StepState.STARTED).order_by("-id").first()
    if line is None:
        return ctx.target.ended_because
    return line.sentence


def _end_rehearsal(ctx: Context, status: Status, sentence: Message) -> tuple[Status, Message]:
    """Remove the copy; return how it ends, which is a failure where something of ours is left."""
    try:
        rehearsal.remove_copy(ctx)
    except (EngineError, OSError) as error:
        words = error.sentence if isinstance(error, EngineError) else str(error)
        ctx.change(ending="", ended_because="")
        return Status.FAILED, msg("The copy of the rehearsal could not be removed: {error}", error=words)
    return status, sentence


def _doubt(ctx: Context) -> Message | None:
    """What keeps this run from ending as succeeded although no step failed."""
    part = f"proof {ctx.target.repairs + 1}"
    line = ctx.journal.done(Node.VERIFY, part, ctx.target.round)
    return unproven(ctx.target.gate is not None, None if line is None else line.evidence(Proof))


def _deaths(target: RunTarget) -> Message:
    return msg("Its worker died {times}.", times=plural(target.attempt - 1, "{n} time", "{n} times"))


def _end(ctx: Context, status: Status, sentence: Message) -> None:
    target = ctx.target
    if target.run.rehearsal:
        status, sentence = _end_rehearsal(ctx, status, sentence)
    elif status != Status.NEEDS_OPERATOR:
        # Another target of the run may have left it to us to start what they share.
        try:
            stop.release_applications(ctx)
        except EngineError as error:
            status, sentence = Status.NEEDS_OPERATOR, error.sentence
            ctx.change(ending="", ended_because="")
    if target.ending:
        status, sentence = Status(target.ending), target.ended_because
    elif status == Status.SUCCEEDED and (doubt := _doubt(ctx)):
        status, sentence = Status.FAILED, doubt
    if target.run.rehearsal and status == Status.NEEDS_OPERATOR:
        status = Status.FAILED  # Production is as it was: a person is needed for nothing but the next attempt.
    # Before the last word: nobody comes after it to take away what a death would leave.
    back_up.remove_incomplete(ctx)
    ctx.engine.close()
    ctx.journal.ended(status, sentence)
