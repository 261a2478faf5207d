"""Retries of specification 6.2, by the kind of the error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from maintenance.engines.errors import EngineError, Interrupted
from maintenance.models import Node

from .context import Context

R = TypeVar("R")
log = logging.getLogger("maintenance")
BACKUP_NODES = (Node.BACK_UP, Node.ALTERNATE_BACKUP)


def allowance(ctx: Context, error: EngineError) -> tuple[int, float]:
    """Return how often to try again after an error of this kind, and how many seconds to wait before.

    Integrity errors are the verify step's own: there a repair comes first.
    """
    if isinstance(error, Interrupted):
        return 0, 0.0
    setting = ctx.setting
    if error.kind == "resource" and ctx.target.node in BACKUP_NODES:
        # The remedy for a full backup disk is the other place, at once, and not five minutes of hope.
        return 0, 0.0
    return {
        "transient": (setting.transient_retries, setting.transient_wait_seconds),
        "resource": (setting.resource_retries, setting.resource_wait_seconds),
    }.get(error.kind, (0, 0.0))


def retried(ctx: Context, work: Callable[[], R], what: str) -> R:
    """Call `work` until it succeeds or the allowance for its kind of error is used up; raise the last error then."""
    tries = 0
    while True:
        try:
            return work()
        except EngineError as error:
            times, seconds = allowance(ctx, error)
            if tries >= times:
                raise
            tries += 1
            log.warning("%s: %s; trying again (%s of %s) in %s s", what, error, tries, times, seconds)
            ctx.wait(seconds, f"waiting to try again: {what} of")
            # While we waited, or were stopped, another worker may have got the run.
            ctx.journal.beat()
