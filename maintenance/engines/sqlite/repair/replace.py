"""Makes a damaged table or its indexes again, in one transaction, without touching any other table.

DROP reads every page of what it drops and so fails on a damaged one. Here the entry is taken out of the
schema table instead (https://sqlite.org/pragma.html#pragma_writable_schema), which leaves the old pages
unused in the file until it is rewritten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import Damaged, Unable
from ...messages import msg
from ...values import Loss, Performed
from ..backup import image_copy
from ..diagnosis.corruption import Harm
from ..names import Table, quoted, tables_in
from ..target import DatabaseFile
from ..verification import structure
from .layout import layout_of
from .pages import PageFile
from .placing import Beside, DamagedTable
from .putting import forget, put
from .remains import Remains, gather, look_at, looks_sound, loss_of, rows_file


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
                forget(connection, "name = ? AND type = 'index'", sick)
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
    return move_by_pages(file, name, allow_data_loss)


def move_by_pages(file: DatabaseFile, name: str, allow_data_loss: bool) -> Performed:
    """As `replace_table`, whatever SQLite says of the table; rows are read from the pages of a copy."""
    with file.working("moving the rows of", name) as connection:
        table = _table(connection, name)
    layout = layout_of(image_copy(file))
    if layout is None:
        raise Damaged("moving the rows of", name, "no page of the file follows the format")
    with PageFile(file.sides.evidence, layout) as source, rows_file(file) as rows:
        remains = look_at(file, source, rows)
        sound = {other for other, entry in remains.model.tables.items() if looks_sound(remains, entry)}
        beside = Beside(rows)
        damaged = gather(remains, sound - {table.name.lower()}, beside, set())
        own = next((one for one in damaged if one.name.lower() == table.name.lower()), None)
        if own is None:
            raise Damaged("moving the rows of", name, "its definition cannot be read")
        with file.working("replacing", table.canonical) as connection, _transaction(connection):
            losses = _replaced(connection, remains, table, own, beside)
            if losses and not allow_data_loss:
                raise Damaged("repairing", table.canonical, str(losses[0].detail))
            _require_sound(connection, table)
            kept = int(connection.execute(f"SELECT count(*) FROM {quoted(table.name)} NOT INDEXED").fetchone()[0])
    sentence = msg("{rows:,} rows were moved into a new table, and the check finds nothing.", rows=kept)
    if own.stray:
        sentence = msg(
            "{rows:,} rows were moved into a new table, {stray:,} of them from pages that nothing led to any more; the "
            "check finds nothing.",
            rows=kept,
            stray=own.stray,
        )
    return Performed(sentence, None, None, tuple(losses))


def _replaced(
    connection: sqlite3.Connection, remains: Remains, table: Table, own: DamagedTable, beside: Beside
) -> list[Loss]:
    """Put the rows into the live file. Those that belong to no table are left out: only this table is worked on."""
    triggers = _texts(connection, "trigger", table, None)
    forget(connection, "tbl_name = ? COLLATE NOCASE AND type = 'trigger'", [table.name])
    lost = put(remains, connection, own, beside)
    for text in triggers:
        connection.execute(text)
    loss = loss_of(remains, own)
    return [*([loss] if loss is not None else []), *lost]


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


def _texts(connection: sqlite3.Connection, kind: str, table: Table, names: list[str] | None) -> list[str]:
    """The statements that make the indexes or triggers of a table."""
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = ? AND tbl_name = ? COLLATE NOCASE AND sql IS NOT NULL"
        " ORDER BY rowid",
        (kind, table.name),
    ).fetchall()
    return [str(sql) for name, sql in rows if names is None or name in names]


def _table(connection: sqlite3.Connection, name: str) -> Table:
    table = tables_in(connection).get(name)
    if table is None:
        raise Unable("working on", name, "there is no such table")
    return table


def _require_sound(connection: sqlite3.Connection, table: Table) -> None:
    lines = structure(connection, table.name)
    if lines:
        raise Damaged("checking", table.canonical, "; ".join(lines[:3]))
