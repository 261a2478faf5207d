"""Names of tables and files: how they are quoted, listed and derived."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.dialects import sqlite

from ..values import Tag

_PREPARER = sqlite.dialect().identifier_preparer

LONGEST_STEM = 180
"""Bytes of a name; file systems allow 255, and ours add up to 60."""
JOURNALS = ("-wal", "-shm", "-journal")
"""Endings of the files that belong to a database file (https://sqlite.org/tempfiles.html)."""


def quoted(name: str) -> str:
    """An identifier for SQL, always quoted."""
    return str(_PREPARER.quote_identifier(name))


def canonical(name: str) -> str:
    """The name as shown and stored: quoted only where SQL needs it."""
    return str(_PREPARER.quote(name))


@dataclass(frozen=True)
class Table:
    """A table with rows of its own: no view, no virtual table, but the tables behind a virtual one."""

    name: str
    root: int
    sql: str

    @property
    def canonical(self) -> str:
        return canonical(self.name)


def tables_in(connection: sqlite3.Connection) -> dict[str, Table]:
    """Canonical name -> table, in order of name, without SQLite's own tables."""
    rows = connection.execute(
        "SELECT name, rootpage, sql FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    listed = [Table(*row) for row in rows.fetchall()]
    return {table.canonical: table for table in listed}


def folded(name: str) -> str:
    """SQLite compares names without regard to the case of ASCII letters."""
    return name.strip().lower()


def spellings(known: Iterable[str]) -> dict[str, list[str]]:
    """Return what people may call each of the tables, folded -> its canonical name."""
    return {folded(spelling): [name] for name in known for spelling in _spellings(name)}


def _spellings(name: str) -> list[str]:
    bare = name[1:-1].replace('""', '"') if name.startswith('"') else name
    return [name, bare, quoted(bare), f"main.{name}", f"main.{bare}", f"main.{quoted(bare)}"]


@dataclass(frozen=True)
class Sides:
    """Every file of ours beside a database file; all found again by name after a crash."""

    live: Path
    tag: Tag

    @property
    def prefix(self) -> str:
        """What the names of all our files beside this one begin with, but for marker and lock."""
        return f"{self._stem}.{self.tag.suffix}."

    @property
    def _stem(self) -> str:
        """The name of the file; where ours would become too long for the file system, its beginning and a digest."""
        name = self.live.name
        if len(os.fsencode(name)) <= LONGEST_STEM:
            return name
        return f"{name[:40]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"

    def _beside(self, ending: str) -> Path:
        return self.live.with_name(f"{self.prefix}{ending}")

    @property
    def image(self) -> Path:
        return self._beside("image")

    @property
    def restored(self) -> Path:
        return self._beside("restored")

    @property
    def broken(self) -> Path:
        return self._beside("broken")

    @property
    def rehearsal(self) -> Path:
        """The copy on which a maintenance is rehearsed; names of what is made of it begin with this one."""
        return self._beside("rehearsal")

    @property
    def rows(self) -> Path:
        """Rows on their way from a damaged table into its replacement."""
        return self._beside("rows")

    @property
    def remade(self) -> Path:
        """A copy of the damaged file in which its damaged tables are made again."""
        return self._beside("remade")

    @property
    def evidence(self) -> Path:
        """A true copy of the damaged file, read page by page."""
        return self._beside("evidence")

    @property
    def mended(self) -> Path:
        """A copy whose header or length was put right, so that SQLite reads it."""
        return self._beside("mended")

    @property
    def elsewhere(self) -> Path:
        """Name the images that had no room beside the database, one a line."""
        return self._beside("elsewhere")

    @property
    def marker(self) -> Path:
        return self.live.with_name(f"{self._stem}.dbmaint")

    @property
    def lock(self) -> Path:
        return self.live.with_name(f"{self._stem}.dbmaint-lock")

    @property
    def before(self) -> Path:
        """File, log and journal as they lay before SQLite was let write: of a program that died in its midst."""
        return self._beside("before")

    def found(self) -> list[Path]:
        """Side files of this run target that exist, the marker not among them."""
        return sorted(path for path in self.live.parent.iterdir() if path.name.startswith(self.prefix))
