"""Rows that contradict what the schema demands."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

from ...messages import Message, msg
from ...values import Finding
from ..names import Table, quoted
from ..verification import VIOLATED
from .corruption import Harm, damage_words

MANY = 2**31 - 1
"""Lines of a check: all of them."""


def orphans(connection: sqlite3.Connection, chosen: Sequence[Table], harm: Harm) -> list[Finding]:
    found: list[Finding] = []
    for table in chosen:
        if table.canonical in harm.rows or table.canonical in harm.broken:
            continue
        count = 0
        try:
            for _ in connection.execute(f"PRAGMA foreign_key_check({quoted(table.name)})"):
                count += 1
        except sqlite3.Error as error:
            found.append(_no_parent(table, msg("{words}", words=damage_words(error, table.name))))
            continue
        if count:
            found.append(_no_parent(table, msg("{rows:,} rows refer to a row that does not exist.", rows=count)))
    return found


def violated(connection: sqlite3.Connection, chosen: Sequence[Table]) -> list[Finding]:
    """Return the tables with values that NOT NULL, CHECK or the declared types forbid, and how many."""
    counts: Counter[str] = Counter()
    try:
        for row in connection.execute(f"PRAGMA quick_check({MANY})"):
            for line in str(row[0]).splitlines():
                if told := VIOLATED.match(line):
                    counts[told[1]] += 1
    except sqlite3.Error as error:
        damage_words(error, "")
    found = {table: sum(n for name, n in counts.items() if _is_of(name, table.name)) for table in chosen}
    return [
        Finding(
            "constraint_violated",
            "medium",
            table.canonical,
            msg("{rows:,} values contradict NOT NULL, CHECK or the type that the schema demands.", rows=count),
            msg("The constraint came later, or a program wrote past it. The rows can be read."),
        )
        for table, count in found.items()
        if count
    ]


def _is_of(name: str, table: str) -> bool:
    return name == table or name.startswith(f"{table}.")


def _no_parent(table: Table, evidence: Message) -> Finding:
    return Finding(
        "foreign_key_violation",
        "medium",
        table.canonical,
        evidence,
        msg("SQLite checks foreign keys only on connections that ask for it (https://sqlite.org/foreignkeys.html)."),
    )
