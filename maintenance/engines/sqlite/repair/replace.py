"""Makes a damaged table or its indexes again, in one transaction, without touching any other table.

DROP reads every page of what it drops and so fails on a damaged one. Here the entry is taken out of the
schema table instead (https://sqlite.org/pragma.html#pragma_writable_schema), which leaves the old pages
unused in the file until it is rewritten.
"""

# ruff: noqa: S608 - identifiers are quoted by the dialect, values are bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from ...errors import Damaged, Unable
from ...messages import Message, msg
from ...values import Loss, Performed
from ..backup import image_copy
from ..connection import scratch
from ..diagnosis.corruption import Harm, indexes_of
from ..driver_errors import translated
from ..names import Table, quoted, tables_in
from ..sessions import DatabaseFile
from ..table_scan import table_scan
from ..verification import structure
from .insertion import insert_rows
from .pages import PageFile
from .salvage import Found, Other, Row, Shape, rows_of_tree, shape_of, stray_rows

BATCH = 5000
SHOWN = 10
"""Lost rows named in the report sentence."""


def replace_indexes(file: DatabaseFile, name: str) -> Performed:
    """Those of the table that cannot be read or contradict it. Nothing when all are sound already."""
    with file.working("making the indexes again of", name) as connection:
        table = _table(connection, name)
        harm = Harm(connection, [table], whole=False)
        sick = [*harm.broken.get(name, []), *harm.wrong.get(name, [])]
        if name in harm.rows:
            raise Damaged(
                "making the indexes again of", name, msg("its rows cannot all be read: {words}", words=harm.rows[name])
            )
        if not sick:
            return Performed(msg("All indexes are sound already."), None, None)
        texts = _texts(connection, "index", table, sick)
        constraint = len(texts) < len(sick)
        if not constraint:
            with _transaction(connection):
                _forget(connection, "name IN (" + ", ".join("?" * len(sick)) + ") AND type = 'index'", sick)
                for text in texts:
                    connection.execute(text)
                _require_sound(connection, table)
    if constraint:
        # The index of a constraint has no statement of its own; it comes back with its table.
        return replace_table(file, name, allow_data_loss=False)
    sentence = msg("{indexes} made again from the rows, and the check finds nothing.", indexes=", ".join(sick))
    return Performed(sentence, None, None)


def replace_table(file: DatabaseFile, name: str, allow_data_loss: bool) -> Performed:
    """Moves every row that can be found into a new table of the same definition.

    Raises Damaged, with nothing changed, when rows are lost or it cannot be proven that none is, and
    `allow_data_loss` is false.
    """
    with file.working("moving the rows of", name) as connection:
        table = _table(connection, name)
        if not structure(connection, table.name):
            return Performed(msg("The table and its indexes are sound already."), None, None)
        shape = shape_of(connection, table)
    with _rows_file(file) as rows:
        try:
            outcome = _by_scan(file, table, shape, rows)
        except Damaged:
            outcome = _by_pages(file, table, shape, rows)
        return _replaced(file, table, shape, rows, outcome, allow_data_loss)


def move_by_pages(file: DatabaseFile, name: str) -> Performed:
    """As `replace_table`, but never trusting a scan. For a table that SQLite reads without complaint too."""
    with file.working("moving the rows of", name) as connection:
        table = _table(connection, name)
        shape = shape_of(connection, table)
    with _rows_file(file) as rows:
        return _replaced(file, table, shape, rows, _by_pages(file, table, shape, rows), allow_data_loss=True)


def _replaced(
    file: DatabaseFile, table: Table, shape: Shape, rows: sqlite3.Connection, outcome: Gathered, allow_data_loss: bool
) -> Performed:
    if outcome.loss is not None and not allow_data_loss:
        raise Damaged("repairing", table.canonical, str(outcome.loss.detail))
    with file.working("replacing", table.canonical) as connection, _transaction(connection):
        kept = _put(connection, table, shape, rows)
        _require_sound(connection, table)
    sentence = msg("{rows:,} rows were moved into a new table, and the check finds nothing.", rows=kept)
    if outcome.stray:
        sentence = msg(
            "{rows:,} rows were moved into a new table, {stray:,} of them from pages that nothing led to any more; the "
            "check finds nothing.",
            rows=kept,
            stray=outcome.stray,
        )
    return Performed(sentence, None, None, (outcome.loss,) if outcome.loss is not None else ())


# -- gathering -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gathered:
    """`loss` is None only when it is proven that every row was found."""

    rows: int
    loss: Loss | None
    stray: int = 0


@contextmanager
def _rows_file(file: DatabaseFile) -> Iterator[sqlite3.Connection]:
    """A scratch database for rows on their way; an earlier one is dropped, nothing in it is needed."""
    path = file.sides.rows
    with closing(scratch(path)) as rows:
        try:
            yield rows
        finally:
            path.unlink(missing_ok=True)


def _by_scan(file: DatabaseFile, table: Table, shape: Shape, rows: sqlite3.Connection) -> Gathered:
    with file.working("reading", table.canonical) as connection:
        _collect(file, rows, shape, _scanned(connection, table, shape))
    return Gathered(_count(rows), None)


def _by_pages(file: DatabaseFile, table: Table, shape: Shape, rows: sqlite3.Connection) -> Gathered:
    found = Found()
    with file.working("listing the trees of", file.name) as connection:
        others = _other_trees(connection, table)
    with PageFile(image_copy(file)) as source:
        _collect(file, rows, shape, rows_of_tree(source, shape, table.root, found))
        _collect(file, rows, shape, stray_rows(source, shape, table.root, others, found), into="stray")
    found.stray = _merge_strays(rows)
    with file.working("reading the indexes of", table.canonical) as connection:
        expected = _expected(connection, table, shape, rows)
    return Gathered(_count(rows), _loss(rows, table, shape, found, expected), found.stray)


def _scanned(connection: sqlite3.Connection, table: Table, shape: Shape) -> Iterator[Row]:
    rowid = shape.rowid_name or "NULL"
    columns = ", ".join(quoted(name) for name in shape.stored)
    for row in connection.execute(table_scan(connection, table.name, f"{rowid}, {columns}")):
        yield row[0], row[1:]


def _collect(
    file: DatabaseFile,
    rows: sqlite3.Connection,
    shape: Shape,
    source: Iterator[Row],
    into: Literal["found", "stray"] = "found",
) -> None:
    columns = [f"c{place}" for place in range(len(shape.stored))]
    key = "INTEGER PRIMARY KEY" if into == "found" else "INTEGER"
    rows.execute(f"DROP TABLE IF EXISTS {into}")
    # No types: a value stays what it is.
    rows.execute(f"CREATE TABLE {into} (id {key}, {', '.join(columns)})")
    with _together(rows):
        while batch := list(islice(source, BATCH)):
            file.raise_if_stopping("reading the rows of", file.name)
            insert_rows(rows, f"INSERT OR IGNORE INTO {into}", ((rowid, *values) for rowid, values in batch))


@contextmanager
def _together(rows: sqlite3.Connection) -> Iterator[None]:
    rows.execute("BEGIN")
    try:
        yield
    except BaseException:
        rows.execute("ROLLBACK")
        raise
    rows.execute("COMMIT")


def _merge_strays(rows: sqlite3.Connection) -> int:
    """Takes over stray rows of which there is one alone: of two with one rowid, either may be the wrong one."""
    done = rows.execute(
        "INSERT OR IGNORE INTO found SELECT * FROM stray"
        " WHERE id IN (SELECT id FROM stray GROUP BY id HAVING count(*) = 1)"
    )
    return done.rowcount


def _other_trees(connection: sqlite3.Connection, table: Table) -> list[Other]:
    tables = {other.name: other for other in tables_in(connection).values()}
    listed = connection.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0").fetchall()
    found = [Other(1, None)]
    for name, root in listed:
        if name != table.name:
            found.append(Other(int(root), shape_of(connection, tables[name]) if name in tables else None))
    return found


def _expected(connection: sqlite3.Connection, table: Table, shape: Shape, rows: sqlite3.Connection) -> int | None:
    """How many rows the readable indexes know together; their rowids go into `expected`. None: no such index.

    No index is believed alone: an entry missing from one of them would make a row vanish in silence.
    """
    rows.execute("DROP TABLE IF EXISTS expected")
    rows.execute("CREATE TABLE expected (id INTEGER PRIMARY KEY)")
    counts: list[int] = []
    for index in _full_indexes(connection, table):
        rowid = shape.rowid_name or "1"
        statement = f"SELECT {rowid} FROM {quoted(table.name)} INDEXED BY {quoted(index)}"
        try:
            if not _reads(connection, statement, index):
                continue
            count = 0
            with closing(connection.execute(statement)) as known, _together(rows):
                while batch := known.fetchmany(BATCH):
                    count += len(batch)
                    if shape.rowid_name is not None:
                        rows.executemany("INSERT OR IGNORE INTO expected VALUES (?)", batch)
            counts.append(count)
        except sqlite3.Error as error:
            if translated(error, "reading", index).kind != "integrity":
                raise
    if not counts:
        return None
    return max(counts) if shape.rowid_name is None else int(rows.execute("SELECT count(*) FROM expected").fetchone()[0])


def _reads(connection: sqlite3.Connection, statement: str, index: str) -> bool:
    """Whether the plan of a statement reads this index and nothing else."""
    plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()]
    return len(plan) == 1 and plan[0].endswith(f"INDEX {index}")


def _full_indexes(connection: sqlite3.Connection, table: Table) -> list[str]:
    """Indexes with an entry for every row, other than the key of a WITHOUT ROWID table: that is the table."""
    partial = {
        str(row[1]) for row in connection.execute(f"PRAGMA index_list({quoted(table.name)})").fetchall() if row[4]
    }
    return [name for name in indexes_of(connection, table) if name not in partial]


def _loss(rows: sqlite3.Connection, table: Table, shape: Shape, found: Found, expected: int | None) -> Loss | None:
    pages = tuple(sorted(set(found.bad_pages)))
    if expected is None:
        detail = msg(
            "{kept:,} rows were found, {cells} records could not be read, no intact index tells how many there were. "
            "{stray} rows come from pages that belonged to no table any more and may have been deleted before; "
            "{unclear} more were left out because they may belong to another damaged table.",
            kept=_count(rows),
            cells=found.bad_cells,
            stray=found.stray,
            unclear=found.unclear,
        )
        return Loss(table.canonical, None, pages, detail)
    if shape.rowid_name is None:
        lost = max(0, expected - _count(rows))
        if not lost and pages:
            # As many rows as the largest index knows prove nothing of those that it does not know.
            return Loss(table.canonical, None, pages, _unproven(_count(rows)))
        return Loss(table.canonical, lost, pages, _said(lost, expected, [])) if lost else None
    alone = int(rows.execute("SELECT count(*) FROM found WHERE id NOT IN (SELECT id FROM expected)").fetchone()[0])
    missing = "FROM expected WHERE id NOT IN (SELECT id FROM found)"
    lost = int(rows.execute(f"SELECT count(*) {missing}").fetchone()[0])
    if not lost and alone and pages:
        return Loss(table.canonical, None, pages, _doubt(alone))
    if not lost:
        return None
    first = [int(row[0]) for row in rows.execute(f"SELECT id {missing} ORDER BY id LIMIT {SHOWN}")]
    return Loss(table.canonical, lost, pages, _said(lost, expected, first))


def _unproven(count: int) -> Message:
    return msg(
        "{count:,} rows were found; pages of the table are lost, and rows that no index knew would have been on them.",
        count=count,
    )


def _doubt(alone: int) -> Message:
    return msg(
        "{alone:,} rows that were found are in no index, so that the indexes do not prove that every row was found. "
        "They are kept.",
        alone=alone,
    )


def _said(lost: int, expected: int, first: list[int]) -> Message:
    if not first:
        return msg(
            "{lost:,} of {expected:,} rows that an intact index knows cannot be read.", lost=lost, expected=expected
        )
    return msg(
        "{lost:,} of {expected:,} rows that an intact index knows cannot be read, the first with rowid {first}.",
        lost=lost,
        expected=expected,
        first=", ".join(str(number) for number in first),
    )


def _count(rows: sqlite3.Connection) -> int:
    return int(rows.execute("SELECT count(*) FROM found").fetchone()[0])


# -- putting -------------------------------------------------------------------------------------------


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; the schema in memory follows."""
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.set_progress_handler(None, 0)
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("PRAGMA writable_schema = RESET")
        connection.execute("PRAGMA ignore_check_constraints = OFF")


def _put(connection: sqlite3.Connection, table: Table, shape: Shape, rows: sqlite3.Connection) -> int:
    indexes = _texts(connection, "index", table, None)
    triggers = _texts(connection, "trigger", table, None)
    _forget(connection, "tbl_name = ? COLLATE NOCASE AND type IN ('table', 'index', 'trigger')", [table.name])
    connection.execute(table.sql)
    columns = [quoted(name) for name in shape.stored]
    picked = [f"c{place}" for place in range(len(columns))]
    if shape.rowid_name is not None:
        columns, picked = [shape.rowid_name, *columns], ["id", *picked]
    head = f"INSERT INTO {quoted(table.name)} ({', '.join(columns)})"
    source = rows.execute(f"SELECT {', '.join(picked)} FROM found ORDER BY id")
    while batch := source.fetchmany(BATCH):
        insert_rows(connection, head, batch)
    for text in [*indexes, *triggers]:
        connection.execute(text)
    kept = int(connection.execute(f"SELECT count(*) FROM {quoted(table.name)} NOT INDEXED").fetchone()[0])
    if kept != _count(rows):
        raise Damaged(
            "replacing", table.canonical, msg("{rows} rows went in and {kept} came out", rows=_count(rows), kept=kept)
        )
    return kept


def _texts(connection: sqlite3.Connection, kind: str, table: Table, names: list[str] | None) -> list[str]:
    """The statements that make the indexes or triggers of a table."""
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = ? AND tbl_name = ? COLLATE NOCASE AND sql IS NOT NULL"
        " ORDER BY rowid",
        (kind, table.name),
    ).fetchall()
    return [str(sql) for name, sql in rows if names is None or name in names]


def _forget(connection: sqlite3.Connection, condition: str, values: list[str]) -> None:
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(f"DELETE FROM sqlite_master WHERE {condition}", values)
    connection.execute("PRAGMA writable_schema = RESET")


def _table(connection: sqlite3.Connection, name: str) -> Table:
    table = tables_in(connection).get(name)
    if table is None:
        raise Unable("working on", name, "there is no such table")
    return table


def _require_sound(connection: sqlite3.Connection, table: Table) -> None:
    lines = structure(connection, table.name)
    if lines:
        raise Damaged("checking", table.canonical, "; ".join(lines[:3]))
