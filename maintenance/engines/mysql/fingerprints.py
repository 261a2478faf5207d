"""Fingerprints: count and checksum of every row of a table, of the bits of its values."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..errors import Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unreachable
from ..messages import msg
from ..values import Fingerprint
from . import structure
from .connection import Session
from .names import canonical, full, quoted
from .repair.corruption import unreadable_rows
from .structure import Column, Table
from .target import Server

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


OUR_TABLES = "dbmaint_"
"""What our own tables in a side schema begin with."""


def fingerprint(server: Server, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
    """See Verifier.fingerprint. `jobs` tables at a time, each in its own session."""
    schema = side or server.schema
    with server.session("listing tables of", schema) as session:
        if side is None:
            server.need_schema(session)
        chosen = structure.chosen(structure.tables(session, schema), tables)
        chosen = [table for table in chosen if not (side and table.name.startswith(OUR_TABLES))]
    spared = unreadable_rows(server) if side is None else {}
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

    Raises Damaged.
    """
    columns = structure.columns(session, schema, table.name)
    pieces = [bits_of(column) for column in columns if is_data(column)]
    source = full(schema, table.name)
    if table.versioned:
        pieces += [bits_of(column) for column in _row_times(columns)]
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


def is_data(column: Column) -> bool:
    """Whether a column holds values of its own. Virtual columns are computed; row times are looked at by themselves."""
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


def bits_of(column: Column) -> str:
    """Text of one column that tells NULL, '' and neighbours' borders apart, and one value from every other."""
    name = quoted(column.name)
    large = {**dict.fromkeys(LARGE_TEXT, f"CAST({name} AS BINARY)"), **dict.fromkeys(SHAPES, f"HEX({name})")}
    large["json"] = f"CAST({name} AS CHAR)"
    if column.type in large:
        # Hashed by itself: a row longer than max_allowed_packet would become NULL.
        return f"COALESCE(SHA2({large[column.type]}, 256), 'N')"
    value = BITS.get(column.type, "{0}").format(name)
    return f"COALESCE(CONCAT(LENGTH(CAST({value} AS BINARY)), ':', CAST({value} AS BINARY)), 'N')"
