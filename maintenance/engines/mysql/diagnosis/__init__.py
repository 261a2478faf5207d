"""What is wrong, without touching what might be worse for it: figures, flags, sessions and the server's log."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import msg, size
from maintenance.engines.parts import Diagnostics
from maintenance.engines.values import Diagnosis, Finding, TableFacts, Thresholds

from .. import structure
from ..connection import Session
from ..filenames import from_file
from ..names import canonical
from ..repair.innodb_pages import verify_pages
from ..structure import Size, Table
from ..target import Server
from .damage import damage_findings
from .error_log import log_findings
from .keys import key_findings, unused_findings
from .left_out import left_out_findings
from .server_findings import findings_of_server, replication_findings, session_findings

ROOM = 1.2
"""Free space asked for beside the largest table, as a multiple of it."""
SLACK_BYTES = 7_340_032
"""A freshly filled table already shows this much DATA_FREE: InnoDB takes space by extents of 1 MB, four at a time."""


@dataclass(frozen=True)
class Live:
    """InnoDB's own figures in memory: rows, changes since the last statistics, pages held."""

    rows: int
    changed: int
    pages: int


@dataclass(frozen=True)
class Stored:
    """Figures of the last statistics: rows, pages held by all indexes, leaf pages in use."""

    rows: int
    pages: int
    leaves: int
    updated: datetime | None


class ServerDiagnostics(Diagnostics):
    """Figures, flags, sessions and the server's log."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """See Diagnostics.diagnose. Reads no row and no page of a table; runs no CHECK."""
        with self.server.session("diagnosing") as session:
            self.server.need_schema(session)
            chosen = structure.chosen(structure.tables(session, self.server.schema), tables)
            measured = structure.sizes(self.server, session, chosen, self.server.schema)
            live, stored = _live(self.server, session), _stored(self.server, session)
            verdict = verify_pages(self.server, session, chosen, measured)
            damaged = damage_findings(self.server, session, chosen, measured, verdict)
            figures = tuple(
                _table_facts(
                    table, measured[table.name], live.get(table.name), stored.get(table.name), damaged, verdict.sound
                )
                for table in chosen
                if table.name in measured
            )
            free = _free_bytes(self.server.data_folder(session))
            findings = [
                *damaged.values(),
                *(finding for one in figures for finding in _table_findings(one, thresholds)),
                *left_out_findings(self.server, session, chosen),
                *key_findings(self.server, session, chosen),
                *unused_findings(self.server, session, chosen),
                *session_findings(self.server, session),
                *replication_findings(self.server, session),
                *findings_of_server(self.server, session),
                *_room_findings(free, figures),
                *log_findings(self.server, session),
            ]
            connections = sum(1 for row in session.ask("SHOW PROCESSLIST") if row[3] == self.server.schema)
            return Diagnosis(
                version=f"{self.server.capabilities.version_prefix}{session.value('SELECT VERSION()')}",
                size_bytes=sum(table.bytes for table in figures),
                connections=connections,
                max_connections=int(session.value("SELECT @@GLOBAL.max_connections")),
                free_bytes=free,
                tables=figures,
                findings=tuple(findings),
            )


def _free_bytes(folder: Path | None) -> int | None:
    """Only where the data lies on this very host and can be looked at."""
    if folder is None:
        return None
    with suppress(OSError):
        seen = os.statvfs(folder)
        return seen.f_bavail * seen.f_frsize
    return None


def _room_findings(free: int | None, tables: Sequence[TableFacts]) -> list[Finding]:
    """A rebuild writes the table a second time before it drops the first."""
    largest = max(tables, key=lambda table: table.bytes, default=None)
    if free is None or largest is None or free >= largest.bytes * ROOM:
        return []
    return [
        Finding(
            "disk_low",
            "high",
            "",
            msg(
                "{free} free where the data lies; the largest table, {table}, has {size}",
                free=size(free),
                table=largest.name,
                size=size(largest.bytes),
            ),
            msg("A rebuild needs as much again as the table has; a full disk makes writes wait for ever"),
        )
    ]


def _live(server: Server, session: Session) -> dict[str, Live]:
    """Needs PROCESS; empty without it."""
    try:
        rows = session.ask(
            f"SELECT name, num_rows, modified_counter, clust_index_size + other_index_size"
            f" FROM information_schema.{server.capabilities.tablestats}"
        )
    except DBAPIError:
        return {}
    found: dict[str, Live] = {}
    for name, count, changed, pages in rows:
        schema, _, table = str(name).partition("/")
        if from_file(schema) != server.schema:
            continue
        # Partitions are counted together.
        table = from_file(structure.PARTITION.split(table)[0])
        before = found.get(table, Live(0, 0, 0))
        found[table] = Live(before.rows + int(count), before.changed + int(changed), before.pages + int(pages))
    return found


def _stored(server: Server, session: Session) -> dict[str, Stored]:
    """Persistent statistics; needs SELECT on mysql.*; empty without it."""
    try:
        rows = session.ask(
            "SELECT t.table_name, t.n_rows, t.last_update, s.pages, s.leaves FROM mysql.innodb_table_stats t JOIN"
            " (SELECT database_name, table_name, SUM(IF(stat_name = 'size', stat_value, 0)) AS pages,"
            " SUM(IF(stat_name = 'n_leaf_pages', stat_value, 0)) AS leaves FROM mysql.innodb_index_stats"
            " GROUP BY database_name, table_name) s"
            " ON s.database_name = t.database_name AND s.table_name = t.table_name WHERE t.database_name = %(s)s",
            s=server.schema,
        )
    except DBAPIError:
        return {}
    found: dict[str, Stored] = {}
    for name, count, updated, pages, leaves in rows:
        table = structure.PARTITION.split(str(name))[0]
        before = found.get(table, Stored(0, 0, 0, None))
        found[table] = Stored(before.rows + int(count), before.pages + int(pages), before.leaves + int(leaves), updated)
    return found


def _table_facts(
    table: Table,
    measured: Size,
    live: Live | None,
    stored: Stored | None,
    damaged: dict[str, Finding],
    sound: frozenset[str],
) -> TableFacts:
    notes: dict[str, object] = {"engine": table.engine}
    if table.name in sound:
        notes["pages"] = "sound"
    if not measured.known:
        notes["size"] = "not read: opening the table would repair it"
    rows = live.rows if live else measured.rows
    if rows and measured.bytes:
        notes["bytes_per_row"] = round(measured.bytes / rows, 1)
    if measured.free:
        notes["data_free"] = measured.free
    if stored and stored.updated:
        notes["statistics_of"] = stored.updated.isoformat()
    return TableFacts(
        name=canonical(table.name),
        bytes=measured.bytes,
        rows=int(rows) if rows is not None else None,
        bloat_share=bloat_share(measured, live, stored),
        dead_share=None,
        stale_share=min(1.0, live.changed / max(live.rows, 1))
        if live and stored and live.changed
        else (0.0 if live and stored else None),
        damaged=table.name in damaged,
        notes=notes,
    )


def bloat_share(measured: Size, live: Live | None, stored: Stored | None) -> float | None:
    """Largest of three signs; each misses what another sees.

    Pages that the indexes hold but do not use (right after statistics); rows that went since the last
    statistics while the pages stayed; free extents beyond the usual slack. A table whose pages are half
    full after a deletion of up to half of its rows shows in none of them: bytes_per_row in the notes,
    compared over time, does.
    """
    signs: list[float] = []
    # Below a megabyte pages are given out one by one, and a small index may be said to have one leaf.
    if stored and stored.pages > 64 and stored.leaves > 1:
        signs.append((stored.pages - stored.leaves) / stored.pages - 0.05)
    if live and stored and stored.rows and live.pages >= stored.pages * 0.9:
        signs.append(1 - live.rows / stored.rows)
    if measured.bytes:
        signs.append((measured.free - SLACK_BYTES) / measured.bytes)
    return max(0.0, *signs) if signs else None


def _table_findings(table: TableFacts, thresholds: Thresholds) -> list[Finding]:
    found = []
    if (table.bloat_share or 0) >= thresholds.bloat_share and table.bytes >= thresholds.minimum_bytes:
        found.append(
            Finding(
                "table_bloat",
                "medium" if (table.bloat_share or 0) < 0.6 else "high",
                table.name,
                msg(
                    "About {share:.0%} of the {size} of {table} hold no rows",
                    share=table.bloat_share,
                    size=size(table.bytes),
                    table=table.name,
                ),
                msg("Rows were deleted; the table keeps the space until it is rebuilt"),
            )
        )
    if (table.stale_share or 0) >= thresholds.stale_share and (table.rows or 0) > 0:
        found.append(
            Finding(
                "stale_statistics",
                "medium",
                table.name,
                msg("{share:.0%} of {table} changed since its statistics", share=table.stale_share, table=table.name),
                msg("The optimizer plans with old numbers; ANALYZE TABLE renews them"),
            )
        )
    return found
