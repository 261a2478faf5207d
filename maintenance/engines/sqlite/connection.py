"""The one door through which connections to database files come, every one of them pinned."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from .capabilities import LOADS_EXTENSIONS

Mode = Literal["rw", "ro", "immutable"]
_MODES: dict[Mode, str] = {"rw": "mode=rw", "ro": "mode=ro", "immutable": "mode=ro&immutable=1"}


def connect(path: Path, mode: Mode = "rw", *, timeout: float = 0.0) -> sqlite3.Connection:
    """Open an existing file, never make one: the only way in which this package comes to a connection.

    'ro' writes neither file nor log; 'immutable' reads without any lock or journal.
    """
    address = f"file:{quote(os.fsencode(path))}?{_MODES[mode]}"
    return _pinned(sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False))


def _pinned(connection: sqlite3.Connection) -> sqlite3.Connection:
    # Damaged text must not hide the row it stands in.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    if LOADS_EXTENSIONS:
        connection.enable_load_extension(False)
    # VACUUM attaches one database; nothing else of ours does.
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 1)
    for pragma in PINNED:
        connection.execute(f"PRAGMA {pragma}")
    return connection


PINNED = ("foreign_keys = OFF", "trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0")
"""The schema is somebody else's: its views, triggers, defaults and index expressions call nothing that acts outside
the file (https://sqlite.org/security.html)."""


def connect_in_memory() -> sqlite3.Connection:
    """Open an empty database of no file."""
    return _pinned(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))


def scratch(path: Path) -> sqlite3.Connection:
    """Open a new, empty database for our own use. Whatever had the name is removed, never followed."""
    fresh(path)
    connection = connect(path)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def fresh(path: Path) -> None:
    """Make an empty file that only this account can read; the owner of the folder may have planted a link there."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
