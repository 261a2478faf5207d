"""How the columns of a table lie in its records, and whether a record may be one of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from ..connection import connect_in_memory
from ..names import Table, quoted
from .pages import Cell, RawText, Value


@dataclass(frozen=True)
class Shape:
    """How the columns of a table lie in its records.

    `stored` are the columns that an INSERT names, `places` where each stands in the record (None: the
    column is the rowid), `defaults` what SQLite shows for a record older than the column.
    """

    stored: tuple[str, ...]
    places: tuple[int | None, ...]
    defaults: tuple[Value, ...]
    affinities: tuple[str, ...]
    required: tuple[bool, ...]
    """NOT NULL."""
    record_length: int
    rowid_name: str | None
    """What an INSERT calls the rowid; None for WITHOUT ROWID or when the table hides all its names."""
    without_rowid: bool
    key: tuple[str, ...] = ()
    alias_place: int = -1
    """Where the record holds NULL for the column that is the rowid."""
    columns: tuple[int, ...] = ()
    """Column as SQLite numbers them -> its place in the record; -1 for one that is not stored."""

    def excludes(self, cell: Cell) -> bool:
        """Whether the record can be none of the table: it is too long, or repeats the rowid, for which NULL stands."""
        if len(cell.values) > self.record_length or (cell.rowid is None) != self.without_rowid:
            return True
        return 0 <= self.alias_place < len(cell.values) and cell.values[self.alias_place] is not None

    def place_of_column(self, column: int) -> int:
        return self.columns[column]

    def default_at(self, place: int) -> Value:
        return self.defaults[self.places.index(place)] if place in self.places else None


_CONSTANT = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION))
LONGEST_DEFAULT = 1_000_000
"""Bytes."""


def shape_of(connection: sqlite3.Connection, table: Table) -> Shape:
    name = quoted(table.name)
    # cid, name, type, notnull, default, pk, hidden: 2 and 3 are generated columns, 2 is not stored.
    columns = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
    listed = connection.execute("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (table.name,)).fetchone()
    without_rowid = bool(listed and listed[0])
    recorded = [column for column in columns if column[6] != 2]
    alias = None if without_rowid else _rowid_alias(connection, table, columns)
    positions = {column[1]: place for place, column in enumerate(recorded)}
    key: tuple[str, ...] = ()
    if without_rowid:
        key = tuple(str(c[1]) for c in sorted((c for c in columns if c[5]), key=lambda c: int(c[5])))
        rest = [str(column[1]) for column in recorded if column[1] not in key]
        positions = {column: place for place, column in enumerate([*key, *rest])}
    written = [column for column in columns if column[6] == 0]
    return Shape(
        stored=tuple(str(column[1]) for column in written),
        places=tuple(None if column[1] == alias else positions[column[1]] for column in written),
        defaults=tuple(_default(column[4]) for column in written),
        affinities=tuple(_affinity(str(column[2])) for column in written),
        required=tuple(bool(column[3]) for column in written),
        record_length=len(recorded),
        rowid_name=None if without_rowid else _free_rowid_name(columns),
        without_rowid=without_rowid,
        key=key,
        alias_place=positions[alias] if alias is not None else -1,
        columns=tuple(positions.get(str(column[1]), -1) for column in columns),
    )


def _rowid_alias(connection: sqlite3.Connection, table: Table, columns: Sequence[tuple[object, ...]]) -> str | None:
    """The INTEGER PRIMARY KEY column: its value is the rowid and the record holds NULL in its place."""
    key = [column for column in columns if column[5]]
    if len(key) != 1 or str(key[0][2]).upper() != "INTEGER":
        return None
    # 'INTEGER PRIMARY KEY DESC' is the one form that is no alias; it has an index of its own.
    indexes = connection.execute("SELECT count(*) FROM pragma_index_list(?) WHERE origin = 'pk'", (table.name,))
    return None if indexes.fetchone()[0] else str(key[0][1])


def _free_rowid_name(columns: Sequence[tuple[object, ...]]) -> str | None:
    taken = {str(column[1]).lower() for column in columns}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)


def _default(text: object) -> Value:
    """Return the value of a constant expression of the schema; rows that lack the column got it by ALTER TABLE.

    Asked of an empty database, and nothing but a value: the text is whatever somebody wrote into the schema.
    """
    if text is None:
        return None
    with closing(connect_in_memory()) as empty:
        empty.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _CONSTANT else sqlite3.SQLITE_DENY)
        empty.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_DEFAULT)
        try:
            value = empty.execute(f"SELECT {text}").fetchone()[0]
        except sqlite3.Error:
            return None
    assert value is None or isinstance(value, (int, float, str, bytes))
    return value


def _affinity(declared: str) -> str:
    """https://sqlite.org/datatype3.html, 3.1; only REAL matters: it stores whole numbers as integers."""
    text = declared.upper()
    if "INT" in text:
        return "INTEGER"
    if any(word in text for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in text or not text:
        return "BLOB"
    return "REAL" if any(word in text for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def likeness(cells: Sequence[Cell | None], shape: Shape) -> int:
    """2: every record is as such a table usually has them; 1: every record could be one of it; 0: no.

    A whole page must fit; a part could be the rest of another table.
    """
    if not cells or not all(cell is not None and fits(cell, shape) for cell in cells):
        return 0
    whole = all(cell is not None and len(cell.values) == shape.record_length for cell in cells)
    return 2 if whole and all(cell is not None and is_usual(cell, shape) for cell in cells) else 1


def fits(cell: Cell, shape: Shape) -> bool:
    """Not too long, not shorter than any record of the table could be, NULL and numbers only where they may be."""
    if shape.excludes(cell):
        return False
    return bool(cell.values) and all(
        (place < len(cell.values) and _may_be(cell.values[place], affinity, required))
        or (place >= len(cell.values) and not (required and default is None))
        for place, affinity, required, default in _columns(shape)
    )


def _columns(shape: Shape) -> Iterator[tuple[int, str, bool, Value]]:
    columns = zip(shape.places, shape.affinities, shape.required, shape.defaults, strict=True)
    return ((place, affinity, required, default) for place, affinity, required, default in columns if place is not None)


def _may_be(value: Value, affinity: str, required: bool) -> bool:
    # A number in a TEXT column would have been stored as text.
    return not (value is None and required) and not (affinity == "TEXT" and isinstance(value, (int, float)))


def is_usual(cell: Cell, shape: Shape) -> bool:
    """No text or blob where the declaration says number, and no blob where it says text."""
    for place, affinity, _, _ in _columns(shape):
        value = cell.values[place] if place < len(cell.values) else None
        if affinity in ("INTEGER", "REAL") and isinstance(value, (str, bytes)):
            return False
        if affinity == "TEXT" and isinstance(value, bytes) and not isinstance(value, RawText):
            return False
    return True


def row_of(cell: Cell, shape: Shape) -> tuple[Value, ...]:
    row: list[Value] = []
    for place, default in zip(shape.places, shape.defaults, strict=True):
        if place is None:
            row.append(cell.rowid)
        else:
            row.append(cell.values[place] if place < len(cell.values) else default)
    return tuple(row)
