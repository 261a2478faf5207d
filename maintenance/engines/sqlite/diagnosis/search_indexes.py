"""Full-text and spatial indexes: tables behind a virtual one, which only their own check can judge."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

from ...errors import Damaged, ResourceShortage
from ...messages import msg
from ...values import Finding
from ..connection import connect
from ..driver_errors import from_driver
from ..names import canonical, quoted
from ..target import DatabaseFile

MODULE = re.compile(r"^CREATE\s+VIRTUAL\s+TABLE\s.*?\sUSING\s+\"?(\w+)", re.IGNORECASE | re.DOTALL)
TEXT, SPACE = ("fts3", "fts4", "fts5"), ("rtree", "rtree_i32")


def search_index_findings(file: DatabaseFile, connection: sqlite3.Connection) -> list[Finding]:
    """Ask every index of its own health. The check of full-text indexes is a write that changes nothing: on a copy."""
    tables = _virtual_tables(connection)
    found = [_finding(name, words) for name in tables.get("space", []) if (words := _spatial_damage(connection, name))]
    if tables.get("text"):
        found += _text_findings(file, connection, tables["text"])
    return found


def _virtual_tables(connection: sqlite3.Connection) -> dict[str, list[str]]:
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND rootpage = 0").fetchall()
    tables: dict[str, list[str]] = {}
    for name, sql in rows:
        module = MODULE.match(str(sql))
        if module and module[1].lower() in TEXT:
            tables.setdefault("text", []).append(str(name))
        elif module and module[1].lower() in SPACE:
            tables.setdefault("space", []).append(str(name))
    return tables


def _text_findings(file: DatabaseFile, connection: sqlite3.Connection, names: list[str]) -> list[Finding]:
    if file.held is not None:
        return [_finding(name, words) for name in names if (words := _text_damage(connection, name))]
    try:
        copy = file.copy_to_look_at()
    except ResourceShortage:
        return []
    with closing(connect(copy)) as own:
        return [_finding(name, words) for name in names if (words := _text_damage(own, name))]


def _text_damage(connection: sqlite3.Connection, name: str) -> str | None:
    """https://sqlite.org/fts5.html#the_integrity_check_command"""
    connection.execute("BEGIN")
    try:
        connection.execute(f"INSERT INTO {quoted(name)} ({quoted(name)}) VALUES ('integrity-check')")
    except sqlite3.Error as error:
        told = from_driver(error, "checking", name)
        return told.words if isinstance(told, Damaged) else None
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return None


def _spatial_damage(connection: sqlite3.Connection, name: str) -> str | None:
    """https://sqlite.org/rtree.html#integrity_checks_using_the_rtreecheck_sql_function"""
    try:
        words = str(connection.execute("SELECT rtreecheck('main', ?)", (name,)).fetchone()[0])
    except sqlite3.Error as error:
        told = from_driver(error, "checking", name)
        return told.words if isinstance(told, Damaged) else None
    return None if words == "ok" else words


def _finding(name: str, words: str) -> Finding:
    return Finding(
        "search_index_damaged",
        "high",
        canonical(name),
        msg("The index {name} contradicts itself: {words}", name=name, words=words),
        msg("Searches fail or miss rows. It can be made again from the rows by its own command 'rebuild'."),
    )
