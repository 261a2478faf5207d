"""What this build of SQLite is."""

from __future__ import annotations

import sqlite3

VERSION = f"SQLite {sqlite3.sqlite_version}"
