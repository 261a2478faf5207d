"""Copies on the server itself of tables whose values a dump does not carry as they are.

A dump is text: it holds six digits of a FLOAT, no sign of a zero, no value of an ENUM that is none of its members, no
text that its own character set alone can say, no row whose statement is longer than the server takes, and stored values
are computed anew when it is loaded. Such tables are copied under the cut, by INSERT … SELECT, into a schema of ours,
and a rollback takes their rows from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy.exc import DBAPIError

from ..errors import Damaged, ResourceShortage, Unable
from ..messages import msg, size
from ..values import Fingerprint
from . import structure
from .connection import Session
from .fingerprints import ROW_TIMES, SHAPES, is_data, read_whole
from .names import canonical, full, plain, quoted
from .repair.quarantine import exact_schema
from .structure import Column, Table
from .table_rules import set_aside
from .target import Server

OUR_ZONE = "+00:00"
"""In which our sessions compute, and the dump tools' statements."""
ROOM = 1.1
PACKET_SHARE = 0.9
"""Of what the server takes in one statement, what the values of one row may fill."""
WHOLE_TEXT = frozenset(("utf8mb4", "utf8mb3", "utf8", "ascii"))
"""Character sets whose every text a dump holds."""
SAME_ENGINE = frozenset(("InnoDB", "MyISAM", "Aria"))
"""Engines whose copy is of the same engine; others forget, or cannot be written to twice."""
WITH_ROWS = SAME_ENGINE | {"MEMORY", "ARCHIVE", "CSV"}
"""Engines that keep rows themselves: what stands for the rows of others is not copied."""


@dataclass(frozen=True)
class Plan:
    """A table to copy, and the time zones under which its stored columns may have been computed."""

    table: Table
    columns: tuple[str, ...]
    zones: tuple[str, ...]


def copy_exactly(server: Server, baseline: Mapping[str, Fingerprint]) -> dict[str, str]:
    """Copy the readable tables whose values a dump would change, and prove each copy equal. Nobody else may write.

    Return table -> time zone in which a rollback has to compute its stored columns. Raises Unable where no copy would
    be equal: no work may begin then.
    """
    with server.session("looking for values that a dump changes in") as session:
        readable = [plain(name) for name, found in baseline.items() if found.readable]
        tables = structure.tables(session, server.schema)
        tables = [one for one in tables if one.name in readable and one.engine in WITH_ROWS]
        plans = [plan for one in tables if (plan := _plan(server, session, one)) is not None]
        schema = exact_schema(server)
        session.ask(f"DROP DATABASE IF EXISTS {quoted(schema)}")
        if plans:
            _need_room(server, session, [plan.table for plan in plans])
    if not plans:
        return {}
    with server.session("copying values of", limited=False) as session:
        _only_here(session)
        structure.create_schema(session, schema, server.schema)
        set_aside(server, session)
        return {plan.table.name: _copied(server, session, plan, baseline[canonical(plan.table.name)]) for plan in plans}


def take_rows(server: Server, side: str, exact: Mapping[str, str]) -> None:
    """Fill the empty tables of a side schema with the rows that were copied. Raises Damaged where a copy is gone."""
    schema = exact_schema(server)
    with server.session("restoring values of", side, limited=False) as session:
        set_aside(server, session)
        with suppress(DBAPIError):
            # What is read from here is on no replica: they get the rows. Who may not say so had the copy logged, too.
            session.ask("SET SESSION binlog_format = ROW")
        there = {table.name for table in structure.tables(session, schema)}
        for table in structure.tables(session, side):
            if table.name not in exact:
                continue
            if table.name not in there:
                raise Damaged("restoring", canonical(table.name), msg("its copy in {schema} is gone", schema=schema))
            _write(server, session, table, (side, table.name), exact[table.name])


def _write(server: Server, session: Session, table: Table, into: tuple[str, str], zone: str) -> None:
    """Write the rows of a table's copy into an empty table like it, with the stored columns computed in this zone."""
    found = structure.columns(session, *into)
    names = [one.name for one in found if is_data(one) and not _is_computed(one)]
    settings = "foreign_key_checks = 0, unique_checks = 0, time_zone = %(zone)s"
    if table.versioned:
        names += _row_times(found)
        settings += ", system_versioning_insert_history = ON"
    columns = ", ".join(quoted(name) for name in names)
    session.ask(f"SET SESSION {settings}", zone=zone)
    try:
        source = full(exact_schema(server), table.name)
        server.admin(session, f"INSERT INTO {full(*into)} ({columns}) SELECT {columns} FROM {source}")
    finally:
        session.ask(f"SET SESSION foreign_key_checks = 1, unique_checks = 1, time_zone = '{OUR_ZONE}'")


def _plan(server: Server, session: Session, table: Table) -> Plan | None:
    found = structure.columns(session, server.schema, table.name)
    computed = any(_is_computed(one) for one in found) and any(one.type == "timestamp" for one in found)
    inexact = any(one.type == "float" for one in found)
    if not inexact and not computed and not _says_too_little(server, session, table, found):
        return None
    zones = [OUR_ZONE]
    if computed:
        zones += [str(session.value("SELECT @@GLOBAL.time_zone")), "SYSTEM"]
    columns = [one.name for one in found if is_data(one)] + (_row_times(found) if table.versioned else [])
    return Plan(table, tuple(columns), tuple(dict.fromkeys(zones)))


def _says_too_little(server: Server, session: Session, table: Table, found: Sequence[Column]) -> bool:
    """Whether a row holds a value that a dump changes or leaves out. Reads every row of a table that may hold one."""
    kinds = {
        str(name): (None if charset is None else str(charset), int(octets or 0))
        for name, charset, octets in session.ask(
            "SELECT column_name, character_set_name, character_octet_length FROM information_schema.columns"
            " WHERE table_schema = %(s)s AND table_name = %(t)s",
            s=server.schema,
            t=table.name,
        )
    }
    packet = int(session.value("SELECT @@GLOBAL.max_allowed_packet") * PACKET_SHARE)
    signs, lengths, longest = [], [], 0
    for one in found:
        name = quoted(one.name)
        charset, octets = kinds.get(one.name, (None, 0))
        if not is_data(one):
            continue
        if one.type in ("double", "real"):
            signs.append(f"({name} = 0 AND CAST({name} AS CHAR) LIKE '-%')")
        if one.type == "enum":
            # None of the members: printed like the member ''.
            signs.append(f"{name} + 0 = 0")
        if charset is not None and charset not in WHOLE_TEXT and one.type not in ("enum", "set"):
            again = f"CONVERT(CONVERT({name} USING utf8mb4) USING {charset})"
            signs.append(f"NOT (CAST({name} AS BINARY) <=> CAST({again} AS BINARY))")
        # Bytes are written as two digits each, letters with a backslash before them at worst, in two bytes each.
        times = 2 if charset is None else 4
        longest += times * (octets or (packet if one.type in UNTOLD else 30))
        if octets or one.type in UNTOLD:
            value = f"CAST({name} AS CHAR)" if one.type == "json" else name
            lengths.append(f"COALESCE(LENGTH({value}), 0) * {times}")
    if longest > packet and lengths:
        signs.append(f"({' + '.join(lengths)}) > {packet}")
    if not signs:
        return False
    source = full(server.schema, table.name) + (" FOR SYSTEM_TIME ALL" if table.versioned else "")
    return bool(session.ask(f"SELECT 1 FROM {source} WHERE {' OR '.join(signs)} LIMIT 1"))


UNTOLD = SHAPES | {"json"}
"""Types of which the catalog tells no length."""


def _is_computed(column: Column) -> bool:
    return "STORED GENERATED" in column.extra or "PERSISTENT" in column.extra


def _row_times(found: Sequence[Column]) -> list[str]:
    named = [one.name for one in found if one.generation.upper() in ROW_TIMES]
    return named or ["row_start", "row_end"]


def _need_room(server: Server, session: Session, tables: Sequence[Table]) -> None:
    folder = server.data_folder(session)
    held = sum(one.bytes for one in structure.sizes(server, session, tables, server.schema).values())
    needed = round(held * ROOM)
    free = shutil.disk_usage(folder).free if folder is not None else needed
    if free < needed:
        words = msg(
            "{free} free where the data lies; the tables whose values a dump would change need {needed} again",
            free=size(free),
            needed=size(needed),
        )
        raise ResourceShortage("copying", server.schema, words)


def _only_here(session: Session) -> None:
    """Copies go nowhere else, where we may say so."""
    with suppress(DBAPIError):
        session.ask("SET SESSION sql_log_bin = 0")


def _copied(server: Server, session: Session, plan: Plan, wanted: Fingerprint) -> str:
    """Make the copy, of plain columns; return the time zone in which the stored ones come out as they are."""
    name, table = canonical(plan.table.name), plan.table.name
    schema, source = exact_schema(server), full(server.schema, table)
    engine = plan.table.engine if plan.table.engine in SAME_ENGINE else "InnoDB"
    columns = ", ".join(quoted(column) for column in plan.columns)
    history = " FOR SYSTEM_TIME ALL" if plan.table.versioned else ""
    server.admin(
        session, f"CREATE TABLE {full(schema, table)} ENGINE={engine} AS SELECT {columns} FROM {source}{history}"
    )
    if read_whole(session, schema, Table(table, engine)) != wanted:
        raise Unable("copying", name, msg("the copy on the server is not equal to the table"))
    if len(plan.zones) == 1:
        return plan.zones[0]
    for zone in plan.zones:
        if _computes_alike(server, session, plan, zone, wanted):
            return zone
    raise Unable(
        "copying",
        name,
        msg(
            "its stored columns were computed under time zones or modes that nobody knows, so no rollback could"
            " bring them back; rebuild the columns first, or leave the table out"
        ),
    )


def _computes_alike(server: Server, session: Session, plan: Plan, zone: str, wanted: Fingerprint) -> bool:
    """Whether rows that are written anew in this time zone get the same values."""
    schema, probe = exact_schema(server), f"{PROBE}{plan.table.name[:40]}"
    try:
        session.ask(f"CREATE TABLE {full(schema, probe)} LIKE {full(server.schema, plan.table.name)}")
        _write(server, session, plan.table, (schema, probe), zone)
        return read_whole(session, schema, replace(plan.table, name=probe)) == wanted
    finally:
        session.ask(f"DROP TABLE IF EXISTS {full(schema, probe)}")


PROBE = "dbmaint_probe_"
