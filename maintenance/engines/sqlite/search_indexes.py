"""Full-text and spatial indexes: tables behind a virtual one, which only their own check can judge."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from ..errors import Damaged
from .driver_errors import from_driver
from .names import canonical, quoted

MODULE = re.compile(r"^CREATE\s+VIRTUAL\s+TABLE\s.*?\sUSING\s+\"?(\w+)", re.IGNORECASE | re.DOTALL)
CONTENT = re.compile(r"[(,]\s*content\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|\[([^\]]*)\]|([^\s,)]*))", re.IGNORECASE)
TEXT, SPACE = ("fts3", "fts4", "fts5"), ("rtree", "rtree_i32")


@dataclass(frozen=True)
class SearchIndex:
    """`content`: the table whose rows it finds; None where it keeps them itself, '' where nobody does."""

    name: str
    module: str
    content: str | None

    @property
    def canonical(self) -> str:
        return canonical(self.name)

    @property
    def can_be_made_again(self) -> bool:
        """Whether its rows are kept apart from what finds them."""
        return self.module in TEXT and self.content != ""

    def is_behind(self, table: str) -> bool:
        """Whether this is one of the tables in which it keeps what it finds by."""
        return table.lower().startswith(f"{self.name.lower()}_")


def search_indexes_in(connection: sqlite3.Connection) -> list[SearchIndex]:
    """Return those of modules that can be asked."""
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND coalesce(rootpage, 0) = 0 ORDER BY name"
    ).fetchall()
    found = [_search_index(str(name), str(sql)) for name, sql in rows]
    return [index for index in found if index.module in TEXT + SPACE]


def _search_index(name: str, sql: str) -> SearchIndex:
    module, content = MODULE.match(sql), CONTENT.search(sql)
    kept = None if content is None else next((part for part in content.groups() if part is not None), "")
    return SearchIndex(name, module[1].lower() if module else "", kept)


def damage_of(connection: sqlite3.Connection, index: SearchIndex) -> str | None:
    """Return what its own check says; None where it finds nothing, or cannot be asked on this connection.

    The check of a full-text index is a statement that writes, and changes nothing.
    """
    return _text_damage(connection, index.name) if index.module in TEXT else _spatial_damage(connection, index.name)


def agrees_with_rows(connection: sqlite3.Connection, index: SearchIndex) -> bool:
    """Whether it finds just the rows that are there, also where they are another table's."""
    return _text_damage(connection, index.name, with_rows=index.module == "fts5") is None


def opens(connection: sqlite3.Connection, index: SearchIndex) -> bool:
    """Whether SQLite can make anything of the tables behind it."""
    try:
        connection.execute(f"SELECT 1 FROM {quoted(index.name)} LIMIT 0")
    except sqlite3.Error:
        return False
    return True


def _text_damage(connection: sqlite3.Connection, name: str, with_rows: bool = False) -> str | None:
    """https://sqlite.org/fts5.html#the_integrity_check_command"""
    columns, values = (f"{quoted(name)}, rank", ", 1") if with_rows else (quoted(name), "")
    connection.execute("SAVEPOINT asked")
    try:
        connection.execute(f"INSERT INTO {quoted(name)} ({columns}) VALUES ('integrity-check'{values})")
    except sqlite3.Error as error:
        told = from_driver(error, "checking", name)
        return told.words if isinstance(told, Damaged) else None
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK TO asked")
            connection.execute("RELEASE asked")
    return None


def _spatial_damage(connection: sqlite3.Connection, name: str) -> str | None:
    """https://sqlite.org/rtree.html#integrity_checks_using_the_rtreecheck_sql_function"""
    try:
        words = str(connection.execute("SELECT rtreecheck('main', ?)", (name,)).fetchone()[0])
    except sqlite3.Error as error:
        told = from_driver(error, "checking", name)
        return told.words if isinstance(told, Damaged) else None
    return None if words == "ok" else words


def make_again(connection: sqlite3.Connection, index: SearchIndex) -> None:
    """From its rows (https://sqlite.org/fts5.html#the_rebuild_command). Raises sqlite3.Error."""
    connection.execute(f"INSERT INTO {quoted(index.name)} ({quoted(index.name)}) VALUES ('rebuild')")
