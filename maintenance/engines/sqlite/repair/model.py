"""The schema of a damaged file in an empty database of its own: what can be parsed, and how its records lie."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..connection import connect_in_memory
from ..names import Table, quoted
from .schema_pages import STATISTICS, Entry
from .shape import Shape, shape_of

SEQUENCE = "sqlite_sequence"
_ALLOWED = frozenset(
    (
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_REINDEX,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_PRAGMA,
    )
)
"""The text is whatever somebody wrote into the schema: it may define something, and nothing else."""


@dataclass
class Model:
    """`tables` and `indexes` by folded name; `unparsed` are entries that this SQLite cannot make anything of."""

    connection: sqlite3.Connection
    tables: dict[str, Entry] = field(default_factory=dict)
    virtual: list[Entry] = field(default_factory=list)
    indexes: dict[str, list[Entry]] = field(default_factory=dict)
    """Folded name of a table -> its indexes with a text of their own, UNIQUE ones first."""
    others: list[Entry] = field(default_factory=list)
    """Views and triggers."""
    unparsed: list[Entry] = field(default_factory=list)
    with_statistics: bool = False
    constraint_roots: dict[str, int] = field(default_factory=dict)
    """Index of a constraint, folded -> its root."""

    def shape(self, table: Entry) -> Shape:
        return shape_of(self.connection, Table(table.name, table.root, table.sql or ""))

    def constraint_indexes(self, table: Entry) -> list[str]:
        """Indexes that SQLite makes of UNIQUE and PRIMARY KEY."""
        rows = self.connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NULL AND tbl_name = ? COLLATE NOCASE",
            (table.name,),
        )
        return [str(row[0]) for row in rows.fetchall()]


def model_of(entries: Sequence[Entry]) -> Model:
    """Tables first, then what stands on them."""
    model = Model(connect_in_memory())
    model.connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
    for entry in entries:
        if entry.name.lower().startswith(STATISTICS):
            model.with_statistics = True
        elif entry.is_virtual:
            model.virtual.append(entry)
        elif entry.kind == "table":
            _add_table(model, entry)
        elif entry.kind == "index" and entry.sql is None:
            model.constraint_roots[entry.name.lower()] = entry.root
    for entry in entries:
        if entry.kind == "index" and entry.sql is not None and not entry.table.lower().startswith(STATISTICS):
            _add_index(model, entry)
    for indexes in model.indexes.values():
        indexes.sort(key=lambda index: "unique" not in (index.sql or "").lower().split("(")[0])
    for entry in entries:
        if entry.kind in ("view", "trigger"):
            (model.others if _makes(model, entry) else model.unparsed).append(entry)
    model.connection.set_authorizer(None)  # from here on it is only asked
    return model


def _add_table(model: Model, entry: Entry) -> None:
    if entry.name.lower() == SEQUENCE:
        model.tables[SEQUENCE] = entry
        if not _is_there(model, SEQUENCE):
            model.connection.execute("CREATE TABLE dbmaint_sequence (id INTEGER PRIMARY KEY AUTOINCREMENT)")
        return
    if entry.name.lower() not in model.tables and _makes(model, entry) and _is_there(model, entry.name):
        model.tables[entry.name.lower()] = entry
    else:
        model.unparsed.append(entry)


def _add_index(model: Model, entry: Entry) -> None:
    if entry.table.lower() in model.tables and _makes(model, entry):
        model.indexes.setdefault(entry.table.lower(), []).append(entry)
    else:
        model.unparsed.append(entry)


def _is_there(model: Model, table: str) -> bool:
    return bool(model.connection.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchone())


def _makes(model: Model, entry: Entry) -> bool:
    try:
        model.connection.execute(entry.sql or "")
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError, ValueError):
        return False
    return True
