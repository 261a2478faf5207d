"""Statements that read a table itself, and are known to: the plan of each is looked at before it proves anything.

NOT INDEXED is not enough: for a table WITHOUT ROWID SQLite reads a covering index all the same.
"""

from __future__ import annotations

import sqlite3

from ..errors import Damaged
from ..messages import listed, msg
from .names import quoted

ROWID_NAMES = ("rowid", "_rowid_", "oid")


def table_scan(connection: sqlite3.Connection, name: str, columns: str) -> str:
    """Return a SELECT of `columns` that reads every row from the tree of the table. Raises Damaged if there is none."""
    key = primary_tree(connection, name)
    how = "NOT INDEXED" if key is None else f"INDEXED BY {quoted(key)}"
    statement = f"SELECT {columns} FROM {quoted(name)} {how}"
    plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()]
    if plan != [f"SCAN {name}"]:
        raise Damaged("reading", name, msg("SQLite reads something else than the table: {plan}", plan=listed(plan)))
    return statement


def primary_tree(connection: sqlite3.Connection, name: str) -> str | None:
    """Return how SQLite calls the tree of a table WITHOUT ROWID; None for any other table."""
    listed = connection.execute("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (name,)).fetchone()
    if not (listed and listed[0]):
        return None
    row = connection.execute("SELECT name FROM pragma_index_list(?) WHERE origin = 'pk'", (name,)).fetchone()
    return str(row[0])


def rowid_name(connection: sqlite3.Connection, name: str) -> str | None:
    """Return what the rowid can be called; None WITHOUT ROWID, or where columns have all of its names."""
    if primary_tree(connection, name) is not None:
        return None
    rows = connection.execute("SELECT lower(name) FROM pragma_table_xinfo(?)", (name,)).fetchall()
    taken = {str(row[0]) for row in rows}
    return next((free for free in ROWID_NAMES if free not in taken), None)
