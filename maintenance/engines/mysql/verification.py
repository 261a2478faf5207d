"""Proofs: fingerprints of every row, structural checks, constraints, definitions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.exc import DBAPIError

from ..errors import Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unreachable
from ..messages import msg
from ..values import Check, Fingerprint
from . import structure
from .driver_errors import code_of
from .names import canonical, full, quoted
from .repair.quarantine import saved_definitions
from .server import Server
from .session import Row, Session
from .structure import Column, Table

LARGE_TEXT = frozenset(("tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob"))
SHAPES = frozenset(
    (
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
        "vector",
    )
)
EXTENDED_BYTES = 64_000_000
"""CHECK EXTENDED costs eight to ten times the plain one: only for tables up to this size."""
CHECK_ATTEMPTS = 3


# -- fingerprints ----------------------------------------------------------------------------------


def fingerprint(server: Server, tables: Sequence[str] | None, side: str | None) -> dict[str, Fingerprint]:
    """See Verifier.fingerprint. `jobs` tables at a time, each in its own session."""
    schema = side or server.schema
    with server.session("listing tables of", schema) as session:
        if side is None:
            server.need_schema(session)
        chosen = structure.chosen(structure.tables(session, schema), tables)
        chosen = [table for table in chosen if not (side and table.name.startswith(OUR_TABLES))]
    spared = server.unreadable_rows() if side is None else {}
    with ThreadPoolExecutor(max(1, server.limits.jobs)) as pool:
        found = list(pool.map(lambda table: _of_table(server, schema, table, spared), chosen))
    return {canonical(table.name): print_ for table, print_ in zip(chosen, found, strict=True)}


def _of_table(server: Server, schema: str, table: Table, spared: dict[str, str]) -> Fingerprint:
    if table.name in spared:
        return Fingerprint(None, None, spared[table.name])
    try:
        with server.session("reading", canonical(table.name)) as session:
            return read_whole(session, schema, table)
    except (Interrupted, Transient, Unreachable, ResourceShortage):
        raise
    except EngineError as error:
        return Fingerprint(None, None, error.words)


def read_whole(session: Session, schema: str, table: Table) -> Fingerprint:
    """Count and sum of 60-bit pieces of SHA-256 over every row, former ones too, read from the rows themselves.

    `USE INDEX ()` keeps a covering index from answering in their place. SHA2 is on every version;
    MySQL 9 has neither MD5 nor SHA1. A sum forgets the order of the rows, not how often one occurs.
    """
    columns = structure.columns(session, schema, table.name)
    pieces = [_piece(column) for column in columns if _is_data(column)]
    source = full(schema, table.name)
    if table.versioned:
        pieces += [_piece(column) for column in _row_times(columns)]
        source += " FOR SYSTEM_TIME ALL"
    row = f"CONCAT({', '.join(pieces)})"
    count, total, unread = session.ask(
        f"SELECT COUNT(*), SUM(piece), COALESCE(SUM(piece IS NULL), 0) FROM (SELECT"
        f" CAST(CONV(LEFT(SHA2({row}, 256), 15), 16, 10) AS UNSIGNED) AS piece FROM {source} USE INDEX ()) r"
    )[0]
    if unread:
        raise Damaged(
            "reading",
            canonical(table.name),
            msg("{unread} rows could not be hashed (max_allowed_packet)", unread=unread),
        )
    return Fingerprint(int(count), f"{int(total or 0):x}")


def _is_data(column: Column) -> bool:
    """Virtual columns are computed; row times are looked at by themselves."""
    return "VIRTUAL GENERATED" not in column.extra and column.generation.upper() not in ROW_TIMES


ROW_TIMES = ("ROW START", "ROW END")


def _row_times(columns: Sequence[Column]) -> list[Column]:
    """From when to when a row was valid. Unnamed ones are in no list of columns; transaction numbers no dump keeps."""
    named = [column for column in columns if column.generation.upper() in ROW_TIMES]
    if not named:
        return [Column(name, "timestamp", "", name, False) for name in ("row_start", "row_end")]
    return [column for column in named if column.type == "timestamp"]


BITS = {
    # Six digits of a FLOAT, and the declared ones of a FLOAT(7,3), are shown; as a DOUBLE all of them are, and -0.
    **dict.fromkeys(("float", "double", "real"), "CAST({0} * 1e0 AS CHAR)"),
    # Bytes in no character set, and the number of a member: an invalid one shows as ''.
    **dict.fromkeys(("bit", "enum", "set"), "CAST({0} + 0 AS CHAR)"),
}
"""By type, what shows every bit of a value, where the server's print of it does not."""


def _piece(column: Column) -> str:
    """Text of one column that tells NULL, '' and neighbours' borders apart, and one value from every other."""
    name = quoted(column.name)
    large = {**dict.fromkeys(LARGE_TEXT, f"CAST({name} AS BINARY)"), **dict.fromkeys(SHAPES, f"HEX({name})")}
    large["json"] = f"CAST({name} AS CHAR)"
    if column.type in large:
        # Hashed by itself: a row longer than max_allowed_packet would become NULL.
        return f"COALESCE(SHA2({large[column.type]}, 256), 'N')"
    value = BITS.get(column.type, "{0}").format(name)
    return f"COALESCE(CONCAT(LENGTH(CAST({value} AS BINARY)), ':', CAST({value} AS BINARY)), 'N')"


# -- checks ----------------------------------------------------------------------------------------


def check(server: Server, tables: Sequence[str] | None, thorough: bool) -> list[Check]:
    """See Verifier.check. Serial: two CHECK EXTENDED beside each other are slower than one after the other."""
    with server.session("listing tables of") as session:
        chosen = structure.chosen(structure.tables(session, server.schema), tables)
        size = structure.sizes(server, session, chosen, server.schema)
        keys = [key for key in structure.foreign_keys(server, session, server.schema) if key.schema == server.schema]
    spared = server.unreadable_tables()
    results = [Check("structure", canonical(one.name), False, spared[one.name]) for one in chosen if one.name in spared]
    for table in chosen:
        if table.name in spared:
            continue
        results.append(_structure_check(server, table, thorough and size[table.name].bytes <= EXTENDED_BYTES))
        if thorough and not server.check_compares_indexes and table.transactional and results[-1].passed:
            results += index_checks(server, table)
    names = {table.name for table in chosen}
    sound = {result.object for result in results if result.passed}
    for key in keys if thorough else []:
        if key.table in names and canonical(key.table) in sound and key.to_table not in spared:
            results.append(_orphan_check(server, key))
    for table in chosen:
        if canonical(table.name) in sound:
            results += _counter_check(server, table)
    return results


def _structure_check(server: Server, table: Table, extended: bool) -> Check:
    name = canonical(table.name)
    try:
        words = check_table(server, table, extended=server.check_compares_indexes and extended)
    except (Interrupted, Transient, Unreachable, ResourceShortage):
        raise
    except EngineError as error:
        return Check("structure", name, False, error.words)
    return Check("structure", name, True, words)


def check_table(server: Server, table: Table, extended: bool) -> str:
    """CHECK TABLE; its notes. Raises Damaged with the server's words when it found something.

    A CHECK that somebody kills answers "OK": asked again when anybody was killed meanwhile, and not
    believed when that goes on.
    """
    name = canonical(table.name)
    depth = "EXTENDED" if extended and table.transactional else "MEDIUM"
    for _ in range(CHECK_ATTEMPTS):
        with server.session("checking", name, limited=False) as session:
            before = _kill_counters(session)
            rows = server.admin(session, f"CHECK TABLE {full(server.schema, table.name)} {depth}")
            undisturbed = _kill_counters(session) == before
            if any(_unsupported(row) for row in rows):
                return "the storage engine has no check"
            notes = server.accept(rows, "checking", name)
        if any("clients are using" not in note for note in notes):
            raise Damaged("checking", name, "; ".join(notes))
        if undisturbed:
            return f"CHECK TABLE {depth}: OK"
    raise Transient("checking", name, "sessions were killed during the check, so its answer proves nothing")


def _unsupported(row: Row) -> bool:
    return row[2] == "note" and "doesn't support" in str(row[3])


def _kill_counters(session: Session) -> dict[str, str]:
    names = "'Com_kill', 'Max_statement_time_exceeded', 'Max_execution_time_exceeded'"
    rows = session.ask(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
    return {str(name): str(value) for name, value in rows}


def index_checks(server: Server, table: Table) -> list[Check]:
    """Index entries against rows, by the same sum over the same columns: where CHECK does not compare them."""
    name = canonical(table.name)
    results = []
    with server.session("comparing the indexes of", name) as session:
        types = {column.name: column for column in structure.columns(session, server.schema, table.name)}
        for index in structure.indexes(session, server.schema, table.name):
            whole = [types[column] for column in index.columns if column is not None]
            if index.name == "PRIMARY" or index.kind != "BTREE" or index.prefix or None in index.columns:
                continue
            row = f"CONCAT({', '.join(_piece(column) for column in whole)})"
            sums = [
                session.ask(
                    f"SELECT {server.see_hidden_indexes} COUNT(*), SUM(CRC32({row})), SUM(CRC32(REVERSE({row})))"
                    f" FROM {full(server.schema, table.name)} {hint}"
                )[0]
                for hint in ("USE INDEX ()", f"FORCE INDEX ({quoted(index.name)})")
            ]
            detail = (
                "" if sums[0] == sums[1] else msg("index {index} holds other values than the rows", index=index.name)
            )
            results.append(Check("index", name, sums[0] == sums[1], detail))
    return results


def _orphan_check(server: Server, key: structure.ForeignKey) -> Check:
    """Neither CHECK nor a rebuild finds a row without its parent."""
    name = f"{canonical(key.table)}.{key.name}"
    joined = " AND ".join(
        f"c.{quoted(own)} = p.{quoted(other)}" for own, other in zip(key.columns, key.to_columns, strict=True)
    )
    given = " AND ".join(f"c.{quoted(column)} IS NOT NULL" for column in key.columns)
    try:
        with server.session("looking for orphans in", name) as session:
            orphans = session.value(
                f"SELECT COUNT(*) FROM {full(key.schema, key.table)} c LEFT JOIN {full(key.to_schema, key.to_table)} p"
                f" ON {joined} WHERE {given} AND p.{quoted(key.to_columns[0])} IS NULL"
            )
    except Damaged as error:
        return Check("foreign key", name, False, error.words, of_rows=True)
    return Check(
        "foreign key",
        name,
        orphans == 0,
        msg("{count} rows have no parent", count=orphans) if orphans else "",
        of_rows=True,
    )


def _counter_check(server: Server, table: Table) -> list[Check]:
    """AUTO_INCREMENT must be beyond the largest value; a counter behind gives duplicate keys."""
    name = canonical(table.name)
    try:
        with server.session("comparing the counter of", name) as session:
            counted = [c for c in structure.columns(session, server.schema, table.name) if "AUTO_INCREMENT" in c.extra]
            if not counted:
                return []
            following = session.value(
                "SELECT auto_increment FROM information_schema.tables"
                " WHERE table_schema = %(s)s AND table_name = %(t)s",
                s=server.schema,
                t=table.name,
            )
            largest = session.value(f"SELECT MAX({quoted(counted[0].name)}) FROM {full(server.schema, table.name)}")
    except Damaged as error:
        return [Check("counter", name, False, error.words)]
    behind = following is not None and largest is not None and int(following) <= int(largest)
    detail = msg("AUTO_INCREMENT is {following}, largest value {largest}", following=following, largest=largest)
    return [Check("counter", name, not behind, detail)]


# -- definitions -----------------------------------------------------------------------------------


def catalog(server: Server, side: str | None) -> dict[str, str]:
    """See Verifier.definitions. Of a side copy: its tables, and the definitions that an exchange will bring back."""
    schema = side or server.schema
    found: dict[str, str] = {}
    closed = server.unreadable_tables() if server.repairs_on_open and side is None else {}
    with server.session("reading definitions of", schema) as session:
        for table in structure.tables(session, schema):
            if table.name in closed:
                # SHOW CREATE TABLE opens it, and the server would repair it.
                found[canonical(table.name)] = hashlib.sha256(closed[table.name].encode()).hexdigest()
            elif side is None or not table.name.startswith(OUR_TABLES):
                found[canonical(table.name)] = _table_digest(session, schema, table.name)
        for name in structure.sequence_names(session, server.schema):
            # No restore touches a sequence.
            found[canonical(name)] = _table_digest(session, server.schema, name)
        others = saved_definitions(server, session, side) if side else structure.definitions(session, schema)
        for one in others:
            found[canonical(one.name) if one.kind == "view" else f"{one.kind} {canonical(one.name)}"] = one.digest
    return found


def _table_digest(session: Session, schema: str, table: str) -> str:
    try:
        text = structure.table_definition(session, schema, table)
    except DBAPIError as error:
        text = f"unreadable: {code_of(error)}"
    return hashlib.sha256(text.encode()).hexdigest()


OUR_TABLES = "dbmaint_"
"""What our own tables in a side schema begin with."""
