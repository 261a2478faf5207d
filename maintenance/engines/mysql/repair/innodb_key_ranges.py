"""Copying a table's rows around pages that would end the server: for MySQL, which dies of reading a bad page.

Where the pages begin and end is read from the file; the server is asked only for what lies beside them, always
downwards and with locks, because then it reads neither ahead of a row nor beyond the last one that it was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from sqlalchemy.exc import DBAPIError

from maintenance.engines.errors import Damaged
from maintenance.engines.messages import msg

from .. import structure
from ..connection import Session
from ..filenames import in_file
from ..names import bindable, canonical, full, quoted
from ..structure import Table
from ..target import Server
from .innodb_leaf_pages import Key, Numbers, Stretch, Way, way_around
from .innodb_pages import MOST_PAGES, bad_pages
from .innodb_ranges import Range, ranges_between

CHUNK = 5000
WIDTHS = {"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "bigint": 8}
DOING = "looking for a way around the bad pages of"


@dataclass(frozen=True)
class Copying:
    """`source` and `target` are full names, `columns` what is copied, `key` the key's columns; all for bound values."""

    source: str
    target: str
    columns: str
    key: tuple[str, ...]


def copy_around(server: Server, session: Session, table: Table, target: str, columns: str) -> None:
    """Copy into `target` every row of the live table but those on unreadable pages (and, where only reading such a
    page would find it, the row after them). Raises Damaged when no such way can be told.
    """
    try:
        names, key = _key(session, server.schema, table.name)
        way = _way(server, session, table, key)
    except Damaged as error:
        words = msg(
            "{why}. Restore the table from a backup; or start the server with innodb_force_recovery=1, dump the table,"
            " drop it, start the server normally and load the dump: rows of the bad pages may be wrong or missing",
            why=error.words,
        )
        raise Damaged(DOING, canonical(table.name), words) from error
    source = bindable(full(server.schema, table.name))
    copying = Copying(source, bindable(target), bindable(columns), tuple(bindable(quoted(name)) for name in names))
    for stretch in way.stretches:
        _copy_stretch(server, session, copying, stretch)


def _key(session: Session, schema: str, table: str) -> tuple[list[str], Key]:
    rows = session.ask(
        "SELECT c.column_name, c.data_type, c.column_type LIKE '%%unsigned%%' FROM information_schema.statistics s"
        " JOIN information_schema.columns c ON c.table_schema = s.table_schema AND c.table_name = s.table_name"
        " AND c.column_name = s.column_name"
        " WHERE s.table_schema = %(s)s AND s.table_name = %(t)s AND s.index_name = 'PRIMARY' ORDER BY s.seq_in_index",
        s=schema,
        t=table,
    )
    if not rows or any(str(kind).lower() not in WIDTHS for _, kind, _ in rows):
        raise Damaged(DOING, canonical(table), "its primary key is not of whole numbers alone")
    columns = tuple((WIDTHS[str(kind).lower()], bool(unsigned)) for _, kind, unsigned in rows)
    return [str(name) for name, _, _ in rows], Key(columns)


def _way(server: Server, session: Session, table: Table, key: Key) -> Way:
    """From the file, with everything that the server has changed written into it and nothing written meanwhile."""
    name = canonical(table.name)
    index = session.value(
        f"SELECT i.index_id FROM information_schema.{server.capabilities.innodb_indexes} i"
        f" JOIN information_schema.{server.capabilities.innodb_tables} t ON t.table_id = i.table_id"
        " WHERE i.name = 'PRIMARY' AND t.name = %(t)s",
        t=f"{in_file(server.schema)}/{in_file(table.name)}",
    )
    size = int(session.value("SELECT @@GLOBAL.innodb_page_size"))
    with server.session(DOING, name, limited=False) as still:
        still.ask(f"FLUSH TABLES {full(server.schema, table.name)} FOR EXPORT")
        try:
            found = bad_pages(server, still, server.schema, table)
            files = {page.file for page in found or ()}
            if index is None or len(files) != 1 or size != 16_384:
                raise Damaged(
                    DOING, name, "its file is not the only one, has other pages than usual, or cannot be read"
                )
            if found is None or len(found) >= MOST_PAGES:
                raise Damaged(DOING, name, msg("more than {count} of its pages are bad", count=MOST_PAGES - 1))
            return way_around(files.pop(), int(index), key, {page.page for page in found}, name)
        finally:
            still.ask("UNLOCK TABLES")


def _copy_stretch(server: Server, session: Session, copying: Copying, stretch: Stretch) -> None:
    """The rows above the edge, greatest first; then the edge itself, where that is harmless.

    Both ends of each range lie in the stretch: what begins as the edge does is not less than it.
    """
    below = stretch.below
    while any(_copy(session, copying, one, CHUNK) for one in reversed(_ranges(copying, stretch.above, below))):
        server.raise_if_stopping("salvaging", copying.source)
        below = _least(session, copying, stretch.above)
    if stretch.above is not None and stretch.edge_readable:
        beyond = (*stretch.above[:-1], stretch.above[-1] + 1)
        for one in _ranges(copying, stretch.alone_from, beyond):
            _copy(session, copying, one, 1)


def _ranges(copying: Copying, low: Numbers | None, high: Numbers | None) -> list[Range]:
    pairs = zip(low or (), high or (), strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return ranges_between(low, high, len(copying.key), same)


def _least(session: Session, copying: Copying, above: Numbers | None) -> Numbers | None:
    """The least key above this one that was copied."""
    keys = ", ".join(copying.key)
    for one in _ranges(copying, above, None):
        where, values = one.where(copying.key)
        rows = session.ask(f"SELECT {keys} FROM {copying.target}{where} ORDER BY {keys} LIMIT %(one)s", one=1, **values)
        if rows:
            return tuple(int(number) for number in rows[0])
    return None


def _copy(session: Session, copying: Copying, one: Range, limit: int) -> int:
    """Rows copied of a range; at most `limit`, greatest first."""
    where, values = one.where(copying.key)
    order = ", ".join(f"{column} DESC" for column in copying.key)
    session.ask(
        f"INSERT INTO {copying.target} ({copying.columns}) SELECT {copying.columns} FROM {copying.source}"
        f" FORCE INDEX (PRIMARY){where} ORDER BY {order} LIMIT %(limit)s FOR SHARE",
        limit=limit,
        **values,
    )
    return int(session.value("SELECT ROW_COUNT()"))


def rows_listed(server: Server, session: Session, schema: str, table: Table) -> int | None:
    """All rows as a sound secondary index lists them, without reading one; None when there is no such index."""
    bad = bad_pages(server, session, schema, table)
    if bad is None:
        return None
    damaged = {page.index for page in bad}
    for index in structure.indexes(session, schema, table.name):
        if index.name == "PRIMARY" or index.kind != "BTREE" or index.name in damaged or None in damaged:
            continue
        try:
            # Uncommitted: what an index's page cannot prove to be old would be looked up among the rows. SUM, because
            # a server may count through the rows whatever index it is told to use.
            session.ask("SET SESSION transaction_isolation = 'READ-UNCOMMITTED'")
            return int(
                session.value(
                    f"SELECT COALESCE(SUM(1), 0) FROM {full(schema, table.name)} FORCE INDEX ({quoted(index.name)})"
                )
            )
        except DBAPIError:
            return None
        finally:
            session.ask("SET SESSION transaction_isolation = DEFAULT")
    return None
