"""Databases of one run take turns in measuring, so that none measures the other's queries.

The turn is a row of the control database that ends by itself: whoever dies with it keeps nobody waiting for long, and
who waited too long goes without, because waiting lies within the outage too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from maintenance.models import MeasuringTurn

from .context import Context

HELD_AT_MOST = timedelta(seconds=15)
"""Longer than any block; then the turn is free, whatever became of its holder."""
WAIT_SECONDS, LOOK_SECONDS = 5.0, 0.1


@contextmanager
def in_turn(ctx: Context) -> Iterator[bool]:
    """Yield whether this database has the turn: at once where it is alone in its run. Raises Interrupted."""
    if ctx.run.targets.count() < 2:
        yield True
        return
    until = time.monotonic() + WAIT_SECONDS
    while not (taken := take(ctx.run.pk, ctx.target.pk)) and time.monotonic() < until:
        ctx.wait(LOOK_SECONDS, "waiting for its turn to measure")
    try:
        yield taken
    finally:
        if taken:
            MeasuringTurn.objects.filter(run=ctx.run, target=ctx.target).delete()


def take(run_id: int, target_id: int) -> bool:
    """Take the turn of a run; return whether it was free, or this target's own from before a crash."""
    now = timezone.now()
    MeasuringTurn.objects.filter(run=run_id, until__lt=now).delete()
    try:
        with transaction.atomic():
            MeasuringTurn.objects.create(run_id=run_id, target_id=target_id, until=now + HELD_AT_MOST)
    except IntegrityError:
        mine = MeasuringTurn.objects.filter(run=run_id, target=target_id)
        return bool(mine.update(until=now + HELD_AT_MOST))
    return True
