"""What thresholds would mean for a database as it was last looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Thresholds

Table = Mapping[str, Any]
"""A row of `DatabaseState.tables`."""


def meaning(engine: str, tables: Sequence[Table], limits: Thresholds) -> list[Message]:
    """Return what an optimization would do within these limits, a sentence each; planners go by the same ones."""
    worth = [t for t in tables if t["bytes"] >= limits.minimum_bytes]
    bloated = [t for t in worth if _reaches(t, "bloat_share", limits.bloat_share)]
    rest = [t for t in (worth if engine == "postgresql" else tables) if engine == "sqlite" or t not in bloated]
    told = [_rewritten(engine, len(bloated), len(tables))]
    unknown = sum(t.get("bloat_share") is None for t in tables)
    if unknown:
        told.append(msg("Of {n} of them nobody knows how much is unused.", n=unknown))
    if engine == "postgresql":
        dead = [t for t in rest if _reaches(t, "dead_share", limits.dead_share)]
        rest = [t for t in rest if t not in dead]
        told.append(msg("{n} of {count} tables would be vacuumed.", n=len(dead), count=len(tables)))
    stale = sum(_reaches(t, "stale_share", limits.stale_share) for t in rest)
    return [*told, msg("{n} of {count} tables would get new statistics alone.", n=stale, count=len(tables))]


def _rewritten(engine: str, bloated: int, count: int) -> Message:
    if engine != "sqlite":
        return msg("{n} of {count} tables would be rewritten.", n=bloated, count=count)
    if bloated:
        return msg("The file would be rewritten because of {n} of {count} tables.", n=bloated, count=count)
    return msg("The file would not be rewritten for any of {count} tables.", count=count)


def _reaches(table: Table, name: str, limit: float) -> bool:
    """What is not known reaches nothing: nothing is worked on by a guess."""
    value = table.get(name)
    return value is not None and value >= limit
