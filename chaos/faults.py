"""What goes wrong inside the console's process besides its death: told by DBMAINT_CHAOS, as `path[@verb]`.

The verb is the engine's method in whose midst a cancel or the time limit arrives. A fault comes again in
every life of the process, as a real one would.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

from django.apps import AppConfig
from django.conf import settings
from django.utils import timezone

from . import points

SPOIL = "DELETE FROM ledger WHERE id % 7 = 1"
ARRIVES_WITHIN_SECONDS = 15.0


class Faults(AppConfig):
    """Applies the fault when Django is ready."""

    name = "chaos"

    def ready(self) -> None:
        trace = os.environ.get("DBMAINT_CHAOS_TRACE")
        if trace:
            points.trace(Path(trace))
        path, _, verb = os.environ.get("DBMAINT_CHAOS", "").partition("@")
        match path:
            case "action failed":
                upon("perform", spoil_and_fail)
            case "integrity error":
                upon("perform", spoil_afterwards)
            case "not improved":
                never_faster()
            case "cancelled":
                upon(verb, cancel_first)
            case "paused":
                upon(verb, pause_first)
            case "timed out":
                keep_the_time_limit()
                upon(verb, run_out_of_time_first)


def upon(verb: str, fault: Any) -> None:
    """Every engine that the procedure opens gets `fault(engine, its method, …)` for this method.

    For `check` also where the same is asked in a quicker way.
    """
    from maintenance.workflow import runner

    door: Any = runner
    opening = door.open_engine

    def opened(*args: Any, **named: Any) -> Any:
        engine = opening(*args, **named)
        part = part_with(engine, verb)
        for name in (verb, "check_again") if verb == "check" else (verb,):
            setattr(part, name, partial(fault, engine, getattr(part, name)))
        return engine

    door.open_engine = opened


def part_with(engine: Any, verb: str) -> Any:
    """Return the part of the engine that has this method."""
    from maintenance.engines.base import Engine

    parts = (getattr(engine, name) for name in Engine.__annotations__)
    return next(part for part in parts if callable(getattr(part, verb, None)))


def spoil(engine: Any) -> None:
    """Rows go although everybody is out, as by a bug in the maintenance."""
    match engine.name:
        case "sqlite":
            with engine.file.working("spoiling", "ledger") as connection:
                connection.execute(SPOIL)
        case "postgresql":
            with engine.target.session("spoiling") as connection:
                connection.exec_driver_sql(SPOIL.replace("%", "%%"))
        case _:
            with engine.session("spoiling", database=True) as session:
                session.ask(SPOIL)


def spoil_and_fail(engine: Any, perform: Any, *args: Any) -> Any:
    """The work on the ledger, or on the file that holds it; rows that others' work lost would be a stranger's."""
    from maintenance.engines.errors import Unable

    if engine.name != "sqlite" and "ledger" not in args[0].object:
        return perform(*args)
    spoil(engine)
    raise Unable("working on", "the ledger", "it broke half way")


def spoil_afterwards(engine: Any, perform: Any, *args: Any) -> Any:
    performed = perform(*args)
    spoil(engine)
    return performed


def never_faster() -> None:
    """Neither faster nor smaller, and a second look finds the same work again: one more round."""
    from maintenance.workflow.steps import benchmark

    door: Any = benchmark
    compare = door.compare_target

    def slower(target: Any) -> Any:
        found = compare(target)
        return replace(found, change="no_change")

    door.compare_target = slower
    door.shrank = lambda ctx: False
    door.further_work = lambda ctx: list(ctx.target.plan or [])


def cancel_first(engine: Any, usual: Any, *args: Any, **named: Any) -> Any:
    """Somebody cancels; the method begins when the order has arrived."""
    from maintenance.models import RunTarget
    from maintenance.requests import launch

    run = RunTarget.objects.select_related("run").get(pk=engine.tag.target).run
    if run.cancel_requested_at is None:
        with suppress(launch.Refused):  # another thread was faster
            launch.cancel(launch.Actor(name="chaos", origin="command"), run)
        engine.stopping.wait(ARRIVES_WITHIN_SECONDS)
    return usual(*args, **named)


def pause_first(engine: Any, usual: Any, *args: Any, **named: Any) -> Any:
    """The whole process stands still, as on a host that is frozen, until somebody lets it go on."""
    paused = Path(settings.HOME) / "it was paused"
    if not paused.exists():
        paused.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return usual(*args, **named)


def _over() -> Path:
    return Path(settings.HOME) / "the time is over"


def run_out_of_time_first(engine: Any, usual: Any, *args: Any, **named: Any) -> Any:
    if not _over().exists():
        _over().touch()
        engine.stopping.wait(ARRIVES_WITHIN_SECONDS)
    return usual(*args, **named)


def keep_the_time_limit() -> None:
    """The limit passes at the wanted moment, and stays passed for later lives."""
    from maintenance.models import RunTarget

    usual = RunTarget.deadline

    def deadline(target: RunTarget, limit: timedelta, reserve: timedelta) -> datetime | None:
        return timezone.now() - timedelta(seconds=1) if _over().exists() else usual(target, limit, reserve)

    cast(Any, RunTarget).deadline = deadline
