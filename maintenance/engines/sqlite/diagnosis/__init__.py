"""B: what is wrong with the file, read-only."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Sequence

from ...errors import Damaged
from ...parts import Diagnostics
from ...values import Diagnosis, Finding, TableFacts, Thresholds
from ..capabilities import VERSION
from ..names import tables_in
from ..processes import holders
from ..target import DatabaseFile
from .application_functions import findings as foreign_findings
from .application_functions import tables_of_others
from .constraints import orphans, violated
from .corruption import Harm
from .folder import folder_findings
from .header import ENCRYPTED, UNPARSED, header_findings, schema_unreadable, unreadable
from .search_indexes import search_index_findings
from .sizes import facts_of, judged, page_use, sampled_rows, whole_file
from .strangers import strangers

UNOPENED = {"header_damaged", "file_damaged", "page_count_wrong", ENCRYPTED}
"""Findings of files that SQLite is not asked about."""
COUNTING_SECONDS = 20.0
"""Exact row counts stop here; later tables have no count."""


class FileDiagnostics(Diagnostics):
    """Collects what the topics find."""

    def __init__(self, file: DatabaseFile) -> None:
        self.file = file

    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """Read pages and structure; write nothing. A file that cannot be opened is a finding, not an error."""
        return _diagnosed(self.file, thresholds, tables)


def _diagnosed(file: DatabaseFile, thresholds: Thresholds, tables: Sequence[str] | None) -> Diagnosis:
    file.require()
    findings = folder_findings(file)
    facts: list[TableFacts] = []
    try:
        of_header = header_findings(file)
        findings += of_header
        if not any(
            finding.code in ("header_damaged", "file_damaged", "page_count_wrong", ENCRYPTED) for finding in of_header
        ):
            with file.working("diagnosing", file.name) as connection:
                facts, inside = _inside(file, connection, thresholds, tables)
                findings += inside
    except Damaged as error:
        findings.append(schema_unreadable(error.words) if UNPARSED in error.words else unreadable(error.words))
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


def _inside(
    file: DatabaseFile, connection: sqlite3.Connection, thresholds: Thresholds, tables: Sequence[str] | None
) -> tuple[list[TableFacts], list[Finding]]:
    known = tables_in(connection)
    chosen = [table for name, table in known.items() if tables is None or name in tables]
    foreign = tables_of_others(connection, chosen)
    ours = [table for table in chosen if table.canonical not in foreign]
    harm = Harm(connection, ours, whole=tables is None and not foreign)
    if harm.found:
        for name, words in strangers(file, connection, ours).items():
            harm.rows.setdefault(name, words)
    findings = [*foreign_findings(foreign), *harm.findings()]
    pages = page_use(connection)
    sampled = sampled_rows(connection)
    until = time.monotonic() + COUNTING_SECONDS
    facts: list[TableFacts] = []
    for table in chosen:
        file.raise_if_stopping("diagnosing", table.canonical)
        facts.append(facts_of(connection, table, pages, sampled, harm, until))
    findings += [finding for fact in facts for finding in judged(fact, thresholds)]
    if tables is None:
        findings += whole_file(connection, thresholds)
        findings += search_index_findings(file, connection)
    findings += orphans(connection, ours, harm)
    if not foreign:
        findings += violated(connection, ours)
    return facts, findings
