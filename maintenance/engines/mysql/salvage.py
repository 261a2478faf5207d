"""Saving the readable rows of an InnoDB table with unreadable pages, into a table that takes its place.

The damaged original is moved aside, not dropped. What was lost is counted by an index that lists every
row without reading it.
"""

# ruff: noqa: S608 -- only quoted names and numbers stand in statements; values are bound

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from ..errors import Damaged, EngineError
from ..values import Loss, Performed
from ..words import say
from . import structure
from .around import copy_around, rows_listed
from .errorlog import log_lines
from .failures import MEANING, code_of
from .filenames import in_file
from .names import bindable, canonical, full, quoted
from .pages import bad_pages
from .proof import check_table
from .quarantine import (
    FOREIGN_KEY,
    create_missing,
    foreign_key_clause,
    move,
    old_schema,
    point_back,
    salvage_schema,
    save_definitions,
    saved_definitions,
    saved_foreign_keys,
    set_triggers_aside,
)
from .server import Server, Session
from .structure import Definition, Table

CHUNK = 2048
INTEGERS = frozenset(("tinyint", "smallint", "mediumint", "int", "bigint"))
MOST_HOLES = 400
"""Pieces of a hole that are tried one by one before the rest is given up."""


@dataclass
class Copy:
    """What is copied from where to where, by which key."""

    source: str
    target: str
    key: tuple[str, ...]
    whole_numbers: bool
    columns: str
    holes: int = field(default=0)


def salvage(server: Server, table: Table, allow_data_loss: bool) -> Performed:
    """Raises Damaged when loss is not allowed, or when not even the beginning of the table can be read."""
    name = canonical(table.name)
    if not allow_data_loss:
        raise Damaged(
            "repairing", name, "some of its pages cannot be read; their rows can only be had from a backup, or be lost"
        )
    if table.versioned:
        raise Damaged("repairing", name, "the history it keeps cannot be saved row by row; only a backup helps")
    with server.session("salvaging", name, limited=False) as session:
        if not replaced_already(server, session, table.name):
            _copy_readable(server, session, table)
            _replace(server, session, table.name)
            if server.spared is not None:
                server.spared.pop(table.name, None)
        _bring_back(server, session)
        saved = int(session.value(f"SELECT COUNT(*) FROM {full(server.schema, table.name)}"))
        expected = _expected_rows(server, session, old_schema(server), table)
        pages = _bad_pages(server, session, table)
    check_table(server, table, extended=server.check_compares_indexes)
    lost = expected - saved if expected is not None else None
    loss = Loss(
        name,
        lost,
        pages,
        say(
            "{saved:,} rows were saved; the damaged original is {original}",
            saved=saved,
            original=f"{old_schema(server)}.{name}",
        ),
    )
    return Performed(
        say("{table} had unreadable pages: {saved:,} rows saved", table=name, saved=saved), None, None, (loss,)
    )


def _expected_rows(server: Server, session: Session, schema: str, table: Table) -> int | None:
    """All rows as a sound secondary index counts them; None when there is none."""
    if server.reading_damage_kills:
        return rows_listed(server, session, schema, table)
    with suppress(DBAPIError):
        for index in structure.indexes(session, schema, table.name):
            if index.name != "PRIMARY" and index.kind == "BTREE":
                name = full(schema, table.name)
                with suppress(DBAPIError):
                    return int(session.value(f"SELECT COUNT(*) FROM {name} FORCE INDEX ({quoted(index.name)})"))
    return None


def replaced_already(server: Server, session: Session, table: str) -> bool:
    """A crash after the exchange: the original is aside and another is in its place."""
    aside = {one.name for one in structure.tables(session, old_schema(server))}
    live = {one.name for one in structure.tables(session, server.schema)}
    return table in aside and table in live


def _copy_readable(server: Server, session: Session, damaged: Table) -> None:
    schema, table = salvage_schema(server), damaged.name
    structure.create_schema(session, schema, server.schema)
    session.ask(f"DROP TABLE IF EXISTS {full(schema, table)}")
    session.ask(f"CREATE TABLE {full(schema, table)} LIKE {full(server.schema, table)}")
    keys = [index for index in structure.indexes(session, server.schema, table) if index.name == "PRIMARY"]
    if not keys or None in keys[0].columns:
        raise Damaged("salvaging", canonical(table), "it has no primary key to go around the damage by")
    described = structure.columns(session, server.schema, table)
    types = {column.name: column.type for column in described}
    stored = [column.name for column in described if "GENERATED" not in column.extra.replace("DEFAULT_GENERATED", "")]
    key = tuple(str(column) for column in keys[0].columns)
    copy = Copy(
        source=full(server.schema, table),
        target=full(schema, table),
        key=key,
        whole_numbers=len(key) == 1 and types[key[0]] in INTEGERS,
        columns=", ".join(map(quoted, stored)),
    )
    session.ask("SET SESSION foreign_key_checks = 0")
    if server.reading_damage_kills:
        copy_around(server, session, damaged, copy.target, copy.columns)
    else:
        _copy_between(server, session, copy, None, None)
    session.ask("SET SESSION foreign_key_checks = 1")
    if not session.ask(f"SELECT 1 FROM {copy.target} LIMIT 1"):
        raise Damaged("salvaging", canonical(table), "not one row can be read; only a backup helps")


Key = tuple[object, ...]


def _copy_between(server: Server, session: Session, copy: Copy, low: Key | None, high: Key | None) -> None:
    """Copies what can be read between two keys: from the left to a hole, from the right to it, then inside."""
    left, hole = _copy_side(server, session, copy, low, high, ascending=True)
    if not hole:
        return
    right, hole = _copy_side(server, session, copy, left, high, ascending=False)
    if not hole or not copy.whole_numbers or left is None or right is None:
        return
    for middle in _middles(int(str(left[0])), int(str(right[0]))):
        copy.holes += 1
        if copy.holes > MOST_HOLES:
            return
        if _copy_rows(session, copy, (middle - 1,), right, 1, ascending=True) == 1:
            # A readable row inside: the hole is two holes.
            found = _edge(session, copy, (middle - 1,), right, ascending=True)
            _copy_between(server, session, copy, left, found)
            _copy_between(server, session, copy, found, right)
            return


def _middles(left: int, right: int) -> Iterator[int]:
    """Places to try inside a hole, coarse to fine, at most some dozens."""
    for parts in (2, 4, 8, 16, 32):
        step = (right - left) / parts
        if step < 1:
            return
        for number in range(1, parts, 2):
            yield left + int(step * number)


def _copy_side(
    server: Server, session: Session, copy: Copy, low: Key | None, high: Key | None, ascending: bool
) -> tuple[Key | None, bool]:
    """Copies in shrinking chunks until one row cannot be read: the last key copied, and whether there is a hole."""
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
            low = _edge(session, copy, low, high, ascending=False)
        else:
            high = _edge(session, copy, low, high, ascending=True)


def _copy_rows(
    session: Session, copy: Copy, low: Key | None, high: Key | None, limit: int, ascending: bool
) -> int | None:
    """Rows copied by one statement, None when it met a damaged page (then nothing of it is copied)."""
    order = ", ".join(f"{quoted(column)} {'ASC' if ascending else 'DESC'}" for column in copy.key)
    where, values = _between(copy, low, high)
    try:
        session.ask(
            bindable(
                f"INSERT INTO {copy.target} ({copy.columns}) SELECT {copy.columns} FROM {copy.source}"
                " FORCE INDEX (PRIMARY)"
            )
            + where
            + bindable(f" ORDER BY {order}")
            + " LIMIT %(limit)s",
            limit=limit,
            **values,
        )
        return int(session.value("SELECT ROW_COUNT()"))
    except DBAPIError as error:
        if issubclass(MEANING.get(code_of(error) or 0, EngineError), Damaged):
            return None
        raise


def _between(copy: Copy, low: Key | None, high: Key | None) -> tuple[str, dict[str, object]]:
    """WHERE clause and its values; both borders excluded."""
    row = bindable(f"({', '.join(map(quoted, copy.key))})")
    parts: list[str] = []
    values: dict[str, object] = {}
    for word, sign, border in (("low", ">", low), ("high", "<", high)):
        if border is not None:
            names = {f"{word}{number}": value for number, value in enumerate(border)}
            parts.append(f"{row} {sign} ({', '.join(f'%({name})s' for name in names)})")
            values.update(names)
    return (f" WHERE {' AND '.join(parts)}" if parts else ""), values


def _edge(session: Session, copy: Copy, low: Key | None, high: Key | None, ascending: bool) -> Key | None:
    """First (or last) key between the borders that is in the copy."""
    order = ", ".join(f"{quoted(column)} {'ASC' if ascending else 'DESC'}" for column in copy.key)
    where, values = _between(copy, low, high)
    keys = ", ".join(map(quoted, copy.key))
    rows = session.ask(
        bindable(f"SELECT {keys} FROM {copy.target}") + where + bindable(f" ORDER BY {order}") + " LIMIT %(limit)s",
        limit=1,
        **values,
    )
    return tuple(rows[0]) if rows else None


def _replace(server: Server, session: Session, table: str) -> None:
    """The copy takes the place of the original, which goes aside, in one statement."""
    aside = old_schema(server)
    structure.create_schema(session, aside, server.schema)
    own = [
        Definition(FOREIGN_KEY, key.name, foreign_key_clause(session, key), table=key.table, schema=key.schema)
        for key in structure.foreign_keys(session, server.schema)
        if (key.schema, key.table) == (server.schema, table)
    ]
    save_definitions(session, aside, own)
    following = session.value(
        "SELECT auto_increment FROM information_schema.tables WHERE table_schema = %(s)s AND table_name = %(t)s",
        s=server.schema,
        t=table,
    )
    if following:
        session.ask(f"ALTER TABLE {full(salvage_schema(server), table)} AUTO_INCREMENT = {int(following):d}")
    set_triggers_aside(server, session, [table])
    move(
        session,
        [(server.schema, table, aside, table), (salvage_schema(server), table, server.schema, table)],
    )


def _bring_back(server: Server, session: Session) -> None:
    """Triggers and foreign keys, as they were."""
    aside = old_schema(server)
    point_back(server, session, aside, saved_foreign_keys(session, aside))
    create_missing(server, session, [one for one in saved_definitions(session, aside) if one.kind == "trigger"])
    if not structure.tables(session, salvage_schema(server)):
        session.ask(f"DROP DATABASE IF EXISTS {quoted(salvage_schema(server))}")


def _bad_pages(server: Server, session: Session, table: Table) -> tuple[int, ...]:
    """Page numbers that the server's log names for this table's file; of a page that nobody read, by its file."""
    if server.reading_damage_kills:
        bad = bad_pages(server, session, old_schema(server), table)
        return tuple(sorted(page.page for page in bad or ()))
    file = re.escape(in_file(table.name))
    pattern = re.compile(rf"page (\d+)\b.*?{file}\.ibd")
    also = re.compile(rf"{file}\.ibd.*?page (\d+)")
    found = set()
    for line in log_lines(server, session):
        for one in (pattern.search(line), also.search(line)):
            if one is not None:
                found.add(int(one[1]))
    return tuple(sorted(found))
