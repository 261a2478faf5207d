"""Digests of what the schema defines."""

from __future__ import annotations

import hashlib
import sqlite3

from .fingerprints import SEQUENCES
from .names import canonical

SETTINGS = ("user_version", "application_id", "page_size", "encoding", "auto_vacuum")
"""What the header keeps of the file as a whole, beside its tables."""


def definitions(connection: sqlite3.Connection) -> dict[str, str]:
    """'table orders' -> digest of its text. SQLite keeps columns and constraints in that text."""
    rows = connection.execute(
        "SELECT type, name, coalesce(sql, 'index of a constraint of ' || tbl_name) FROM sqlite_master"
        " WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\' AND name <> ? ORDER BY 1, 2",
        (SEQUENCES,),
    ).fetchall()
    found = {f"{kind} {canonical(str(name))}": _digest(str(sql)) for kind, name, sql in rows}
    settings = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in SETTINGS]
    return {**found, "settings": _digest(repr(settings))}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
