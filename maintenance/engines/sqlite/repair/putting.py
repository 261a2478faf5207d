"""Makes damaged tables anew of the rows that were gathered, in a file that nobody else uses."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from ...errors import Interrupted, ResourceShortage, Transient
from ...messages import msg
from ...values import Loss
from ..driver_errors import from_driver
from ..names import canonical, quoted
from .insertion import insert_rows
from .model import SEQUENCE, Model
from .pages import Cell, Value
from .placing import Beside, DamagedTable, rows_of, unpacked
from .remains import Remains
from .schema_pages import Entry

BATCH = 2000
LOST_AND_FOUND = "lost_and_found"
WIDEST = 1990
"""Values of a row that a table beside can show; SQLite's own limit is 2,000 columns."""


def make_indexes(work: sqlite3.Connection, indexes: Sequence[Entry]) -> bool:
    """False where the rows do not allow one of them, e.g. because two have one key."""
    forget(work, "type = 'index' AND name = ?", [index.name for index in indexes])
    try:
        for index in indexes:
            work.execute(index.sql or "")
    except sqlite3.Error as error:
        raise_unless_of_rows(error, indexes[0].name)
        return False
    return True


def raise_unless_of_rows(error: sqlite3.Error, name: str) -> None:
    told = from_driver(error, "putting together again", name)
    if isinstance(told, (Interrupted, Transient, ResourceShortage)):
        raise told from error


def forget(work: sqlite3.Connection, condition: str, names: Sequence[str]) -> None:
    if not names:
        return
    work.execute("PRAGMA writable_schema = ON")
    work.executemany(f"DELETE FROM sqlite_master WHERE {condition}", [(name,) for name in names])
    work.execute("PRAGMA writable_schema = RESET")


def put(remains: Remains, work: sqlite3.Connection, table: DamagedTable, beside: Beside) -> list[Loss]:
    """Make the table anew; rows that its constraints do not allow go beside it. Return the indexes that it lost."""
    entry = remains.model.tables[table.name.lower()]
    indexes = remains.model.indexes.get(table.name.lower(), [])
    forget(work, "tbl_name = ? COLLATE NOCASE AND type IN ('table', 'index')", [entry.name])
    work.execute("PRAGMA ignore_check_constraints = ON")
    if entry.name.lower() == SEQUENCE:
        _put_sequences(work, table, remains.rows)
        return []
    work.execute(entry.sql or "")
    unique = [index for index in indexes if "unique" in (index.sql or "").lower().split("(")[0]]
    lost = [loss for index in unique for loss in _index(work, index)]
    columns = [quoted(name) for name in table.shape.stored]
    named = table.shape.rowid_name if table.shape.alias_place < 0 else None
    if named is not None:
        columns = [named, *columns]
    head = f"INSERT INTO {quoted(entry.name)} ({', '.join(columns)})"
    found = rows_of(remains.rows, table)
    work.execute("SAVEPOINT rows")
    while batch := list(islice(found, BATCH)):
        remains.file.raise_if_stopping("putting together again", entry.name)
        _insert(work, head, table, batch, beside, with_rowid=named is not None)
    work.execute("RELEASE rows")
    return lost + [loss for index in indexes if index not in unique for loss in _index(work, index)]


def _insert(
    work: sqlite3.Connection,
    head: str,
    table: DamagedTable,
    batch: Sequence[tuple[Cell, tuple[Value, ...]]],
    beside: Beside,
    with_rowid: bool,
) -> None:
    """All at once, or where one is refused one after the other."""
    whole = [((cell.rowid, *values) if with_rowid else values) for cell, values in batch]
    work.execute("SAVEPOINT batch")
    try:
        insert_rows(work, head, whole)
    except sqlite3.Error as error:
        raise_unless_of_rows(error, table.name)
        work.execute("ROLLBACK TO batch")
        for (cell, _), row in zip(batch, whole, strict=True):
            try:
                insert_rows(work, head, [row])
            except sqlite3.Error as refused:
                raise_unless_of_rows(refused, table.name)
                table.aside += 1
                beside.put(cell, None)
    work.execute("RELEASE batch")


def _index(work: sqlite3.Connection, index: Entry) -> list[Loss]:
    try:
        work.execute(index.sql or "")
    except sqlite3.Error as error:
        raise_unless_of_rows(error, index.name)
        detail = msg("the index cannot be made again: {words}", words=str(error))
        return [Loss(f"index {canonical(index.name)}", 0, (), detail)]
    return []


def _put_sequences(work: sqlite3.Connection, table: DamagedTable, rows: sqlite3.Connection) -> None:
    """The numbers themselves are mended when every table is there."""
    work.execute("CREATE TABLE dbmaint_sequence (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    work.execute("DROP TABLE dbmaint_sequence")
    known = {}
    for cell, _ in rows_of(rows, table):
        if len(cell.values) == 2 and isinstance(cell.values[0], str) and isinstance(cell.values[1], int):
            known[cell.values[0]] = cell.values[1]
    work.execute("DELETE FROM sqlite_sequence")
    work.executemany("INSERT INTO sqlite_sequence VALUES (?, ?)", known.items())


def mend_sequences(work: sqlite3.Connection, model: Model) -> None:
    """No number is given out twice: where the last one given is lost, the highest there is takes its place."""
    if not work.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (SEQUENCE,)).fetchone():
        return
    for entry in model.tables.values():
        if "autoincrement" not in (entry.sql or "").lower():
            continue
        highest = work.execute(f"SELECT max(rowid) FROM {quoted(entry.name)}").fetchone()[0]
        if highest is None:
            continue
        done = work.execute(
            "UPDATE sqlite_sequence SET seq = max(CAST(seq AS INTEGER), ?) WHERE name = ?", (highest, entry.name)
        )
        if not done.rowcount:
            work.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (entry.name, highest))


def put_beside(work: sqlite3.Connection, beside: Beside, names: Collection[str]) -> int:
    """As the shell's .recover shows what belongs to no table; returns how many rows it is.

    `names`: what the schema calls something, folded: the table gets another name.
    """
    count = beside.count
    if not count:
        return 0
    taken = {*names, *(str(row[0]).lower() for row in work.execute("SELECT name FROM sqlite_master"))}
    own = (LOST_AND_FOUND, *(f"{LOST_AND_FOUND}_{number}" for number in range(len(taken) + 1)))
    name = next(free for free in own if free not in taken)
    width = min(beside.widest, WIDEST)
    columns = "".join(f", c{place}" for place in range(width))
    work.execute(f"CREATE TABLE {name} (rootpgno INTEGER, pgno INTEGER, nfield INTEGER, id INTEGER{columns})")
    work.execute("SAVEPOINT rows")
    insert_rows(work, f"INSERT INTO {name}", _rows_beside(beside, width))
    work.execute("RELEASE rows")
    return count


def _rows_beside(beside: Beside, width: int) -> Iterator[list[Value]]:
    for root, page, fields, rowid, row in beside.rows.execute("SELECT root, page, nfield, id, row FROM beside"):
        values = unpacked(row)[:width]
        yield [root if root is not None else page, page, fields, rowid, *values, *[None] * (width - len(values))]
