"""B: what is wrong with the file, read-only."""

# ruff: noqa: S608 - identifiers are quoted by the dialect, values are bound

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from collections.abc import Sequence

from ..errors import Damaged, Interrupted, ResourceShortage, Transient
from ..messages import Sentence, listed, say, size
from ..values import Diagnosis, Finding, TableFacts, Thresholds
from .application_functions import findings as foreign_findings
from .application_functions import tables_of_others
from .driver_errors import translated
from .file import DatabaseFile
from .identity import VERSION
from .maintenance_lock import holders
from .names import Table, quoted, tables_in
from .verification import structure

COUNTING_SECONDS = 20.0
"""Exact row counts stop here; later tables have no count."""
LARGE_WAL = 64_000_000
WORTH_STATISTICS = 100_000
"""A table of fewer bytes is read as a whole in no time, whatever the plan."""

_PAGE = re.compile(r"page (\d+)", re.IGNORECASE)
_INDEX = re.compile(r"(?:missing from index|entries in index|entry in index|index) (\S+)$")


def diagnose(file: DatabaseFile, thresholds: Thresholds, tables: Sequence[str] | None) -> Diagnosis:
    """Reads pages and structure; writes nothing. A file that cannot be opened is a finding, not an error."""
    file.require()
    findings = _around(file)
    facts: list[TableFacts] = []
    try:
        header_findings = _header(file)
        findings += header_findings
        if not any(finding.code in ("header_damaged", "file_damaged") for finding in header_findings):
            with file.working("diagnosing", file.name) as connection:
                facts, inside = _inside(file, connection, thresholds, tables)
                findings += inside
    except Damaged as error:
        findings.append(_unreadable(error.words))
    status = shutil.disk_usage(file.path.parent)
    return Diagnosis(
        version=VERSION,
        size_bytes=file.size(),
        connections=len(holders(file.path)),
        max_connections=None,
        free_bytes=status.free,
        tables=tuple(facts),
        findings=tuple(findings),
    )


def _unreadable(words: str) -> Finding:
    return Finding(
        "file_damaged",
        "critical",
        "",
        say("The file cannot be read as a database: {words}", words=words),
        say("The header or the schema is damaged; restore from a backup if the header cannot be rebuilt."),
    )


def _header(file: DatabaseFile) -> list[Finding]:
    header = file.header()
    if header.file_bytes == 0:
        return []
    if not header.magic:
        if not header.plausible:
            return [_unreadable("the first page is overwritten")]
        return [
            Finding(
                "header_damaged",
                "critical",
                "",
                say("The first 16 bytes are not those of an SQLite file, the rest of the header is plausible."),
                say("Something else wrote into the file; writing the 16 bytes again may bring everything back."),
            )
        ]
    if file.notice_truncation():
        return [
            Finding(
                "file_truncated",
                "critical",
                "",
                say(
                    "The file has {found} but its header says {wanted}.",
                    found=size(header.file_bytes),
                    wanted=size(header.pages * header.page_size),
                ),
                say("A copy or a file system ended early; the rows at the end are gone from this file."),
            )
        ]
    return []


def _around(file: DatabaseFile) -> list[Finding]:
    """What the folder tells without opening the database."""
    found: list[Finding] = []
    beside = {ending: file.path.with_name(file.name + ending) for ending in ("-wal", "-journal")}
    wal = beside["-wal"].stat().st_size if beside["-wal"].exists() else 0
    if wal > LARGE_WAL:
        found.append(
            Finding(
                "wal_large",
                "medium",
                "",
                say("The write-ahead log has grown to {size}.", size=size(wal)),
                say("A reader that never ends, or automatic checkpoints switched off."),
            )
        )
    free = shutil.disk_usage(file.path.parent).free
    if free < 2 * file.size():
        found.append(
            Finding(
                "disk_low",
                "high",
                "",
                say("{free} free beside a file of {size}.", free=size(free), size=size(file.size())),
                say("A rewrite needs up to twice the size of the file (https://sqlite.org/lang_vacuum.html)."),
            )
        )
    return found


def _inside(
    file: DatabaseFile, connection: sqlite3.Connection, thresholds: Thresholds, tables: Sequence[str] | None
) -> tuple[list[TableFacts], list[Finding]]:
    known = tables_in(connection)
    chosen = [table for name, table in known.items() if tables is None or name in tables]
    foreign = tables_of_others(connection, chosen)
    ours = [table for table in chosen if table.canonical not in foreign]
    harm = Harm(connection, ours, whole=tables is None and not foreign)
    findings = [*foreign_findings(foreign), *harm.findings()]
    pages = _page_use(connection)
    sampled = _sampled_rows(connection)
    until = time.monotonic() + COUNTING_SECONDS
    facts: list[TableFacts] = []
    for table in chosen:
        file.raise_if_stopping("diagnosing", table.canonical)
        facts.append(_facts(connection, table, pages, sampled, harm, until))
    findings += [finding for fact in facts for finding in _judged(fact, thresholds)]
    if tables is None:
        findings += _whole(connection, thresholds)
    findings += _orphans(connection, ours, harm)
    return facts, findings


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
            return
        for table in chosen:
            self._examine(connection, table)
        if whole and not (self.rows or self.broken or self.wrong):
            self.elsewhere = [line for line in lines if line]

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
        if unread is not None:
            self.rows[name] = unread
        elif table.name in owners or not (broken or wrong & set(indexes)):
            self.rows[name] = self.evidence[name]
        self._note(name, broken, [index for index in indexes if index in wrong and index not in broken])

    def _note(self, name: str, broken: list[str], wrong: list[str]) -> None:
        if broken:
            self.broken[name] = broken
        # With rows missing every index seems to have too many entries; that says nothing of the index.
        if wrong and name not in self.rows:
            self.wrong[name] = wrong

    def findings(self) -> list[Finding]:
        found = [
            Finding(
                "table_damaged",
                "critical",
                name,
                say("Not all rows can be read: {words}", words=words),
                say("A page was overwritten or lost: failing disk, bad copy, or a program that wrote into the file."),
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
                    say("{indexes}: {words}", indexes=", ".join(indexes), words=self.evidence[name]),
                    say("Queries through these indexes fail or answer wrongly; they can be made again from the rows."),
                )
            )
        if self.elsewhere:
            found.append(
                Finding(
                    "structure_damaged",
                    "high",
                    "",
                    listed(self.elsewhere[:3]),
                    say("Pages that no table owns are damaged or lost; rewriting the file leaves them behind."),
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
            if not isinstance(translated(error, "", ""), (Damaged,)) and "dbstat" not in str(error):
                raise
    return owners


def _unreadable_rows(connection: sqlite3.Connection, table: Table) -> str | None:
    try:
        for _ in connection.execute(f"SELECT * FROM {quoted(table.name)} NOT INDEXED"):
            pass
    except sqlite3.Error as error:
        return _damage(error, table.name)
    return None


def _index_reads(connection: sqlite3.Connection, table: Table, index: str) -> bool:
    """Whether the whole index can be read. A partial one cannot be asked without its condition: yes."""
    try:
        for row in connection.execute(f"PRAGMA index_list({quoted(table.name)})").fetchall():
            if str(row[1]) == index and row[4]:
                return True
        connection.execute(f"SELECT count(*) FROM {quoted(table.name)} INDEXED BY {quoted(index)}").fetchone()
    except sqlite3.Error as error:
        _damage(error, index)
        return False
    return True


def _damage(error: sqlite3.Error, name: str) -> str:
    told = translated(error, "reading", name)
    if isinstance(told, (Interrupted, Transient, ResourceShortage)):
        raise error
    return told.words


def _page_use(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """B-tree -> (bytes, unused bytes in its pages); empty when this build has no dbstat."""
    try:
        rows = connection.execute("SELECT name, sum(pgsize), sum(unused) FROM dbstat GROUP BY name").fetchall()
    except sqlite3.Error:
        return {}
    return {str(name): (int(total), int(unused)) for name, total, unused in rows}


def _sampled_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Table -> rows at the last ANALYZE (https://sqlite.org/fileformat2.html#stat1tab)."""
    try:
        rows = connection.execute("SELECT tbl, max(CAST(stat AS INTEGER)) FROM sqlite_stat1 GROUP BY tbl").fetchall()
    except sqlite3.Error:
        return {}
    return {str(table): int(rows) for table, rows in rows}


def _facts(
    connection: sqlite3.Connection,
    table: Table,
    pages: dict[str, tuple[int, int]],
    sampled: dict[str, int],
    harm: Harm,
    until: float,
) -> TableFacts:
    indexes = indexes_of(connection, table)
    trees = [pages[name] for name in [table.name, *indexes] if name in pages]
    total, unused = sum(tree[0] for tree in trees), sum(tree[1] for tree in trees)
    name = table.canonical
    damaged = name in harm.rows
    rows = None if damaged or time.monotonic() > until else _count(connection, table)
    before = sampled.get(table.name)
    notes: dict[str, object] = {"statistics": "missing" if before is None else "present", "indexes": len(indexes)}
    if name in harm.broken:
        notes["broken_indexes"] = harm.broken[name]
    if name in harm.wrong:
        notes["wrong_indexes"] = harm.wrong[name]
    return TableFacts(
        name=name,
        bytes=total,
        rows=rows,
        bloat_share=unused / total if total else None,
        stale_share=None if before is None or rows is None else abs(rows - before) / max(rows, before, 1),
        damaged=damaged,
        notes=notes,
    )


def _count(connection: sqlite3.Connection, table: Table) -> int | None:
    try:
        return int(connection.execute(f"SELECT count(*) FROM {quoted(table.name)} NOT INDEXED").fetchone()[0])
    except sqlite3.Error as error:
        _damage(error, table.name)
        return None


def _judged(fact: TableFacts, thresholds: Thresholds) -> list[Finding]:
    found: list[Finding] = []
    if fact.bloat_share is not None and _bloated(fact.bytes, fact.bloat_share, thresholds):
        found.append(
            Finding(
                "table_bloat",
                "high" if fact.bloat_share >= 2 * thresholds.bloat_share else "medium",
                fact.name,
                say(
                    "{share:.0%} of {size} in the pages of the table and its indexes is unused.",
                    share=fact.bloat_share,
                    size=size(fact.bytes),
                ),
                say("Many rows were deleted or shortened since the file was last rewritten."),
            )
        )
    if fact.stale_share is not None and fact.stale_share >= thresholds.stale_share:
        found.append(
            Finding(
                "stale_statistics",
                "medium",
                fact.name,
                say("The row count differs by {share:.0%} from the one at the last ANALYZE.", share=fact.stale_share),
                say("The planner chooses its indexes by numbers that are no longer true."),
            )
        )
    if (
        fact.stale_share is None
        and fact.notes.get("statistics") == "missing"
        and fact.rows
        and fact.bytes >= WORTH_STATISTICS
    ):
        found.append(
            Finding(
                "missing_statistics",
                "low",
                fact.name,
                say("{rows:,} rows and no statistics.", rows=fact.rows),
                say("ANALYZE was never run; the planner guesses."),
            )
        )
    return found


def _bloated(total: int, share: float, thresholds: Thresholds) -> bool:
    return share >= thresholds.bloat_share and total >= thresholds.minimum_bytes


def _whole(connection: sqlite3.Connection, thresholds: Thresholds) -> list[Finding]:
    names = ("page_count", "freelist_count", "page_size")
    pages, free, page = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    share = free / pages if pages else 0.0
    if not _bloated(pages * page, share, thresholds):
        return []
    return [
        Finding(
            "free_pages",
            "medium",
            "",
            say("{free} of {size} are free pages.", free=size(free * page), size=size(pages * page)),
            say("Tables were emptied or dropped; SQLite keeps the space until the file is rewritten."),
        )
    ]


def _orphans(connection: sqlite3.Connection, chosen: Sequence[Table], harm: Harm) -> list[Finding]:
    found: list[Finding] = []
    for table in chosen:
        if table.canonical in harm.rows or table.canonical in harm.broken:
            continue
        count = 0
        try:
            for _ in connection.execute(f"PRAGMA foreign_key_check({quoted(table.name)})"):
                count += 1
        except sqlite3.Error as error:
            found.append(_no_parent(table, say("{words}", words=_damage(error, table.name))))
            continue
        if count:
            found.append(_no_parent(table, say("{rows:,} rows refer to a row that does not exist.", rows=count)))
    return found


def _no_parent(table: Table, evidence: Sentence) -> Finding:
    return Finding(
        "foreign_key_violation",
        "medium",
        table.canonical,
        evidence,
        say("SQLite checks foreign keys only on connections that ask for it (https://sqlite.org/foreignkeys.html)."),
    )
