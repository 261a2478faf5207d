"""G: the actions. Each is one transaction or safe to repeat, and is judged by what it left behind."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import Damaged, EngineError, Unable
from ..messages import msg, size
from ..parts import Actions
from ..values import Action, Performed, Progress
from .backup import raw_copy, write_bytes
from .connection import fresh
from .diagnosis.corruption import indexes_of
from .file_copies import synced
from .names import Table, quoted, tables_in
from .repair.replace import replace_indexes, replace_table
from .repair.whole_file import salvage_file
from .restore import put_in_place
from .search_indexes import damage_of, make_again, search_indexes_in
from .table_scan import rowid_name
from .target import DatabaseFile
from .verification import structure


def table_named(connection: sqlite3.Connection, name: str) -> Table:
    table = tables_in(connection).get(name)
    if table is None:
        raise Unable("working on", name, "there is no such table")
    return table


def _vacuum(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    """VACUUM gives new rowids to tables that name none and have no index; VACUUM INTO keeps them."""
    with file.working("rewriting", file.name) as connection:
        before = used_bytes(connection)
        renumbers = any(_is_renumbered(connection, table) for table in tables_in(connection).values())
        if not renumbers:
            connection.execute("VACUUM")
    if renumbers:
        _rewrite_beside(file)
    with file.working("rewriting", file.name) as connection:
        after = used_bytes(connection)
        free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    if free:
        raise Damaged("rewriting", file.name, msg("{free} free pages are left after the rewrite", free=free))
    return Performed(
        msg("The file was rewritten, {before} before and {after} after.", before=size(before), after=size(after)),
        before,
        after,
    )


def _is_renumbered(connection: sqlite3.Connection, table: Table) -> bool:
    """Whether VACUUM would give the rows new rowids (https://sqlite.org/lang_vacuum.html)."""
    if rowid_name(connection, table.name) is None or indexes_of(connection, table):
        return False
    alias = "SELECT count(*) FROM pragma_table_info(?) WHERE pk = 1 AND upper(type) = 'INTEGER'"
    return not connection.execute(alias, (table.name,)).fetchone()[0]


def _rewrite_beside(file: DatabaseFile) -> None:
    """The rewritten file takes the place of the live one as a whole, or not at all."""
    side = file.sides.restored
    fresh(side)
    with file.working("rewriting", file.name) as connection:
        connection.execute("VACUUM INTO ?", (os.fsdecode(side),))
    synced(side)
    put_in_place(file, side)


def used_bytes(connection: sqlite3.Connection) -> int:
    pages, page = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
    return pages * page


def _reindex(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    """An index with unreadable pages cannot be emptied by REINDEX; it is then replaced."""
    try:
        with file.working("making the indexes again of", action.object) as connection:
            table = table_named(connection, action.object)
            before, count = _tree_bytes(connection, table), len(indexes_of(connection, table))
            connection.execute(f"REINDEX {quoted(table.name)}")
            _require_sound(connection, table)
            after = _tree_bytes(connection, table)
    except Damaged:
        return replace_indexes(file, action.object)
    return Performed(msg("{count} indexes were made again and agree with the rows.", count=count), before, after)


def _remake_indexes(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    """Indexes that diagnosis found sound. Whether they agree with the rows is proven for the whole file afterwards."""
    try:
        with file.working("making the indexes again of", action.object) as connection:
            table = table_named(connection, action.object)
            before, count = _tree_bytes(connection, table), len(indexes_of(connection, table))
            connection.execute(f"REINDEX {quoted(table.name)}")
            after = _tree_bytes(connection, table)
    except Damaged:
        return replace_indexes(file, action.object)
    return Performed(msg("{count} indexes were made again.", count=count), before, after)


def _remake_all_indexes(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    """As `_remake_indexes`, of every table; where an index cannot be emptied, table by table."""
    with file.working("making the indexes again of", file.name) as connection:
        tables = tables_in(connection)
        count = sum(len(indexes_of(connection, table)) for table in tables.values())
    try:
        with file.working("making the indexes again of", file.name) as connection:
            connection.execute("REINDEX")
    except Damaged:
        for name in tables:
            _reindex(file, replace(action, object=name), allow_data_loss)
    return Performed(msg("{count} indexes were made again.", count=count), None, None)


def _require_sound(connection: sqlite3.Connection, table: Table) -> None:
    lines = structure(connection, table.name)
    if lines:
        raise Damaged("checking", table.canonical, "; ".join(lines[:3]))


def _tree_bytes(connection: sqlite3.Connection, table: Table) -> int | None:
    """Pages of the table and its indexes; None when this build has no dbstat or cannot read them."""
    total = 0
    try:
        for name in [table.name, *indexes_of(connection, table)]:
            total += connection.execute(
                "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name = ?", (name,)
            ).fetchone()[0]
    except sqlite3.Error:
        return None
    return total


def _analyze(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    with file.working("collecting statistics of", action.object) as connection:
        table = table_named(connection, action.object)
        connection.execute(f"ANALYZE {quoted(table.name)}")
        rows = connection.execute(f"SELECT count(*) FROM {quoted(table.name)} NOT INDEXED").fetchone()[0]
        told = connection.execute(
            "SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = ? COLLATE NOCASE", (table.name,)
        ).fetchone()[0]
        # A table without rows, or whose only indexes are partial and empty, gets no statistics.
        if rows and told is None and indexes_of(connection, table):
            full = connection.execute("SELECT count(*) FROM pragma_index_list(?) WHERE partial = 0", (table.name,))
            if full.fetchone()[0]:
                raise EngineError("collecting statistics of", action.object, "ANALYZE left no statistics")
    return Performed(msg("Statistics of {rows:,} rows were collected.", rows=rows), None, None)


def _analyze_all(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    with file.working("collecting statistics of", file.name) as connection:
        connection.execute("ANALYZE")
        tables = connection.execute("SELECT count(DISTINCT tbl) FROM sqlite_stat1").fetchone()[0]
    return Performed(msg("Statistics of {tables:,} tables with rows were collected.", tables=tables), None, None)


def _replace_indexes(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    return replace_indexes(file, action.object)


def _replace_table(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    return replace_table(file, action.object, allow_data_loss=False)


def _salvage(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    return replace_table(file, action.object, allow_data_loss=allow_data_loss)


def _restore_header(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    """On a copy first; it takes the place of the live file only when SQLite can read it."""
    before = file.path.stat().st_size
    corrections = file.header().corrections
    if not corrections:
        return Performed(msg("The beginning of the header is as it must be already."), before, before)
    count = _with_header(file, corrections)
    return Performed(msg("The header was written again; {count} tables can be seen.", count=count), before, before)


def _correct_page_count(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    """On a copy first, as above; what the count stood for is proven by the check afterwards."""
    header, before = file.header(), file.path.stat().st_size
    if not header.truncated:
        return Performed(msg("The number of pages is as it must be already."), before, before)
    pages = header.file_bytes // header.page_size
    count = _with_header(file, ((28, pages.to_bytes(4, "big")),))
    return Performed(
        msg("The header says {pages:,} pages now; {count} tables can be seen.", pages=pages, count=count),
        before,
        before,
    )


def _with_header(file: DatabaseFile, bytes_at: Sequence[tuple[int, bytes]]) -> int:
    """Put a copy with these bytes in the place of the file; return how many tables can be seen in it."""
    copy = file.sides.restored
    raw_copy(file, copy)
    write_bytes(copy, bytes_at)
    with file.side(copy, "checking") as connection:
        tables_in(connection)
    # The journals stay: they belong to the same file, whose header was all that was wrong.
    put_in_place(file, copy, move_journals=False)
    with file.working("checking", file.name) as connection:
        return len(tables_in(connection))


def _rebuild_search_index(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    """In one transaction; nothing when its own check finds nothing any more."""
    with file.working("making again", action.object) as connection:
        index = next((one for one in search_indexes_in(connection) if one.canonical == action.object), None)
        if index is None:
            raise Unable("making again", action.object, "there is no such table")
        if damage_of(connection, index) is None:
            return Performed(msg("The index is sound already."), None, None)
        connection.execute("BEGIN IMMEDIATE")
        make_again(connection, index)
        if words := damage_of(connection, index):
            raise Damaged("making again", action.object, words)
        connection.execute("COMMIT")
    return Performed(msg("The index was made again from its rows, and its own check finds nothing."), None, None)


def _salvage_file(file: DatabaseFile, action: Action, allow_data_loss: bool) -> Performed:
    return salvage_file(file, allow_data_loss)


ACTIONS: dict[str, Callable[[DatabaseFile, Action, bool], Performed]] = {
    "restore_header": _restore_header,
    "correct_page_count": _correct_page_count,
    "salvage_file": _salvage_file,
    "replace_indexes": _replace_indexes,
    "replace_table": _replace_table,
    "rebuild_search_index": _rebuild_search_index,
    "salvage": _salvage,
    "reindex": _reindex,
    "remake_indexes": _remake_indexes,
    "remake_all_indexes": _remake_all_indexes,
    "vacuum": _vacuum,
    "analyze": _analyze,
    "analyze_all": _analyze_all,
}


BY_BYTES = frozenset(("restore_header", "correct_page_count", "salvage_file"))
"""Work that needs no connection to the file."""


class FileActions(Actions):
    """The work, one action after the other: all of it goes through the one connection that holds the file."""

    def __init__(self, file: DatabaseFile) -> None:
        self.file = file

    def perform(self, action: Action, allow_data_loss: bool) -> Performed:
        """See Actions.perform. Raises Unable for a kind this engine does not have."""
        with self.file.alone(action.kind, action.object):
            if action.kind not in ACTIONS:
                raise Unable(action.kind, action.object, "this is not an action of SQLite")
            if action.needs_data_loss and not allow_data_loss:
                raise Damaged(action.kind, action.object, "it may lose rows, and that is not allowed")
            if self.file.raw is not None and action.kind not in BY_BYTES:
                return salvage_file(self.file, allow_data_loss)  # SQLite does not open the file as it is
            return ACTIONS[action.kind](self.file, action, allow_data_loss)

    def progress(self) -> list[Progress]:
        """Return what is in hand; SQLite does not say how far it is."""
        return [Progress(self.file.name, None, doing) for doing in self.file.in_hand()]
