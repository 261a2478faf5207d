"""Copying a table's rows around pages that the server refuses to read: for MariaDB, which says so and lives.

From either side up to a hole, then again from a row inside that can be read, which makes of one hole two. Each
statement reads one range of the primary key: of several the server may leave out what it cannot read, silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from maintenance.engines.errors import Damaged, EngineError

from .. import structure
from ..connection import Session
from ..driver_errors import MEANING, code_of
from ..names import bindable, full, quoted
from ..structure import Table
from ..target import Server
from .innodb_ranges import Key, Range, ranges_between

CHUNK = 2048
INTEGERS = frozenset(("tinyint", "smallint", "mediumint", "int", "bigint"))
MOST_HOLES = 400
"""Places inside holes that are tried one by one before the rest is given up."""
LISTED = "dbmaint_listed"


@dataclass
class Copy:
    """What is copied from where to where, by which key; names as statements with bound values take them."""

    source: str
    target: str
    columns: str
    key: tuple[str, ...]
    whole_numbers: bool
    listed: str | None
    """A table of all keys as a sound index lists them; None where there is no such index."""
    tried: int = field(default=0)


def copy_between_holes(server: Server, session: Session, table: Table, target: str, columns: str) -> None:
    """Copy into `target` (a full name) every row of the live table that can be read. It has a primary key."""
    [key] = [
        tuple(str(column) for column in index.columns)
        for index in structure.indexes(session, server.schema, table.name)
        if index.name == "PRIMARY"
    ]
    types = {column.name: column.type for column in structure.columns(session, server.schema, table.name)}
    names = tuple(bindable(quoted(column)) for column in key)
    copy = Copy(
        source=bindable(full(server.schema, table.name)),
        target=bindable(target),
        columns=bindable(columns),
        key=names,
        whole_numbers=len(key) == 1 and types[key[0]] in INTEGERS,
        listed=_listing(session, server.schema, table.name, key),
    )
    try:
        _copy_between(server, session, copy, None, None)
    finally:
        session.ask(f"DROP TEMPORARY TABLE IF EXISTS {full(server.schema, LISTED)}")


def _listing(session: Session, schema: str, table: str, key: tuple[str, ...]) -> str | None:
    """Every index holds the keys of its rows; one that can be read tells them without the rows."""
    keys, listed = ", ".join(map(quoted, key)), full(schema, LISTED)
    # Uncommitted: what an index's page cannot prove to be old would be looked up among the rows.
    session.ask("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
    try:
        for index in structure.indexes(session, schema, table):
            if index.name == "PRIMARY" or index.kind != "BTREE":
                continue
            with suppress(DBAPIError):
                session.ask(
                    f"CREATE TEMPORARY TABLE {listed} (PRIMARY KEY ({keys})) ENGINE=InnoDB"
                    f" SELECT {keys} FROM {full(schema, table)} FORCE INDEX ({quoted(index.name)})"
                )
                return bindable(listed)
    finally:
        session.ask("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    return None


def _copy_between(server: Server, session: Session, copy: Copy, low: Key | None, high: Key | None) -> None:
    """Copy what can be read between two keys: from the left to a hole, from the right to it, then inside."""
    left, hole = _copy_side(server, session, copy, low, high, ascending=True)
    if not hole:
        return
    right, _ = _copy_side(server, session, copy, left, high, ascending=False)
    for middle in _middles(session, copy, left, right):
        copy.tried += 1
        if copy.tried > MOST_HOLES:
            return
        if _copy_rows(session, copy, middle, right, 1, ascending=True) == 1:
            # A readable row inside: the hole is two holes.
            found = _edge(session, copy, copy.target, middle, right)
            _copy_between(server, session, copy, left, found)
            _copy_between(server, session, copy, found, right)
            return


def _middles(session: Session, copy: Copy, left: Key | None, right: Key | None) -> Iterator[Key]:
    """Keys inside a hole above which a row is tried: those that are listed, else whole numbers that may be none."""
    if copy.listed is not None:
        counts = [_count(session, copy, one) for one in _ranges(session, copy, left, right)]
        for place in _places(sum(counts)):
            found = _edge(session, copy, copy.listed, left, right, place)
            if found is not None:
                yield found
    elif copy.whole_numbers and left is not None and right is not None:
        lowest, highest = int(str(left[0])), int(str(right[0]))
        for place in _places(highest - lowest):
            yield (lowest + place - 1,)


def _count(session: Session, copy: Copy, one: Range) -> int:
    where, values = one.where(copy.key)
    return int(session.value(f"SELECT COUNT(*) FROM {copy.listed}{where}", **values))


def _places(count: int) -> Iterator[int]:
    """Where in so many to look, coarse to fine, at most some dozens."""
    for parts in (2, 4, 8, 16, 32):
        if count < parts:
            return
        for number in range(1, parts, 2):
            yield count * number // parts


def _copy_side(
    server: Server, session: Session, copy: Copy, low: Key | None, high: Key | None, ascending: bool
) -> tuple[Key | None, bool]:
    """Copy in shrinking chunks until one row cannot be read: the last key copied, and whether there is a hole."""
    size = CHUNK
    while True:
        server.raise_if_stopping("salvaging", copy.source)
        done = _copy_rows(session, copy, low, high, size, ascending)
        if done == 0:
            return (low if ascending else high), False
        if done is None and size == 1:
            return (low if ascending else high), True
        if done is None:
            size = max(1, size // 4)
        elif ascending:
            low = _edge(session, copy, copy.target, low, high, last=True)
        else:
            high = _edge(session, copy, copy.target, low, high)


def _copy_rows(
    session: Session, copy: Copy, low: Key | None, high: Key | None, limit: int, ascending: bool
) -> int | None:
    """Rows copied, at most `limit`; 0 when there are no more; None when the next one cannot be read.

    Reading backwards the server takes a page that it cannot read for the end, unless it begins there. So what lies
    beyond a range is asked for only when the range gave nothing.
    """
    ranges = _ranges(session, copy, low, high)
    for one in ranges if ascending else reversed(ranges):
        done = _copy_range(session, copy, one, limit, ascending)
        if done != 0:
            return done
    return 0


def _copy_range(session: Session, copy: Copy, one: Range, limit: int, ascending: bool) -> int | None:
    """Rows copied by one statement, None when it met a damaged page (then nothing of it is copied)."""
    where, values = one.where(copy.key)
    try:
        session.ask(
            f"INSERT INTO {copy.target} ({copy.columns}) SELECT {copy.columns} FROM {copy.source}"
            f" FORCE INDEX (PRIMARY){where} ORDER BY {_order(copy, ascending)} LIMIT %(limit)s",
            limit=limit,
            **values,
        )
        return int(session.value("SELECT ROW_COUNT()"))
    except DBAPIError as error:
        if issubclass(MEANING.get(code_of(error) or 0, EngineError), Damaged):
            return None
        raise


def _edge(
    session: Session, copy: Copy, table: str, low: Key | None, high: Key | None, place: int = 0, last: bool = False
) -> Key | None:
    """The first (or last) key of a sound table between two, or the one that has `place` others before it."""
    ranges = _ranges(session, copy, low, high)
    for one in reversed(ranges) if last else ranges:
        where, values = one.where(copy.key)
        rows = session.ask(
            f"SELECT {', '.join(copy.key)} FROM {table}{where} ORDER BY {_order(copy, not last)} LIMIT %(place)s, 1",
            place=place,
            **values,
        )
        if rows:
            return tuple(rows[0])
        place -= _count(session, copy, one) if place else 0
    return None


def _order(copy: Copy, ascending: bool) -> str:
    return ", ".join(f"{column} {'ASC' if ascending else 'DESC'}" for column in copy.key)


def _ranges(session: Session, copy: Copy, low: Key | None, high: Key | None) -> list[Range]:
    """What lies between two keys, both left out, as single ranges in their order."""
    same = 0 if low is None or high is None else _same(session, copy, low, high)
    return ranges_between(low, high, len(copy.key), same)


def _same(session: Session, copy: Copy, low: Key, high: Key) -> int:
    """In how many columns two keys begin alike, as the server compares them; `low` is a key of a sound table."""
    for number in range(len(low) - 1):
        equal = [f"{column} = %(low{n})s" for n, column in enumerate(copy.key)]
        equal.append(f"{copy.key[number]} = %(high)s")
        values = {f"low{n}": value for n, value in enumerate(low)}
        if not session.ask(
            f"SELECT 1 FROM {copy.listed or copy.target} WHERE {' AND '.join(equal)}", high=high[number], **values
        ):
            return number
    return len(low) - 1
