"""The part `Sessions`: who the server is, its tables, who else is in, and how we end what we run."""

from __future__ import annotations

import time
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import EngineError
from ..messages import Message, msg
from ..parts import Sessions
from ..sockets import abort_connections
from ..values import Facts
from ..writers import told
from .connection import give_back
from .relations import spellings
from .sql import ask, data_directory
from .target import TargetDatabase


class PostgresSessions(Sessions):
    """Who the server is, its tables, and who else is in."""

    def __init__(self, target: TargetDatabase) -> None:
        self.target = target

    def facts(self) -> Facts:
        """See Sessions.facts. The identity is the cluster's identifier and port with the database's name.

        The name, not the oid: after a rollback by renaming it is still the same database to everybody.
        """
        with self.target.session("identifying the server") as connection:
            [(version, replica, size, system, port)] = ask(
                connection,
                """SELECT current_setting('server_version'), pg_is_in_recovery(), pg_database_size(current_database()),
                          (SELECT system_identifier FROM pg_control_system()), current_setting('port')""",
            )
            return Facts(
                version=f"PostgreSQL {str(version).split()[0]}",
                identity=f"postgresql:{system}:{port}:{self.target.name}",
                data_directory=data_directory(connection),
                is_replica=bool(replica),
                size_bytes=int(size),
            )

    def spellings(self) -> dict[str, list[str]]:
        """See Sessions.spellings. A partitioned table stands for the partitions that hold its rows."""
        with self.target.session("looking for tables") as connection:
            return spellings(connection)

    def writers(self) -> list[Message]:
        """See Sessions.writers. An account without pg_read_all_stats sees neither kind nor address of others."""
        with self.target.control("looking who is in the database") as connection:
            entry = self.target.identity.target(connection)
            rows = ask(connection, OTHERS, oid=entry.oid if entry else None, mine=self.target.tag.session)
        return [
            told(
                msg("{kind} {number}", kind=kind, number=number),
                account=account,
                address=address,
                application=application,
                since=since,
            )
            for number, kind, account, address, application, since in rows
        ]

    def abort_connections(self) -> None:
        """See Sessions.abort_connections."""
        abort_connections(self.target.url, 5432)

    def end_statements(self) -> None:
        """See Sessions.end_statements. A session that is still busy 2 s after it was cancelled is ended."""
        control = self.target.control_if_known()
        try:
            connection = self.target.enter(control, "stopping our work on", self.target.name)
        except EngineError:
            return  # Nobody to ask: the server is gone, and our sessions with it.
        try:
            with suppress(DBAPIError):
                self._stop_sessions(connection)
        finally:
            give_back(connection)

    def _stop_sessions(self, connection: Connection) -> None:
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < 4:
            busy = ask(
                connection,
                """SELECT pid FROM pg_stat_activity WHERE application_name = %(mine)s AND pid <> pg_backend_pid()
                   AND state IN ('active', 'idle in transaction', 'idle in transaction (aborted)',
                     'fastpath function call')""",
                mine=self.target.tag.session,
            )
            if not busy and passed > 0.3:
                return
            for (pid,) in busy:
                how = "pg_cancel_backend" if passed < 2 else "pg_terminate_backend"
                ask(connection, f"SELECT {how}(%(pid)s)", pid=pid)
            time.sleep(0.1)


OTHERS = """
SELECT pid, coalesce(backend_type, 'backend'), coalesce(usename::text, ''),
  coalesce(host(client_addr), CASE WHEN client_port = -1 THEN 'local socket' END, ''),
  coalesce(application_name, ''), coalesce(date_trunc('second', query_start)::text, '')
FROM pg_stat_activity
WHERE datid = %(oid)s AND pid <> pg_backend_pid()
  AND coalesce(backend_type, '') NOT IN ('autovacuum worker', 'parallel worker', 'walsender')
  AND (application_name IS DISTINCT FROM %(mine)s OR usename IS DISTINCT FROM session_user)
ORDER BY query_start DESC NULLS LAST, pid
"""
"""Workers of extensions and of subscriptions too. Left out is who changes no row: autovacuum, senders, and the parallel
workers of a session that is named itself. Ours have our name and our role: any session may call itself as ours do."""
