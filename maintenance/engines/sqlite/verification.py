"""H: structure, constraints, sequences and definitions."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from ..errors import Damaged, EngineError, Interrupted
from ..messages import msg
from ..parts import Verifier
from ..values import Check, Fingerprint
from .backup import mended_copy, mended_side
from .definitions import definitions
from .driver_errors import from_reading
from .fingerprints import fingerprint_all, has_sequences
from .names import Table, quoted, tables_in
from .search_indexes import damage_of, search_indexes_in
from .table_scan import table_scan
from .target import DatabaseFile

MOST = 100
"""Lines that a check of one table gives at most."""
VIOLATED = re.compile(r"(?:NULL value|CHECK constraint failed|(?:TEXT|NUMERIC) value|non-[A-Z]+ value) in (.+)")
"""Lines of the check about rows that can be read and contradict the schema: they are no damage."""
NUMBER = re.compile(r"[-+]?\d")
PAGES = re.compile(r"(?:page|tree|root) (\d+)", re.IGNORECASE)


def structure(connection: sqlite3.Connection, table: str | None, most: int = MOST, thorough: bool = True) -> list[str]:
    """Lines of integrity_check; empty when all is well. An error while checking is a line too.

    Not `thorough`: quick_check, which does not compare indexes with rows.

    https://sqlite.org/pragma.html#pragma_integrity_check
    """
    # The name of a table that begins with a digit would be taken for a number of errors: then the file is asked.
    whole = table is None or most > MOST or NUMBER.match(table) is not None
    argument = str(most) if table is None or whole else quoted(table)
    try:
        check = "integrity_check" if thorough else "quick_check"
        rows = connection.execute(f"PRAGMA {check}({argument})").fetchall()
    except sqlite3.Error as error:
        told = from_reading(error, "checking", table or "the file")
        if told.kind != "integrity":
            raise
        if table is not None and whole and _reads(connection, table):
            return []  # the check gave up on something else in the file
        return [told.words]
    lines = [line for row in rows for line in str(row[0]).splitlines() if not line.startswith("***")]
    if len(rows) >= most and any(VIOLATED.match(line) for line in lines):
        # So many rows contradict the schema that they would hide what is damaged.
        return structure(connection, table, len(rows) * 100, thorough)
    lines = [line for line in lines if line != "ok" and not VIOLATED.match(line)]
    return lines if table is None or not whole else [line for line in lines if _is_of(connection, line, table)]


def _reads(connection: sqlite3.Connection, table: str) -> bool:
    """Whether the table and each of its indexes can be read from end to end."""
    indexes = connection.execute("SELECT name FROM pragma_index_list(?) WHERE NOT partial", (table,)).fetchall()
    try:
        for statement in [table_scan(connection, table, "*")] + [
            f"SELECT count(*) FROM {quoted(table)} INDEXED BY {quoted(str(index[0]))}" for index in indexes
        ]:
            for _ in connection.execute(statement):
                pass
    except (sqlite3.Error, Damaged):
        return False
    return True


def _is_of(connection: sqlite3.Connection, line: str, table: str) -> bool:
    """Whether a line of the whole check is about this table: by a name in it, or by the pages it names."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE tbl_name = ? COLLATE NOCASE AND rootpage > 0", (table,)
    ).fetchall()
    names = {str(row[0]) for row in rows}
    if any(line.endswith(name) or f" {name}." in line for name in names):
        return True
    pages = {int(page) for page in PAGES.findall(line)}
    try:
        owned = connection.execute(
            f"SELECT pageno FROM dbstat WHERE name IN ({', '.join('?' * len(names))})", [*names]
        ).fetchall()
    except sqlite3.Error:
        return True
    return bool(pages & {int(row[0]) for row in owned})


def _structure_checks(
    connection: sqlite3.Connection, name: str, chosen: list[Table], whole: bool, thorough: bool
) -> list[Check]:
    if whole:
        lines = structure(connection, None, thorough=thorough)
        return [Check("structure", name, not lines, "; ".join(lines[:5]))]
    found = [(table.canonical, structure(connection, table.name, thorough=thorough)) for table in chosen]
    return [Check("structure", object, not lines, "; ".join(lines[:5])) for object, lines in found]


def _search_index_checks(connection: sqlite3.Connection) -> list[Check]:
    """What each full-text and spatial index says of itself."""
    told = [(index, damage_of(connection, index)) for index in search_indexes_in(connection)]
    return [Check("search index", index.canonical, words is None, words or "", of_rows=True) for index, words in told]


def _table_checks(connection: sqlite3.Connection, table: Table, thorough: bool) -> list[Check]:
    found: list[Check] = []
    try:
        if thorough and connection.execute(f"PRAGMA foreign_key_list({quoted(table.name)})").fetchone():
            found.append(_foreign_keys(connection, table))
        found += _sequence(connection, table)
    except sqlite3.Error as error:
        told = from_reading(error, "checking", table.canonical)
        if told.kind not in ("integrity", "permanent") or isinstance(told, Interrupted):
            raise
        found.append(Check("readable", table.canonical, False, told.words))
    return found


def _foreign_keys(connection: sqlite3.Connection, table: Table) -> Check:
    orphans = 0
    for _ in connection.execute(f"PRAGMA foreign_key_check({quoted(table.name)})"):
        orphans += 1
    return Check(
        "foreign keys",
        table.canonical,
        orphans == 0,
        msg("{count} rows have no parent", count=orphans) if orphans else "",
        of_rows=True,
    )


def _sequence(connection: sqlite3.Connection, table: Table) -> list[Check]:
    if not has_sequences(connection):
        return []
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).fetchone()
    if row is None:
        return []
    highest = connection.execute(f"SELECT max(rowid) FROM {quoted(table.name)}").fetchone()[0]
    passed = highest is None or row[0] >= highest
    detail = msg("next after {last}, highest used {highest}", last=row[0], highest=highest)
    return [Check("sequence", table.canonical, passed, detail)]


def _of(file: DatabaseFile, side: str | None, doing: str) -> AbstractContextManager[sqlite3.Connection]:
    if side is not None:
        return file.side(mended_side(file, Path(side)), doing)
    # A file that SQLite refuses is locked by us all the same: what is in it is read from a mended copy.
    return file.working(doing, file.name) if file.raw is None else file.side(mended_copy(file), doing)


class FileVerifier(Verifier):
    """Rows, structure, constraints and definitions of the file."""

    def __init__(self, file: DatabaseFile) -> None:
        self.file = file

    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        """See Verifier.fingerprint. A file that cannot be opened has no tables to tell of."""
        try:
            with _of(self.file, side, "reading") as connection:
                return fingerprint_all(connection, tables)
        except Damaged as error:
            return {name: Fingerprint(None, None, error.words) for name in tables or ()}

    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        """Check structure, then foreign keys, then AUTOINCREMENT numbers."""
        file = self.file
        try:
            with file.working("checking", file.name) as connection:
                known = tables_in(connection)
                chosen = [known[name] for name in known if tables is None or name in tables]
                found = _structure_checks(connection, file.name, chosen, tables is None, thorough)
                if tables is None and thorough:
                    found += _search_index_checks(connection)
                return found + [check for table in chosen for check in _table_checks(connection, table, thorough)]
        except EngineError as error:
            if error.kind != "integrity":
                raise
            return [Check("structure", file.name, False, error.words)]

    def definitions(self, side: str | None = None) -> dict[str, str]:
        """See Verifier.definitions. Of a schema that cannot be read nothing is known."""
        try:
            with _of(self.file, side, "reading the definitions of") as connection:
                return definitions(connection)
        except Damaged:
            return {}
