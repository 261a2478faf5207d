"""Rows that others wrote although connections were cut: named, and never rolled away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maintenance.engines.errors import EngineError, Interrupted
from maintenance.engines.messages import Message, listed, msg
from maintenance.engines.values import Fingerprint

from ..verdict import differences
from .context import Context

NAMED = 5


def written_by_others(
    ctx: Context, before: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]
) -> tuple[list[str], list[str]]:
    """Return the tables that differ: those that no work was begun on and that read well, and all others."""
    worked_on = ctx.worked_on
    differing = list(differences(before, now))
    foreign = [
        name
        for name in differing
        if worked_on is not None and name not in worked_on and name in now and now[name].readable
    ]
    return foreign, [name for name in differing if name not in foreign]


def named(ctx: Context, tables: Sequence[str]) -> Message:
    """Return which tables were written to, and by whom as far as the engine tells."""
    try:
        writers = ctx.engine.sessions.writers()
    except Interrupted:
        raise
    except EngineError as error:
        writers = [error.sentence]
    if not writers:
        return msg(
            "others wrote to {tables}, which the work did not touch, although connections were cut; who it was cannot "
            "be seen any more",
            tables=", ".join(tables[:NAMED]),
        )
    return msg(
        "others wrote to {tables}, which the work did not touch, although connections were cut; there now: {writers}",
        tables=", ".join(tables[:NAMED]),
        writers=listed(writers[:NAMED]),
    )
