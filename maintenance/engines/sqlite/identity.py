"""Who the target is."""

from __future__ import annotations

import sqlite3

from ..values import Facts
from .file import DatabaseFile

VERSION = f"SQLite {sqlite3.sqlite_version}"


def facts(file: DatabaseFile) -> Facts:
    """The inode tells hard links apart from copies. Raises Unreachable or AccessDenied; never makes a file."""
    status = file.require()
    with file.working("opening", file.name) as connection:
        # Needs no lock, so that a file in use, or a damaged one, still says who it is.
        connection.execute("SELECT 1").fetchone()
    return Facts(
        version=VERSION,
        identity=f"sqlite:{status.st_dev}:{status.st_ino}",
        data_directory=str(file.path.parent),
        is_replica=False,
        size_bytes=file.size(),
    )
