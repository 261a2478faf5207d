"""Targets whose worker is gone: noticed without a clock of the day, taken up beside the ordinary workers."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from datetime import datetime
from multiprocessing.context import ForkProcess
from types import FrameType

from django.conf import settings
from django.db import connections

from maintenance.models import RunTarget

from . import heartbeat, lease, runner

log = logging.getLogger("maintenance")
MOST = 4
"""Recoveries at a time in one cluster; what is more waits on the queue like other work."""


class Watch:
    """Looks whether heartbeats move, by this process's own count of seconds.

    A clock that jumps on this or another host makes nobody seem dead and keeps nobody alive.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, datetime | None]] = {}
        self._silent: dict[int, float] = {}
        self._looked = time.monotonic()

    def orphans(self) -> list[int]:
        """Return ids of targets whose process surely is gone, or that were silent for a lease; these lose it.

        A worker that was only slow may take its lease back until somebody has claimed the target.
        """
        # A pause of ours, in which we saw nobody, does not count as silence of others.
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * settings.SWEEP_SECONDS), now
        orphaned: list[int] = []
        working = RunTarget.objects.in_work()
        heartbeats = {t.pk: (t.token, t.beat_at) for t in working}
        for target in working:
            silent = self._seen.get(target.pk) == heartbeats[target.pk]
            self._silent[target.pk] = self._silent.get(target.pk, 0.0) + passed if silent else 0.0
            if target.lease_until is None or lease.worker_is_gone(target.worker):
                orphaned.append(target.pk)
            elif self._silent[target.pk] > settings.LEASE_SECONDS and lease.expire(*heartbeats[target.pk], target.pk):
                log.warning("The worker %s of run target %s is silent.", target.worker, target.pk)
                orphaned.append(target.pk)
        self._seen = heartbeats
        return orphaned


class Recoverers:
    """Processes of their own, so that a closed database never waits for ordinary work to end."""

    def __init__(self) -> None:
        self._running: dict[int, ForkProcess] = {}

    def take(self, target_id: int) -> bool:
        """Take the target up in a process of its own; return False when there are enough already."""
        self._running = {pk: process for pk, process in self._running.items() if process.is_alive()}
        if target_id in self._running:
            return True
        if len(self._running) >= MOST:
            return False
        connections.close_all()
        process = multiprocessing.get_context("fork").Process(target=_take_up, args=(target_id,))
        process.start()
        self._running[target_id] = process
        return True

    def wait(self) -> None:
        """Wait until all of them have ended."""
        for process in self._running.values():
            process.join()


def _take_up(target_id: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_when_told()
    runner.advance(target_id)


def leave_when_told() -> None:
    """SIGTERM ends the statement in hand and leaves the run to a successor; a second one ends the process."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        heartbeat.told_to_leave.set()

    signal.signal(signal.SIGTERM, leave)
