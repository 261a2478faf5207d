"""What a file needs of its application: collations and functions that only the program which made it defines."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from ...messages import msg
from ...values import Finding
from ..connection import connect_in_memory
from ..names import Table, quoted

NEEDS_APPLICATION = "application_code_needed"
UNKNOWN = ("no such collation sequence", "no such function", "unknown function")
"""How SQLite's words begin when something is not defined here."""


def tables_of_others(connection: sqlite3.Connection, tables: Sequence[Table]) -> dict[str, str]:
    """Canonical name -> SQLite's words, for tables that this program can neither sort nor index."""
    asked = {table.canonical: missing(connection, table) for table in tables}
    return {name: words for name, words in asked.items() if words is not None}


def missing(connection: sqlite3.Connection, table: Table) -> str | None:
    """SQLite's words for what is not defined here. Statements are prepared, none is run."""
    name = quoted(table.name)
    columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_xinfo({name})").fetchall()]
    for statement in (
        f"SELECT * FROM {name} ORDER BY {', '.join(map(quoted, columns)) or '1'}",
        f"REINDEX {name}",
    ):
        try:
            connection.execute(f"EXPLAIN {statement}").fetchall()
        except sqlite3.OperationalError as error:
            if str(error).startswith(UNKNOWN):
                return str(error)
        except UnicodeEncodeError:
            return None  # a name that is no valid text: no statement of ours can say it
    return _missing_in_constraints(table)


def _missing_in_constraints(table: Table) -> str | None:
    """An existing file is opened whatever its CHECK constraints call; only a new table is refused for it."""
    with closing(connect_in_memory()) as connection:
        try:
            connection.execute(table.sql)
        except sqlite3.Error as error:
            return str(error) if str(error).startswith(UNKNOWN) else None
        except UnicodeEncodeError:
            return None
    return None


def findings(found: dict[str, str]) -> list[Finding]:
    return [
        Finding(
            NEEDS_APPLICATION,
            "high",
            name,
            msg("{table} needs what only its application defines: {words}", table=name, words=words),
            msg(
                "It can be backed up and restored here, but only a program that defines it can check, index or rewrite"
                " the table"
            ),
        )
        for name, words in found.items()
    ]
