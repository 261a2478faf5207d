"""What goes on around the tables: sessions, replication, the binary log, settings, disk."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import Message, msg
from maintenance.engines.values import Finding, Severity

from ..connection import Session
from ..target import Server

LONG_TRANSACTION_SECONDS = 300
LAG_SECONDS = 60


def is_replica(server: Server, session: Session) -> bool:
    """Without the right to ask, a server that is read-only counts as one."""
    try:
        return bool(session.ask(server.capabilities.replica_sql))
    except DBAPIError:
        return str(session.value("SELECT @@GLOBAL.read_only")) in ("1", "ON")


def session_findings(server: Server, session: Session) -> list[Finding]:
    """Return findings about transactions that are open for long and queues for metadata locks."""
    found = []
    ours = server.own_session_ids(session)
    rows: list[tuple[object, ...]] = []
    with suppress(DBAPIError):
        rows = session.ask(
            # trx_started is in the time zone of the server's machine, our sessions are in UTC.
            "SELECT t.trx_mysql_thread_id,"
            " TIMESTAMPDIFF(SECOND, t.trx_started, CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM')),"
            " t.trx_rows_modified, p.db, p.user FROM information_schema.innodb_trx t"
            " LEFT JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
        )
    for number, seconds, changed, database, user in rows:
        age = int(str(seconds or 0))
        without_session = int(str(number)) == 0  # prepared, and told as such
        if without_session or int(str(number)) in ours:
            continue
        if age >= LONG_TRANSACTION_SECONDS and database in (server.schema, None):
            found.append(
                Finding(
                    "long_transaction",
                    "high",
                    "",
                    msg(
                        "Session {session} of {user} has been in a transaction for {seconds} s, {rows} rows changed",
                        session=int(str(number)),
                        user=str(user),
                        seconds=age,
                        rows=int(str(changed or 0)),
                    ),
                    msg("It keeps old row versions and locks; the cut will end and roll it back"),
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
                msg("{count} sessions wait for a metadata lock", count=len(waiting)),
                msg("A schema change waits for an open transaction, and everybody waits behind it"),
            )
        )
    return found


def replication_findings(server: Server, session: Session) -> list[Finding]:
    """How it stands with what this server follows, and with who follows it. Empty without the right to ask."""
    found = []
    followed: list[dict[str, object]] = []
    with suppress(DBAPIError):
        followed = session.named(server.capabilities.replica_sql)
    for one in followed:
        # The columns begin with Slave_ or Replica_, by product and version.
        told = {name.partition("_")[2].lower(): value for name, value in one.items()}
        running = {str(told.get(part, "")) for part in ("io_running", "sql_running")}
        lag = next((value for name, value in one.items() if name.startswith("Seconds_Behind")), None)
        words = str(one.get("Last_SQL_Error") or one.get("Last_IO_Error") or "")
        if running != {"Yes"}:
            found.append(
                Finding(
                    "replication_stopped",
                    "high",
                    "",
                    msg("Replication does not run: {words}", words=words or ", ".join(sorted(running))),
                    msg("This server falls behind; what it holds is not what its primary holds"),
                )
            )
        elif lag is not None and int(str(lag)) >= LAG_SECONDS:
            found.append(
                Finding(
                    "replication_lag",
                    "medium",
                    "",
                    msg("This server is {seconds} s behind its primary", seconds=int(str(lag))),
                    msg("It applies changes more slowly than they are made"),
                )
            )
    following = sum(1 for row in session.ask("SHOW PROCESSLIST") if str(row[4]).startswith("Binlog Dump"))
    if following:
        found.append(
            Finding(
                "has_replicas",
                "low",
                "",
                msg("{count} replicas follow this server", count=following),
                msg("They take over what a repair or a rollback changes, but no rebuild; look at them afterwards"),
            )
        )
    return found


def findings_of_server(server: Server, session: Session) -> list[Finding]:
    """Settings and states of the server as a whole that matter to maintenance."""
    found = []

    def tell(code: str, severity: Severity, evidence: Message, hint: Message) -> None:
        found.append(Finding(code, severity, "", evidence, hint))

    rescue, read_only, logged, flush, synced, most = session.ask(
        "SELECT @@GLOBAL.innodb_force_recovery, @@GLOBAL.read_only, @@GLOBAL.log_bin,"
        " @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.sync_binlog, @@GLOBAL.max_connections"
    )[0]
    if int(rescue):
        tell(
            "force_recovery",
            "critical",
            msg("innodb_force_recovery is {value}", value=int(rescue)),
            msg("The server is in rescue mode and cannot write all it should"),
        )
    if is_replica(server, session):
        tell(
            "replica",
            "high",
            msg("This server is a replica"),
            msg("Maintain the primary, or stop replication first"),
        )
    if str(read_only) in ("1", "ON"):
        tell("read_only", "high", msg("The server is read-only"), msg("Nobody can write; this may be meant"))
    if str(logged) in ("0", "OFF"):
        tell(
            "no_binary_log",
            "low",
            msg("The binary log is off"),
            msg("There is no way to replay what was committed after a backup"),
        )
    elif int(synced) != 1:
        tell(
            "unsafe_binary_log",
            "medium",
            msg("sync_binlog is {value}", value=int(synced)),
            msg("After a crash of the machine the binary log may lack what was committed"),
        )
    if int(flush) != 1:
        tell(
            "unsafe_commit",
            "medium",
            msg("innodb_flush_log_at_trx_commit is {value}", value=int(flush)),
            msg("A crash of the machine can lose committed rows"),
        )
    if session.value("SELECT @@GLOBAL.init_connect"):
        tell(
            "init_connect",
            "low",
            msg("The server begins sessions with statements of its own (init_connect)"),
            msg("They run in sessions of the console as well, unless its account has CONNECTION ADMIN"),
        )
    used = int(session.ask("SHOW GLOBAL STATUS LIKE 'Threads_connected'")[0][1])
    if used >= 0.9 * int(most):
        tell(
            "connections_near_limit",
            "high",
            msg("{used} of {most} connections are in use", used=used, most=int(most)),
            msg("New clients are about to be refused"),
        )
    return found
