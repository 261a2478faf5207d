"""Saving the readable rows of an InnoDB table with unreadable pages, into a table that takes its place.

The damaged original is moved aside, not dropped. What was lost is counted by an index that lists every
row without reading it.
"""

from __future__ import annotations

import re
from contextlib import suppress

from sqlalchemy.exc import DBAPIError

from maintenance.engines.errors import Damaged
from maintenance.engines.messages import msg
from maintenance.engines.values import Loss, Performed

from .. import structure
from ..connection import Session
from ..diagnosis.error_log import log_lines
from ..filenames import in_file
from ..names import canonical, full, quoted
from ..structure import Definition, Table
from ..target import Server
from ..verification import check_table
from .innodb_key_ranges import copy_around, rows_listed
from .innodb_pages import bad_pages
from .innodb_secondary_index import copy_between_holes
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
    check_table(server, table, extended=server.capabilities.check_compares_indexes)
    lost = expected - saved if expected is not None else None
    loss = Loss(
        name,
        lost,
        pages,
        msg(
            "{saved:,} rows were saved; the damaged original is {original}",
            saved=saved,
            original=f"{old_schema(server)}.{name}",
        ),
    )
    return Performed(
        msg("{table} had unreadable pages: {saved:,} rows saved", table=name, saved=saved), None, None, (loss,)
    )


def _expected_rows(server: Server, session: Session, schema: str, table: Table) -> int | None:
    """All rows as a sound secondary index counts them; None when there is none."""
    if server.capabilities.reading_damage_kills:
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
    stored = [column.name for column in described if "GENERATED" not in column.extra.replace("DEFAULT_GENERATED", "")]
    target, columns = full(schema, table), ", ".join(map(quoted, stored))
    session.ask("SET SESSION foreign_key_checks = 0")
    if server.capabilities.reading_damage_kills:
        copy_around(server, session, damaged, target, columns)
    else:
        copy_between_holes(server, session, damaged, target, columns)
    session.ask("SET SESSION foreign_key_checks = 1")
    if not session.ask(f"SELECT 1 FROM {target} LIMIT 1"):
        raise Damaged("salvaging", canonical(table), "not one row can be read; only a backup helps")


def _replace(server: Server, session: Session, table: str) -> None:
    """The copy takes the place of the original, which goes aside, in one statement."""
    aside = old_schema(server)
    structure.create_schema(session, aside, server.schema)
    own = [
        Definition(FOREIGN_KEY, key.name, foreign_key_clause(session, key), table=key.table, schema=key.schema)
        for key in structure.foreign_keys(server, session, server.schema)
        if (key.schema, key.table) == (server.schema, table)
    ]
    save_definitions(server, session, aside, own)
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
    point_back(server, session, aside, saved_foreign_keys(server, session, aside))
    create_missing(server, session, [one for one in saved_definitions(server, session, aside) if one.kind == "trigger"])
    if not structure.tables(session, salvage_schema(server)):
        session.ask(f"DROP DATABASE IF EXISTS {quoted(salvage_schema(server))}")


def _bad_pages(server: Server, session: Session, table: Table) -> tuple[int, ...]:
    """Page numbers that the server's log names for this table's file; of a page that nobody read, by its file."""
    if server.capabilities.reading_damage_kills:
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
