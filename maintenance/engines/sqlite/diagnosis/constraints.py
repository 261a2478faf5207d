"""Rows that contradict what the schema demands."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ...messages import Message, msg
from ...values import Finding
from ..names import Table, quoted
from .corruption import Harm, damage_words


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


def _no_parent(table: Table, evidence: Message) -> Finding:
    return Finding(
        "foreign_key_violation",
        "medium",
        table.canonical,
        evidence,
        msg("SQLite checks foreign keys only on connections that ask for it (https://sqlite.org/foreignkeys.html)."),
    )
