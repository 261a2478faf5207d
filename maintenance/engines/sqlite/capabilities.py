"""What this build of SQLite is."""

from __future__ import annotations

import sqlite3

LOADS_EXTENSIONS = hasattr(sqlite3.Connection, "enable_load_extension")
"""Python may be built without."""

VERSION = f"SQLite {sqlite3.sqlite_version}"
