"""The heartbeat of a claim: the lease, progress, and orders to cancel, to end and to leave."""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone

from maintenance.engines.errors import Transient, Unreachable
from maintenance.engines.values import Json
from maintenance.notifications import events

from .flowchart import row
from .journal import LeaseLost
from .progress import Forecast
from .steps.context import Context, Reason

log = logging.getLogger("maintenance")
told_to_leave = threading.Event()
"""This process was told to end: it leaves its runs to a successor."""
cluster_ends = multiprocessing.get_context("fork").Event()
"""The same for all processes of a cluster, which inherit it."""


def must_leave() -> bool:
    """Return whether this process was told to leave its runs to a successor."""
    return told_to_leave.is_set() or cluster_ends.is_set()


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

    def _tell_late(self, forecast: Mapping[str, Any]) -> None:
        """Once a target: people have to decide whether to wait or to cancel."""
        if not forecast["late"] or self.ctx.target.late_at is not None:
            return
        with transaction.atomic():
            self.ctx.change(late_at=timezone.now())
            events.announce(self.ctx.run, "late", forecast["late"], self.ctx.target.database)

    def run(self) -> None:
        """Beat until the work is over or the lease is lost."""
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
        """Renew the lease and give an order to cancel or a timeout on. Raises LeaseLost."""
        ctx = self.ctx
        orders = ctx.journal.beat(self._seen)
        if not self.listening or not row(ctx.target.node).cancellable or ctx.reason is not None:
            return
        limit = timedelta(minutes=ctx.setting.timeout_minutes)
        deadline = ctx.target.deadline(limit, timedelta(minutes=ctx.setting.reserve_minutes))
        if orders.cancel:
            self.order("cancelled")
        elif deadline is not None and timezone.now() > deadline:
            self.order("timed_out")

    def order(self, reason: Reason) -> None:
        """Interrupt the engine, for this reason."""
        self.ctx.reason = reason
        self.ctx.engine.interrupt()

    def stop(self) -> None:
        """End the thread."""
        self.over.set()
        self.join(timeout=30)
