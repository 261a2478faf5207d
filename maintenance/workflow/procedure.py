"""The flowchart of the specification (4.1) as one table, and the loop that walks it.

`docs/procedure.md` draws the same table; a test holds the two together. Solid edges are the
specification's; those marked `own` are the ways out that it leaves unsaid.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connections, transaction
from django.utils import timezone

from maintenance.conf import config, logs
from maintenance.conf.secrets import mark_signer
from maintenance.engines import open_engine
from maintenance.engines.errors import EngineError, Interrupted, Transient, Unreachable
from maintenance.engines.messages import Sentence, counted, say
from maintenance.engines.values import Json, Tag
from maintenance.models import RunTarget, Status, StepState
from maintenance.notifications import events
from maintenance.text.stored import resaid, said

from . import conclusion
from .blackbox import BlackBoxUnwritable
from .journal import Journal, LeaseLost, claim
from .progress import Forecast
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
from .steps.context import Context, Edge, Outcome
from .steps.retry import retried

log = logging.getLogger("maintenance")
RETRIES_OF_A_RUN = 1
"""Specification 3.1: a run whose worker died is continued once; after that it is ended safely."""
LAST_ATTEMPT = 5
"""A run that keeps dying on its way out is left to people, never in a loop."""
told_to_leave = threading.Event()
"""This process was told to end: it leaves its runs to a successor."""
cluster_ends = multiprocessing.get_context("fork").Event()
"""The same for all processes of a cluster, which inherit it."""


@dataclass(frozen=True)
class Node:
    """One box of the flowchart: what it is called, what it does, where its outcomes lead."""

    step: str
    work: Callable[[Context], Outcome] | None
    edges: Mapping[Edge, str]
    own: Mapping[Edge, str] = field(default_factory=dict)
    ends_in: Status | None = None


def _passed(ctx: Context) -> Outcome:
    return Outcome("finished", say("The work on {database} begins.", database=ctx.target.database))


PROCEDURE: Mapping[str, Node] = {
    "A": Node("start", _passed, {"finished": "B"}, {"stopped": "U"}),
    "B": Node("diagnose", diagnose.run, {"finished": "C", "failed": "L"}, {"stopped": "U"}),
    "C": Node("decide", decide.run, {"finished": "D"}, {"nothing": "K", "failed": "U", "stopped": "U"}),
    "D": Node("back_up", back_up.run, {"finished": "E", "failed": "M"}, {"stopped": "U"}),
    "E": Node("stop_applications", stop.run, {"finished": "F"}, {"failed": "S", "stopped": "S"}),
    "F": Node("cut_connections", cut.run, {"finished": "G"}, {"failed": "S", "stopped": "S"}),
    "G": Node("maintain", maintain.run, {"finished": "H", "failed": "N"}, {"stopped": "S", "opened": "F"}),
    "H": Node("verify", verify.run, {"finished": "I", "failed": "O"}, {"stopped": "S"}),
    "I": Node("benchmark", benchmark.run, {"finished": "J", "not improved": "P"}, {"failed": "J", "stopped": "J"}),
    "J": Node("resume", resume.run, {"finished": "K"}, {"failed": "X"}),
    "K": Node("complete", complete.run, {}, ends_in=Status.SUCCEEDED),
    "L": Node("diagnosis_failed", None, {"finished": "Q"}),
    "M": Node("backup_failed", None, {"finished": "R"}),
    "N": Node("maintenance_failed", None, {"finished": "S"}),
    "O": Node("integrity_error", None, {"finished": "S"}),
    "P": Node("not_improved", None, {"finished": "T"}),
    "Q": Node("ask_for_manual_diagnosis", diagnose.ask_for_people, {}, ends_in=Status.FAILED),
    "R": Node("alternate_backup", back_up.run_alternate, {"finished": "E"}, {"failed": "U", "stopped": "U"}),
    "S": Node("roll_back", roll_back.run, {"finished": "U"}, {"failed": "X"}),
    "T": Node("additional_maintenance", benchmark.one_more_round, {"finished": "G"}, {"failed": "J", "stopped": "J"}),
    "U": Node("end_in_failure", roll_back.fail, {}, ends_in=Status.FAILED),
    "X": Node("call_an_operator", roll_back.call_people, {}, ends_in=Status.NEEDS_OPERATOR),
}
ENDS = frozenset("KQUX")
OUTAGE = frozenset("EFGHINOPT")
"""Nodes in which applications or connections may be down and the way out is S."""
CANCELLABLE = frozenset("ABCDEFGHIMPRT")
"""Nodes that a cancel or the timeout ends. Ways back to service are never cut short."""
BEGINS_ENDING = {
    "L": Status.FAILED,
    "N": Status.ROLLED_BACK,
    "O": Status.ROLLED_BACK,
    "S": Status.FAILED,
    "U": Status.FAILED,
    "X": Status.NEEDS_OPERATOR,
}
"""Entering one of these for the first time decides how the target ends, and why."""


def must_leave() -> bool:
    return told_to_leave.is_set() or cluster_ends.is_set()


def advance(target_id: int) -> bool:
    """Takes one run target as far as it goes. False when somebody else has it.

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
    """Ends a target that cannot even be begun, when it was tried often enough."""
    target = journal.target()
    if target.attempt < LAST_ATTEMPT:
        return False
    told = error.sentence if isinstance(error, EngineError) else str(error)
    because = say("The console could not work on {database}: {error}", database=target.database, error=told)
    with transaction.atomic():
        stopped = stop.left_stopped(target)
        if stopped:
            because = say("{because} - to be started by hand: {applications}", because=because, applications=stopped)
        out = target.outage_started_at is not None and target.outage_ended_at is None
        journal.ended(Status.NEEDS_OPERATOR if out or stopped else Status.FAILED, because)
    return True


def _walk(journal: Journal) -> None:
    target = journal.target()
    if target.setting is None:
        journal.ended(Status.NEEDS_OPERATOR, say("The settings of {database} are gone.", database=target.database))
        return
    setting = target.setting
    tag = Tag(target.pk, journal.token, target.site, mark_signer())
    engine = open_engine(setting.engine_url, tag, setting.limits)
    if target.gate is not None:
        engine.gate.recall(target.gate)
    engine.lock.assert_lease = journal.beat
    ctx = Context(journal, target, engine, config.load())
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
        )
    except BlackBoxUnwritable as error:
        log.error("%s", error)
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
        engine.close()


def _take_up(ctx: Context) -> None:
    """Ends what an earlier claim still does on the target, and decides whether to go on or to get out."""
    target = ctx.target
    if target.node in ENDS:
        return
    try:
        ended = retried(ctx, ctx.engine.lock.fence, "fencing off earlier sessions")
        if ended:
            log.warning("ended %s sessions of an earlier claim on %s", ended, target.database)
    except EngineError as error:
        _go(ctx, "X" if target.node in OUTAGE or target.node in "SJ" else "L", error.sentence)
        return
    if target.token == 1:
        return
    if target.gate is not None and target.outage_ended_at is None and target.node in OUTAGE:
        _look_who_opened(ctx)
    died = _deaths(target)
    if target.attempt >= LAST_ATTEMPT:
        _go(ctx, "X", died)
    elif target.attempt > RETRIES_OF_A_RUN + 1 and target.node in OUTAGE:
        _go(ctx, "S", died)
    elif target.attempt > RETRIES_OF_A_RUN + 1 and target.node in "ABCDLMR":
        _go(ctx, "U", died)
    elif target.gate is not None and target.outage_ended_at is None and target.node in OUTAGE:
        _cut_again(ctx)


def _look_who_opened(ctx: Context) -> None:
    """A lock that died with its worker, the dead man's switch, or a person let others in meanwhile."""
    if ctx.recorded("F", "cut") is None and not ctx.engine.gate.dies_with_worker:
        return
    ctx.step = "cut_connections"
    try:
        closed = retried(ctx, lambda: switch.disarm(ctx), "looking whether it is still closed")
    except EngineError as error:
        _go(ctx, "S", error.sentence)
        return
    if not closed:
        ctx.change(hold_lost=True)
        if ctx.target.node in "IPT" and not ctx.engine.gate.dies_with_worker:
            # The work is proven and service is back already.
            ctx.change(node="J")


def _cut_again(ctx: Context) -> None:
    """After a crash inside the outage everybody may be in again; nothing goes on before they are out."""
    if ctx.target.hold_lost and ctx.target.node not in "NO":
        # Others may have written meanwhile, so what was measured under the old hold says nothing.
        ctx.change(node="F", round=ctx.target.round + 1)
        return
    if ctx.target.node in "EF":
        return
    ctx.step = "cut_connections"
    try:
        retried(ctx, lambda: cut.close(ctx), "cutting connections again")
    except EngineError as error:
        _go(ctx, "S", error.sentence)


def _go(ctx: Context, node: str, because: Sentence) -> None:
    """Leaves the ordinary way; the reason is kept for the end."""
    ctx.change(**_leaving(ctx, node, because, BEGINS_ENDING.get(node)))


def _leaving(ctx: Context, node: str, because: Sentence, status: Status | None) -> dict[str, Any]:
    """What to set on the way to `node`. The first reason to end counts, but for the call for people."""
    if status is None or (ctx.target.ending and node != "X"):
        return {"node": node}
    return {"node": node, "ending": status, "ended_because": str(because), "ended_said": said(because)}


def _step(ctx: Context) -> bool:
    """Does the node where the target is and takes the edge of its outcome; False at an end."""
    target = ctx.target
    node = PROCEDURE[target.node]
    ctx.step = node.step
    if node.work is None:
        line = ctx.journal.started(target.node, node.step, "", target.round)
        because = _last_failure(ctx)
        next_node = node.edges["finished"]
        changes = _leaving(ctx, next_node, because, BEGINS_ENDING.get(next_node))
        ctx.journal.closed(line, StepState.FINISHED, because, event=node.step, **changes)
        ctx.take_over(changes)
        return True
    if node.ends_in is not None and target.attempt >= LAST_ATTEMPT + 1:
        _end(
            ctx,
            node.ends_in,
            _deaths(target),
        )
        return False
    line = ctx.journal.started(target.node, node.step, "", target.round)
    outcome, state = _attempt(ctx, node)
    if node.ends_in is not None:
        ctx.journal.closed(line, state, outcome.sentence, **outcome.changes)
        _end(ctx, node.ends_in, outcome.sentence)
        return False
    next_node = {**node.edges, **node.own}[outcome.edge]
    status = BEGINS_ENDING.get(next_node)
    if outcome.edge == "stopped":
        status = {"cancelled": Status.CANCELLED, "timed_out": Status.TIMED_OUT}.get(ctx.reason or "", status)
    changes = {**outcome.changes, **_leaving(ctx, next_node, outcome.sentence, status)}
    ctx.journal.closed(line, state, outcome.sentence, **changes)
    ctx.take_over(changes)
    return True


def _attempt(ctx: Context, node: Node) -> tuple[Outcome, StepState]:
    """Runs a step with its retries; turns an expected failure into an outcome. Bugs end as failures too,
    because a database must not stay locked over a bug - but they say so."""
    assert node.work is not None
    work = node.work
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
        if ctx.reason == "left" or (ctx.reason is not None and ctx.target.node in CANCELLABLE):
            raise Interrupted(node.step, ctx.target.database, "stopped on request")
        outcome = retried(ctx, lambda: work(ctx), node.step)
        if ctx.reason is not None and ctx.target.node in CANCELLABLE:
            # Measuring keeps errors in its samples, so the end of the work may look like its success.
            raise Interrupted(node.step, ctx.target.database, "stopped on request")
        return outcome, StepState.FINISHED
    except Interrupted as error:
        if ctx.reason in (None, "lost", "left"):
            raise LeaseLost(str(error)) from error
        sentences = {
            "cancelled": say("Cancelled by {who} during {step}.", who=ctx.run.cancel_requested_by, step=node.step),
            "timed_out": say(
                "Stopped during {step}: the time limit of {minutes:.0f} minutes, less the reserve for a rollback.",
                step=node.step,
                minutes=ctx.setting.timeout_minutes,
            ),
        }
        ctx.engine.clear_interrupt()
        if ctx.target.node not in CANCELLABLE:
            return _once(ctx, node, work)
        return Outcome("stopped", sentences[ctx.reason]), StepState.INTERRUPTED
    except EngineError as error:
        return Outcome("failed", error.sentence), StepState.FAILED
    except (LeaseLost, OperationalError, InterfaceError):
        raise
    except Exception as error:
        log.exception("A bug in step %s", node.step)
        sentence = say(
            "A bug in the console during {step}: {kind}: {error}",
            step=node.step,
            kind=type(error).__name__,
            error=str(error),
        )
        return Outcome("failed", sentence), StepState.FAILED


def _last_failure(ctx: Context) -> Sentence:
    """Why the ordinary way was left: the last step's own words, or what kept it from being begun."""
    line = ctx.target.steps.filter(part="").exclude(state=StepState.STARTED).order_by("-id").first()
    if line is None:
        return resaid(ctx.target.ended_said, ctx.target.ended_because)
    return resaid(line.said, line.sentence)


def _deaths(target: RunTarget) -> Sentence:
    return say("Its worker died {times}.", times=counted(target.attempt - 1, "{n} time", "{n} times"))


def _end(ctx: Context, status: Status, sentence: Sentence) -> None:
    target = ctx.target
    if status != Status.NEEDS_OPERATOR:
        # Another target of the run may have left it to us to start what they share.
        try:
            stop.let_go(ctx)
        except EngineError as error:
            status, sentence = Status.NEEDS_OPERATOR, error.sentence
            ctx.change(ending="", ended_because="")
    if target.ending:
        status, sentence = Status(target.ending), resaid(target.ended_said, target.ended_because)
    # Before the last word: nobody comes after it to take away what a death would leave.
    back_up.remove_incomplete(ctx)
    ctx.engine.close()
    ctx.journal.ended(status, sentence)


class Heart(threading.Thread):
    """Renews the lease, brings progress in, and carries cancel, timeout and a lost lease to the engine."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(name=f"heart of run target {ctx.target.pk}", daemon=True)
        self.ctx, self.over = ctx, threading.Event()
        self.listening = False
        """Cancel and timeout wait until the claim has taken the target up."""
        self._seen: Json | None = None
        self._answered = time.monotonic()
        self._forecast = Forecast(ctx.target.pk)
        self._asking = threading.Thread(target=self._ask_for_progress, daemon=True)

    def _ask_for_progress(self) -> None:
        """Beside the heartbeat: a server that does not answer must not cost us the lease."""
        while not self.over.wait(min(2.0, settings.LEASE_SECONDS / 4)):
            try:
                self.ctx.engine.switch.keepalive()
                self._seen = self._forecast.look(self.ctx.engine.actions.progress())
                self._tell_late(self._seen)
                self._answered = time.monotonic()
            except (Unreachable, Transient):
                log.debug("No answer from the target of run target %s", self.ctx.target.pk, exc_info=True)
            except Exception:
                self._answered = time.monotonic()
                log.debug("No progress from run target %s", self.ctx.target.pk, exc_info=True)
        connections.close_all()

    def _tell_late(self, seen: Mapping[str, Any]) -> None:
        """Once a target: people have to decide whether to wait or to cancel."""
        if not seen["late"] or self.ctx.target.late_at is not None:
            return
        with transaction.atomic():
            self.ctx.change(late_at=timezone.now())
            events.announce(self.ctx.run, "late", resaid(seen["late_said"], seen["late"]), self.ctx.target.database)

    def run(self) -> None:
        self._asking.start()
        while not self._wait_for_the_next_beat():
            try:
                if must_leave() and self.ctx.reason != "left":
                    self.order("left")
                self._hang_up_when_silent()
                self.beat()
            except LeaseLost:
                self.order("lost")
                break
            except Exception:
                log.exception("The heartbeat of run target %s failed", self.ctx.target.pk)
        connections.close_all()

    def _hang_up_when_silent(self) -> None:
        """A line that is cut without a word leaves a statement waiting for ever."""
        if time.monotonic() - self._answered > settings.SILENCE_SECONDS:
            log.error("The target of run target %s answers nothing; the line is given up.", self.ctx.target.pk)
            self._answered = time.monotonic()
            self.ctx.engine.sessions.abort_connections()

    def _wait_for_the_next_beat(self) -> bool:
        """True when the work is over. An order to leave is heard sooner than at the next beat."""
        until = time.monotonic() + settings.LEASE_SECONDS / 4
        while (left := until - time.monotonic()) > 0:
            if must_leave() and self.ctx.reason != "left":
                return False
            if self.over.wait(min(left, 0.5)):
                return True
        return self.over.is_set()

    def beat(self) -> None:
        ctx = self.ctx
        orders = ctx.journal.beat(self._seen)
        if not self.listening or ctx.target.node not in CANCELLABLE or ctx.reason is not None:
            return
        limit = timedelta(minutes=ctx.setting.timeout_minutes)
        deadline = ctx.target.deadline(limit, timedelta(minutes=ctx.setting.reserve_minutes))
        if orders.cancel:
            self.order("cancelled")
        elif deadline is not None and timezone.now() > deadline:
            self.order("timed_out")

    def order(self, reason: str) -> None:
        self.ctx.reason = reason  # type: ignore[assignment]
        self.ctx.engine.interrupt()

    def stop(self) -> None:
        self.over.set()
        self.join(timeout=30)
