"""Where the damage is: rows, indexes, or pages that no table owns."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from ...errors import Damaged, Interrupted, ResourceShortage, Transient
from ...messages import listed, msg
from ...values import Finding
from ..driver_errors import from_reading
from ..names import Table, quoted
from ..table_scan import primary_tree, rowid_name, table_scan
from ..verification import structure

MOST_ASKED = 200
"""Columns whose types are looked at."""
_PAGE = re.compile(r"page (\d+)", re.IGNORECASE)
_TWICE = re.compile(r"non-unique entry in index (.+)$")
_INDEX = re.compile(r"(?:missing from index|entries in index|entry in index|index) (\S+)$")


class Harm:
    """Where the damage is: tables whose rows cannot all be read, indexes that are broken or only wrong."""

    def __init__(self, connection: sqlite3.Connection, chosen: Sequence[Table], whole: bool) -> None:
        self.rows: dict[str, str] = {}
        """Canonical table -> the server's words."""
        self.broken: dict[str, list[str]] = {}
        """Canonical table -> indexes with pages that cannot be read."""
        self.wrong: dict[str, list[str]] = {}
        """Canonical table -> readable indexes that contradict their table."""
        self.elsewhere: list[str] = []
        """Damage of the file that no table or index owns, e.g. of the list of free pages."""
        self.evidence: dict[str, str] = {}
        # integrity_check may give up at the first bad page of a file, so tables are asked one by one.
        lines = structure(connection, None) if whole else []
        if whole and not lines:
            self.elsewhere = _strange_statistics(connection)
            return
        for table in chosen:
            try:
                self._examine(connection, table)
            except UnicodeError:
                self.rows[table.canonical] = msg("a name or a text of its schema is not valid")
        unused = [line for line in lines if line.endswith("never used")]
        if whole:
            self.elsewhere = unused if self.rows or self.broken or self.wrong else [line for line in lines if line]
            self.elsewhere += _strange_statistics(connection)

    def _examine(self, connection: sqlite3.Connection, table: Table) -> None:
        lines = structure(connection, table.name)
        if not lines:
            return
        name = table.canonical
        self.evidence[name] = "; ".join(lines[:3])
        owners = _owners(connection, lines, table)
        indexes = indexes_of(connection, table)
        wrong = {found.group(1) for line in lines if (found := _INDEX.search(line))}
        broken = [index for index in indexes if index in owners or not _index_reads(connection, table, index)]
        unread = _unreadable_rows(connection, table)
        twice = {found.group(1) for line in lines if (found := _TWICE.match(line))}
        if unread is not None:
            self.rows[name] = unread
        elif twice and not broken:
            self.rows[name] = listed([duplicates(connection, table, index) for index in sorted(twice)])
        elif table.name in owners or not (broken or wrong & set(indexes)):
            self.rows[name] = self.evidence[name]
        elif gone := [index for index in wrong & set(indexes) - set(broken) if _knows_more(connection, table, index)]:
            words = msg("{indexes} know rows that the table does not show", indexes=", ".join(sorted(gone)))
            self.rows[name] = words
        elif strange := _strange_rows(connection, table):
            words = msg(
                "{rows:,} rows have values of other types than the columns, and no index knows them", rows=strange
            )
            self.rows[name] = words
        self._note(name, broken, [index for index in indexes if index in wrong and index not in broken])

    def _note(self, name: str, broken: list[str], wrong: list[str]) -> None:
        if broken:
            self.broken[name] = broken
        # With rows missing every index seems to have too many entries; that says nothing of the index.
        if wrong and name not in self.rows:
            self.wrong[name] = wrong

    @property
    def found(self) -> bool:
        """Whether there is any damage at all."""
        return bool(self.rows or self.broken or self.wrong or self.elsewhere)

    def findings(self) -> list[Finding]:
        found = [
            Finding(
                "table_damaged",
                "critical",
                name,
                msg("Not all rows can be read: {words}", words=words),
                msg("A page was overwritten or lost: failing disk, bad copy, or a program that wrote into the file."),
            )
            for name, words in self.rows.items()
        ]
        for name in sorted({*self.broken, *self.wrong}):
            indexes = [*self.broken.get(name, []), *self.wrong.get(name, [])]
            found.append(
                Finding(
                    "index_damaged",
                    "high",
                    name,
                    msg("{indexes}: {words}", indexes=", ".join(indexes), words=self.evidence[name]),
                    msg("Queries through these indexes fail or answer wrongly; they can be made again from the rows."),
                )
            )
        if self.elsewhere:
            found.append(
                Finding(
                    "structure_damaged",
                    "high",
                    "",
                    listed(self.elsewhere[:3]),
                    msg("Pages that no table owns are damaged or lost; rewriting the file leaves them behind."),
                )
            )
        return found


def indexes_of(connection: sqlite3.Connection, table: Table) -> list[str]:
    """All B-trees of a table but its own, those of UNIQUE and PRIMARY KEY constraints among them."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? COLLATE NOCASE AND rootpage > 0"
        " ORDER BY name",
        (table.name,),
    )
    return [str(row[0]) for row in rows.fetchall()]


def duplicates(connection: sqlite3.Connection, table: Table, index: str) -> str:
    """Return how many keys of a unique index stand in several rows, with the first of these rows."""
    columns = [str(row[0]) for row in connection.execute("SELECT name FROM pragma_index_info(?)", (index,)) if row[0]]
    rowid = rowid_name(connection, table.name)
    if not columns or rowid is None:
        return msg("{index} has keys that stand in several rows", index=index)
    key = ", ".join(map(quoted, columns))
    where = " AND ".join(f"{quoted(column)} IS NOT NULL" for column in columns)
    statement = table_scan(connection, table.name, f"group_concat({rowid}, ' ')")
    rows = connection.execute(f"{statement} WHERE {where} GROUP BY {key} HAVING count(*) > 1").fetchall()
    shown = "; ".join(str(row[0])[:60] for row in rows[:3])
    return msg("{count:,} keys of {index} stand in several rows: {shown}", count=len(rows), index=index, shown=shown)


def _owners(connection: sqlite3.Connection, lines: list[str], table: Table) -> set[str]:
    """Which B-trees own the pages the check complains of (https://sqlite.org/dbstat.html)."""
    pages = {int(p) for line in lines if "never used" not in line for p in _PAGE.findall(line)}
    names = [table.name, *indexes_of(connection, table)]
    owners: set[str] = set()
    for name in names:
        try:
            rows = connection.execute("SELECT pageno, pagetype FROM dbstat WHERE name = ?", (name,))
            if any(page in pages or kind == "corrupted" for page, kind in rows):
                owners.add(name)
        except sqlite3.Error as error:
            if not isinstance(from_reading(error, "", ""), (Damaged,)) and "dbstat" not in str(error):
                raise
    return owners


def _unreadable_rows(connection: sqlite3.Connection, table: Table) -> str | None:
    try:
        for _ in connection.execute(table_scan(connection, table.name, "*")):
            pass
    except Damaged as error:
        return str(error.words)
    except sqlite3.Error as error:
        return damage_words(error, table.name)
    return None


def _index_reads(connection: sqlite3.Connection, table: Table, index: str) -> bool:
    """Whether the whole index can be read. A partial one cannot be asked without its condition: yes."""
    try:
        for row in connection.execute(f"PRAGMA index_list({quoted(table.name)})").fetchall():
            if str(row[1]) == index and row[4]:
                return True
        connection.execute(f"SELECT count(*) FROM {quoted(table.name)} INDEXED BY {quoted(index)}").fetchone()
    except sqlite3.Error as error:
        damage_words(error, index)
        return False
    return True


def _strange_statistics(connection: sqlite3.Connection) -> list[str]:
    """Say so where the table of statistics has rows that name no table: those of a table whose page lies there.

    SQLite's check finds nothing wrong with them, and ANALYZE would delete them.
    """
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").fetchone():
        return []
    statement = "SELECT count(*) FROM sqlite_stat1 WHERE typeof(tbl) <> 'text'"
    try:
        count = int(connection.execute(statement).fetchone()[0])
    except sqlite3.Error as error:
        return [damage_words(error, "sqlite_stat1")]
    return [msg("{count:,} rows among the statistics are none: a page of a table may lie there", count=count)] * (
        count > 0
    )


def _strange_rows(connection: sqlite3.Connection, table: Table) -> int:
    """How many rows have text or bytes where the columns are of numbers: a page of another table shows so."""
    columns = connection.execute("SELECT name, upper(type) FROM pragma_table_info(?)", (table.name,)).fetchall()
    numbers = [quoted(str(name)) for name, kind in columns if any(word in kind for word in ("INT", "REAL", "DOUB"))]
    if not numbers:
        return 0
    strange = " OR ".join(f"typeof({name}) IN ('text', 'blob')" for name in numbers[:MOST_ASKED])
    try:
        statement = table_scan(connection, table.name, f"sum({strange})")
        return int(connection.execute(statement).fetchone()[0] or 0)
    except (Damaged, sqlite3.Error):
        return 0


def _knows_more(connection: sqlite3.Connection, table: Table, index: str) -> bool:
    """Whether an index has entries of rows that the table does not have: then it is the table that lost them."""
    key = primary_tree(connection, table.name)
    if key is None:
        rowid = rowid_name(connection, table.name)
        columns = [rowid] if rowid is not None else []
    else:
        rows = connection.execute("SELECT name FROM pragma_index_info(?)", (key,)).fetchall()
        columns = [quoted(str(row[0])) for row in rows]
    partial = connection.execute(
        "SELECT partial FROM pragma_index_list(?) WHERE name = ?", (table.name, index)
    ).fetchone()
    if not columns or partial is None or partial[0]:
        return False
    known = f"SELECT {', '.join(columns)} FROM {quoted(table.name)} INDEXED BY {quoted(index)}"
    try:
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {known}").fetchall()]
        if not (len(plan) == 1 and plan[0].endswith(f"INDEX {index}")):
            return False
        there = table_scan(connection, table.name, ", ".join(columns))
        return bool(connection.execute(f"SELECT EXISTS ({known} EXCEPT {there})").fetchone()[0])
    except Damaged:
        return True
    except sqlite3.Error as error:
        damage_words(error, index)
        return True


def damage_words(error: sqlite3.Error, name: str) -> str:
    told = from_reading(error, "reading", name)
    if isinstance(told, (Interrupted, Transient, ResourceShortage)):
        raise error
    return told.words
