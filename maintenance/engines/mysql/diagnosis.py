"""What is wrong, without touching what might be worse for it: figures, flags, sessions and the server's log."""

# ruff: noqa: S608 -- only quoted names and numbers stand in statements; values are bound

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from ..values import Diagnosis, Facts, Finding, Severity, TableFacts, Thresholds
from ..words import Sentence, say, size
from . import structure
from .names import canonical, from_file
from .pages import Verdict, verify_pages
from .server import Server, Session
from .structure import Size, Table

LONG_TRANSACTION_SECONDS = 300
UNUSED_SECONDS = 86_400
"""A server that started lately calls every index unused."""
SLACK_BYTES = 7_340_032
"""A freshly filled table already shows this much DATA_FREE: InnoDB takes space by extents of 1 MB, four at a time."""
LOG_TAIL = 512 * 1024
PAGE = 16_384


# -- who is it -------------------------------------------------------------------------------------


def facts(server: Server) -> Facts:
    """See Engine.facts."""
    with server.session("looking at") as session:
        server.need_schema(session)
        version, folder = session.ask("SELECT VERSION(), @@datadir")[0]
        chosen = structure.tables(session, server.schema)
        measured = structure.sizes(server, session, chosen, server.schema)
        return Facts(
            version=str(version),
            identity=f"{_server_identity(server, session)}/{server.schema}",
            data_directory=str(folder) if folder else None,
            is_replica=is_replica(server, session),
            size_bytes=sum(one.bytes for one in measured.values()),
        )


def _server_identity(server: Server, session: Session) -> str:
    """What is the same by socket and by network; older servers have no id of their own."""
    with suppress(DBAPIError):
        return str(session.value(server.identity_sql))
    return ":".join(map(str, session.ask("SELECT @@hostname, @@port, @@datadir")[0]))


def is_replica(server: Server, session: Session) -> bool:
    """Without the right to ask, a server that is read-only counts as one."""
    try:
        return bool(session.ask(server.replica_sql))
    except DBAPIError:
        return str(session.value("SELECT @@GLOBAL.read_only")) in ("1", "ON")


# -- diagnosis -------------------------------------------------------------------------------------


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


def diagnose(server: Server, thresholds: Thresholds, names: Sequence[str] | None) -> Diagnosis:
    """See Engine.diagnose. Reads no row and no page of a table; runs no CHECK."""
    with server.session("diagnosing") as session:
        server.need_schema(session)
        chosen = structure.chosen(structure.tables(session, server.schema), names)
        measured = structure.sizes(server, session, chosen, server.schema)
        live, stored = _live(server, session), _stored(server, session)
        verdict = verify_pages(server, session, chosen, measured)
        damaged = _damage(server, session, chosen, measured, verdict)
        tables = tuple(
            _table_facts(
                table, measured[table.name], live.get(table.name), stored.get(table.name), damaged, verdict.sound
            )
            for table in chosen
            if table.name in measured
        )
        findings = [
            *damaged.values(),
            *(finding for one in tables for finding in _table_findings(one, thresholds)),
            *_key_findings(server, session, chosen),
            *_unused_findings(server, session, chosen),
            *_session_findings(server, session),
            *_server_findings(server, session),
        ]
        connections = sum(1 for row in session.ask("SHOW PROCESSLIST") if row[3] == server.schema)
        return Diagnosis(
            version=str(session.value("SELECT VERSION()")),
            size_bytes=sum(table.bytes for table in tables),
            connections=connections,
            max_connections=int(session.value("SELECT @@GLOBAL.max_connections")),
            free_bytes=_free_bytes(server.data_folder(session)),
            tables=tables,
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


def _live(server: Server, session: Session) -> dict[str, Live]:
    """Needs PROCESS; empty without it."""
    try:
        rows = session.ask(
            f"SELECT name, num_rows, modified_counter, clust_index_size + other_index_size"
            f" FROM information_schema.{server.tablestats}"
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
    if stored and stored.pages > 8:
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
                say(
                    "About {share:.0%} of the {size} of {table} hold no rows",
                    share=table.bloat_share,
                    size=size(table.bytes),
                    table=table.name,
                ),
                say("Rows were deleted; the table keeps the space until it is rebuilt"),
            )
        )
    if (table.stale_share or 0) >= thresholds.stale_share and (table.rows or 0) > 0:
        found.append(
            Finding(
                "stale_statistics",
                "medium",
                table.name,
                say("{share:.0%} of {table} changed since its statistics", share=table.stale_share, table=table.name),
                say("The optimizer plans with old numbers; ANALYZE TABLE renews them"),
            )
        )
    return found


# -- damage ----------------------------------------------------------------------------------------


def _damage(
    server: Server, session: Session, chosen: Sequence[Table], measured: dict[str, Size], verdict: Verdict
) -> dict[str, Finding]:
    """Tables that the server or their own files call damaged; nothing is opened to find out."""
    found: dict[str, Finding] = {}
    folder = server.data_folder(session)
    for name, bad in verdict.damaged.items():
        found[name] = _damaged(name, "damaged_page", bad[0].told(canonical(name)))
    for table in chosen:
        comment = measured[table.name].comment if table.name in measured else ""
        if structure.marked_crashed(folder, server.schema, table) or "marked as crashed" in comment:
            found[table.name] = _damaged(
                table.name, "crashed_table", say("{table} is marked as crashed", table=canonical(table.name))
            )
    for name, line in log_suspects(server, session, measured).items():
        if any(table.name == name for table in chosen):
            found.setdefault(name, _damaged(name, "damaged_page", say("The server's log says: {line}", line=line)))
    for name, index in _flagged_indexes(server, session):
        if any(table.name == name for table in chosen):
            found.setdefault(
                name,
                _damaged(
                    name,
                    "corrupt_index",
                    say("The server has marked index {index} of {table} corrupt", index=index, table=canonical(name)),
                ),
            )
    return found


def _damaged(table: str, code: str, evidence: Sentence) -> Finding:
    return Finding(
        code,
        "critical",
        canonical(table),
        evidence,
        say("A disk or memory fault, or a server that died while writing; check the hardware too"),
    )


def _flagged_indexes(server: Server, session: Session) -> list[tuple[str, str]]:
    if server.flagged_indexes_sql is None:
        return []
    try:
        rows = session.ask(server.flagged_indexes_sql)
    except DBAPIError:
        return []
    found = []
    for name, index in rows:
        schema, _, table = str(name).partition("/")
        if from_file(schema) == server.schema:
            found.append((from_file(structure.PARTITION.split(table)[0]), str(index)))
    return found


IN_FILE = re.compile(
    r"(?:file|table)\s+[`'\"]?(?:\./)?([^`'\"\s/]+)[`'\"]?[./][`'\"]?([^`'\"\s]+?)(?:\.ibd)?[`'\"]",
    re.I,
)
COMPLAINT = re.compile(
    r"Failed to read page|Database page corruption|marked as crashed|Flagged corruption|is corrupted|index .* corrupt",
    re.I,
)
STAMP = re.compile(r"^(\d{4}-\d\d-\d\d)[ T](\d\d?:\d\d:\d\d)")


def log_suspects(server: Server, session: Session, measured: dict[str, Size]) -> dict[str, str]:
    """Tables of the schema that the server's log complains of, with the line; not what was rebuilt since."""
    found: dict[str, str] = {}
    for line in log_lines(server, session):
        named = IN_FILE.search(line)
        if not COMPLAINT.search(line) or named is None or from_file(named[1]) != server.schema:
            continue
        table = from_file(structure.PARTITION.split(named[2])[0])
        if table in measured and not _rebuilt_since(server, measured[table], line, session):
            found[table] = line.strip()[:300]
    return found


def _rebuilt_since(server: Server, measured: Size, line: str, session: Session) -> bool:
    """A rebuild makes a new file: its birth is later than the complaint. The log may be in the system's time zone."""
    stamp = STAMP.match(line)
    if stamp is None or measured.created is None:
        return False
    hour = stamp[2] if len(stamp[2]) == 8 else f"0{stamp[2]}"
    local = session.value("SELECT CONVERT_TZ(%(t)s, %(z)s, '+00:00')", t=f"{stamp[1]} {hour}", z=server.log_zone)
    return bool(local is not None and measured.created >= local)


def log_lines(server: Server, session: Session) -> list[str]:
    """The end of the server's error log where this process can read it, else what the server tells of it."""
    path, folder = session.ask("SELECT @@log_error, @@datadir")[0]
    if path and path != "stderr" and server.data_folder(session) is not None:
        try:
            with open(Path(str(folder)) / str(path), "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - LOG_TAIL))
                return file.read().decode(errors="replace").splitlines()
        except OSError:
            pass
    try:
        rows = session.ask(
            "SELECT CONCAT(logged, ' ', data) FROM performance_schema.error_log WHERE prio IN ('Error', 'Warning')"
            " ORDER BY logged DESC LIMIT 500"
        )
    except DBAPIError:
        return []
    return [str(row[0]) for row in reversed(rows)]


def unreadable_tables(server: Server) -> dict[str, str]:
    """Tables that must not be read at all, with the reason: where one bad page would end the server."""
    if not server.reading_damage_kills:
        return {}
    with server.session("reading the log of") as session:
        chosen = structure.tables(session, server.schema)
        measured = structure.sizes(server, session, chosen, server.schema)
        verdict = verify_pages(server, session, chosen, measured)
        evidence: dict[str, str] = {
            name: line
            for name, line in log_suspects(server, session, measured).items()
            if name not in verdict.sound  # what the log says is of an earlier time
        }
        evidence.update({name: bad[0].told(canonical(name)) for name, bad in verdict.damaged.items()})
        words = "not read, because reading a bad page would end the server"
        return {name: f"{words}: {why}" for name, why in evidence.items()}


# -- keys, sessions, settings ----------------------------------------------------------------------


def _key_findings(server: Server, session: Session, chosen: Sequence[Table]) -> list[Finding]:
    found = []
    for table in chosen:
        if server.repairs_on_open and table.engine in structure.REPAIRABLE:
            continue  # asking for its indexes opens it
        name = canonical(table.name)
        keys = structure.indexes(session, server.schema, table.name)
        if table.transactional and not any(key.unique for key in keys):
            found.append(
                Finding(
                    "no_primary_key",
                    "low",
                    name,
                    say("{table} has neither a primary key nor a unique index", table=name),
                    say("Rows cannot be addressed one by one; salvage and replication suffer"),
                )
            )
        for key, wider in _redundant(keys):
            found.append(
                Finding(
                    "duplicate_index",
                    "low",
                    name,
                    say("Index {index} of {table} is the beginning of {wider}", index=key, table=name, wider=wider),
                    say("It costs on every write and helps no query; it is never dropped automatically"),
                )
            )
    return found


def _unused_findings(server: Server, session: Session, chosen: Sequence[Table]) -> list[Finding]:
    """Indexes that nothing read since the server started; only where it counts, and has done so for a day."""
    uptime = int(session.ask("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1])
    counted = str(session.value("SELECT @@GLOBAL.performance_schema")) in ("1", "ON")
    if uptime < UNUSED_SECONDS or not counted:
        return []
    try:
        rows = session.ask(
            "SELECT object_name, index_name FROM sys.schema_unused_indexes WHERE object_schema = %(s)s", s=server.schema
        )
    except DBAPIError:
        return []
    names = {table.name for table in chosen}
    return [
        Finding(
            "unused_index",
            "low",
            canonical(str(table)),
            say(
                "Nothing used index {index} of {table} for {hours} hours",
                index=str(index),
                table=canonical(str(table)),
                hours=uptime // 3600,
            ),
            say("It may serve a report that runs once a month; it is never dropped automatically"),
        )
        for table, index in rows
        if str(table) in names
    ]


def _redundant(keys: Sequence[structure.Index]) -> list[tuple[str, str]]:
    """Indexes whose columns are the beginning of another's."""
    found = []
    for number, key in enumerate(keys):
        if key.unique or key.prefix or key.kind != "BTREE" or None in key.columns:
            continue
        for other_number, other in enumerate(keys):
            same = other.columns == key.columns
            starts = other.columns[: len(key.columns)] == key.columns
            comparable = other is not key and other.kind == "BTREE" and not other.prefix and starts
            if comparable and (not same or other.unique or other_number < number):
                found.append((key.name, other.name))
                break
    return found


def _session_findings(server: Server, session: Session) -> list[Finding]:
    found = []
    ours = server.own_session_ids(session)
    rows: list[tuple[object, ...]] = []
    with suppress(DBAPIError):
        rows = session.ask(
            "SELECT t.trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), t.trx_rows_modified,"
            " p.db, p.user FROM information_schema.innodb_trx t LEFT JOIN information_schema.processlist p"
            " ON p.id = t.trx_mysql_thread_id"
        )
    for number, seconds, changed, database, user in rows:
        age = int(str(seconds or 0))
        if age >= LONG_TRANSACTION_SECONDS and int(str(number)) not in ours and database in (server.schema, None):
            found.append(
                Finding(
                    "long_transaction",
                    "high",
                    "",
                    say(
                        "Session {session} of {user} has been in a transaction for {seconds} s, {rows} rows changed",
                        session=int(str(number)),
                        user=str(user),
                        seconds=age,
                        rows=int(str(changed or 0)),
                    ),
                    say("It keeps old row versions and locks; the cut will end and roll it back"),
                )
            )
    waiting = [
        row for row in session.ask("SHOW PROCESSLIST") if row[3] == server.schema and "metadata lock" in str(row[6])
    ]
    if waiting:
        found.append(
            Finding(
                "metadata_lock_queue",
                "high",
                "",
                say("{count} sessions wait for a metadata lock", count=len(waiting)),
                say("A schema change waits for an open transaction, and everybody waits behind it"),
            )
        )
    return found


def _server_findings(server: Server, session: Session) -> list[Finding]:
    """Settings and states of the server as a whole that matter to maintenance."""
    found = []

    def tell(code: str, severity: Severity, evidence: Sentence, hint: Sentence) -> None:
        found.append(Finding(code, severity, "", evidence, hint))

    rescue, read_only, logged, flush, most = session.ask(
        "SELECT @@GLOBAL.innodb_force_recovery, @@GLOBAL.read_only, @@GLOBAL.log_bin,"
        " @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.max_connections"
    )[0]
    if int(rescue):
        tell(
            "force_recovery",
            "critical",
            say("innodb_force_recovery is {value}", value=int(rescue)),
            say("The server is in rescue mode and cannot write all it should"),
        )
    if is_replica(server, session):
        tell(
            "replica",
            "high",
            say("This server is a replica"),
            say("Maintain the primary, or stop replication first"),
        )
    if str(read_only) in ("1", "ON"):
        tell("read_only", "high", say("The server is read-only"), say("Nobody can write; this may be meant"))
    if str(logged) in ("0", "OFF"):
        tell(
            "no_binary_log",
            "low",
            say("The binary log is off"),
            say("There is no way to replay what was committed after a backup"),
        )
    if int(flush) != 1:
        tell(
            "unsafe_commit",
            "medium",
            say("innodb_flush_log_at_trx_commit is {value}", value=int(flush)),
            say("A crash of the machine can lose committed rows"),
        )
    used = int(session.ask("SHOW GLOBAL STATUS LIKE 'Threads_connected'")[0][1])
    if used >= 0.9 * int(most):
        tell(
            "connections_near_limit",
            "high",
            say("{used} of {most} connections are in use", used=used, most=int(most)),
            say("New clients are about to be refused"),
        )
    return found
