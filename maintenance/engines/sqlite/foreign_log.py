"""Tells a write-ahead log that belongs to its file from one that was written for another database.

Nothing in a file says which log is its own. A log of another database shows by its page size, by a schema that does
not follow from the file's, or because a sound file is damaged by it. All of that is tried on a copy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from .connection import Mode, connect
from .write_ahead_log import read_log

COOKIE = slice(40, 44)
"""Where page 1 counts the changes of the schema."""


def is_foreign(path: Path, log: Path, copied: Callable[[], Path]) -> bool:
    """Return whether the log must not be played in. `copied` makes a copy of the file with the log."""
    try:
        if not log.stat().st_size:
            return False
    except FileNotFoundError:
        return False
    found = read_log(log)
    if found is None:
        return True
    if not found.committed:
        return False
    alone = _seen(path, "immutable")
    if alone is None or not alone.sound:
        return False  # the file itself is damaged or empty: nothing to compare with
    if found.page_size != alone.page_size:
        return True
    played = _seen(copied(), "rw")
    if played is None or not played.sound:
        return True
    if found.first_page is None:
        return False
    if found.first_page[COOKIE] == alone.cookie:
        return played.schema != alone.schema
    return bool(alone.schema) and not alone.schema & played.schema


class Seen:
    """What a connection shows of a file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.page_size = int(connection.execute("PRAGMA page_size").fetchone()[0])
        self.cookie = int(connection.execute("PRAGMA schema_version").fetchone()[0]).to_bytes(4, "big")
        rows = connection.execute("SELECT type, name, CAST(sql AS BLOB) FROM sqlite_master").fetchall()
        self.schema = frozenset(rows)
        self.sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"


def _seen(path: Path, mode: Mode) -> Seen | None:
    """None when SQLite refuses the file."""
    try:
        with closing(connect(path, mode)) as connection:
            return Seen(connection)
    except sqlite3.Error:
        return None
