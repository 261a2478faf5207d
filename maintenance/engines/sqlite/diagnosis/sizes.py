"""Bytes, unused bytes, row counts and the age of statistics."""

from __future__ import annotations

import sqlite3
import time

from ...messages import msg, size
from ...values import Finding, TableFacts, Thresholds
from ..names import Table, quoted
from .corruption import Harm, damage_words, indexes_of

WORTH_STATISTICS = 100_000
"""A table of fewer bytes is read as a whole in no time, whatever the plan."""


def page_use(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """B-tree -> (bytes, unused bytes in its pages); empty when this build has no dbstat."""
    try:
        rows = connection.execute("SELECT name, sum(pgsize), sum(unused) FROM dbstat GROUP BY name").fetchall()
    except sqlite3.Error:
        return {}
    return {str(name): (int(total), int(unused)) for name, total, unused in rows}


def sampled_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Table -> rows at the last ANALYZE (https://sqlite.org/fileformat2.html#stat1tab)."""
    try:
        rows = connection.execute("SELECT tbl, max(CAST(stat AS INTEGER)) FROM sqlite_stat1 GROUP BY tbl").fetchall()
    except sqlite3.Error:
        return {}
    return {str(table): int(count) for table, count in rows if count is not None}


def facts_of(
    connection: sqlite3.Connection,
    table: Table,
    pages: dict[str, tuple[int, int]],
    sampled: dict[str, int],
    harm: Harm,
    until: float,
) -> TableFacts:
    indexes = indexes_of(connection, table)
    trees = [pages[name] for name in [table.name, *indexes] if name in pages]
    total, unused = sum(tree[0] for tree in trees), sum(tree[1] for tree in trees)
    name = table.canonical
    damaged = name in harm.rows
    rows = None if damaged or time.monotonic() > until else _count(connection, table)
    before = sampled.get(table.name)
    notes: dict[str, object] = {"statistics": "missing" if before is None else "present", "indexes": len(indexes)}
    if name in harm.broken:
        notes["broken_indexes"] = harm.broken[name]
    if name in harm.wrong:
        notes["wrong_indexes"] = harm.wrong[name]
    return TableFacts(
        name=name,
        bytes=total,
        rows=rows,
        bloat_share=unused / total if total else None,
        stale_share=None if before is None or rows is None else abs(rows - before) / max(rows, before, 1),
        damaged=damaged,
        notes=notes,
    )


def _count(connection: sqlite3.Connection, table: Table) -> int | None:
    try:
        return int(connection.execute(f"SELECT count(*) FROM {quoted(table.name)} NOT INDEXED").fetchone()[0])
    except sqlite3.Error as error:
        damage_words(error, table.name)
        return None


def judged(fact: TableFacts, thresholds: Thresholds) -> list[Finding]:
    found: list[Finding] = []
    if fact.bloat_share is not None and _bloated(fact.bytes, fact.bloat_share, thresholds):
        found.append(
            Finding(
                "table_bloat",
                "high" if fact.bloat_share >= 2 * thresholds.bloat_share else "medium",
                fact.name,
                msg(
                    "{share:.0%} of {size} in the pages of the table and its indexes is unused.",
                    share=fact.bloat_share,
                    size=size(fact.bytes),
                ),
                msg("Many rows were deleted or shortened since the file was last rewritten."),
            )
        )
    if fact.stale_share is not None and fact.stale_share >= thresholds.stale_share:
        found.append(
            Finding(
                "stale_statistics",
                "medium",
                fact.name,
                msg("The row count differs by {share:.0%} from the one at the last ANALYZE.", share=fact.stale_share),
                msg("The planner chooses its indexes by numbers that are no longer true."),
            )
        )
    if (
        fact.stale_share is None
        and fact.notes.get("statistics") == "missing"
        and fact.rows
        and fact.bytes >= WORTH_STATISTICS
    ):
        found.append(
            Finding(
                "missing_statistics",
                "low",
                fact.name,
                msg("{rows:,} rows and no statistics.", rows=fact.rows),
                msg("ANALYZE was never run; the planner guesses."),
            )
        )
    return found


def _bloated(total: int, share: float, thresholds: Thresholds) -> bool:
    return share >= thresholds.bloat_share and total >= thresholds.minimum_bytes


def whole_file(connection: sqlite3.Connection, thresholds: Thresholds) -> list[Finding]:
    """Return findings about the file as a whole."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, page = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    share = free / pages if pages else 0.0
    if not _bloated(pages * page, share, thresholds):
        return []
    return [
        Finding(
            "free_pages",
            "medium",
            "",
            msg("{free} of {size} are free pages.", free=size(free * page), size=size(pages * page)),
            msg("Tables were emptied or dropped; SQLite keeps the space until the file is rewritten."),
        )
    ]
