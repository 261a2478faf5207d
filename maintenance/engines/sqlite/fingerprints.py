"""Exact row counts and order-independent checksums."""

from __future__ import annotations

import hashlib
import marshal
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import Damaged, Interrupted, Transient
from ..values import Fingerprint
from .driver_errors import from_reading
from .names import tables_in
from .search_indexes import damage_of, opens, search_indexes_in
from .table_scan import rowid_name, table_scan

SEQUENCES = "sqlite_sequence"
"""Where AUTOINCREMENT keeps the highest number ever used (https://sqlite.org/autoinc.html)."""
_ROOM = 1 << 128


def fingerprint_rows(rows: Iterable[tuple[Any, ...]]) -> tuple[int, str]:
    """Row count and the sum of one digest a row: the same for the same rows in any order.

    A sum, not an exclusive or: two equal rows must not cancel each other.
    """
    count, total = 0, 0
    for row in rows:
        # marshal version 2 writes each value by type and content alone, so equal rows give equal bytes.
        total += int.from_bytes(hashlib.blake2b(marshal.dumps(row, 2), digest_size=16).digest())
        count += 1
    return count, f"{total % _ROOM:032x}"


def fingerprint_table(connection: sqlite3.Connection, name: str) -> Fingerprint:
    """Read the table itself, never an index instead of it; rowids are part of what must stay.

    Search indexes, other tables and applications refer to rows by them, also where no column shows them.
    """
    try:
        rowid = rowid_name(connection, name)
        columns = "*" if rowid is None else f"{rowid}, *"
        rows, digest = fingerprint_rows(connection.execute(table_scan(connection, name, columns)))
    except Damaged as error:
        return Fingerprint(None, None, str(error.words))
    except sqlite3.Error as error:
        told = from_reading(error, "reading", name)
        if isinstance(told, (Interrupted, Transient)):
            raise
        return Fingerprint(None, None, told.words)
    return Fingerprint(rows, digest)


def fingerprint_all(connection: sqlite3.Connection, tables: Sequence[str] | None) -> dict[str, Fingerprint]:
    """By canonical name. All tables: the AUTOINCREMENT numbers are among them.

    A table named but not there has an error.
    """
    known = tables_in(connection)
    names = list(known) if tables is None else list(tables)
    found = {
        name: fingerprint_table(connection, known[name].name)
        if name in known
        else Fingerprint(None, None, f"there is no table {name}")
        for name in names
        if name != SEQUENCES
    }
    for index in search_indexes_in(connection):
        behind = [name for name in found if name in known and index.is_behind(known[name].name)]
        if not behind or not index.can_be_made_again or not opens(connection, index):
            continue
        if words := damage_of(connection, index):
            # What a broken index finds by is nothing to compare with: it is made again.
            found |= {name: Fingerprint(None, None, words) for name in behind}
    if (tables is None or SEQUENCES in tables) and has_sequences(connection):
        found[SEQUENCES] = fingerprint_table(connection, SEQUENCES)
    return found


def has_sequences(connection: sqlite3.Connection) -> bool:
    row = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (SEQUENCES,)).fetchone()
    return bool(row[0])
