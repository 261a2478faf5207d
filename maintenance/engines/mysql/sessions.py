"""The part `Sessions`: what the server says of itself, and who else may write to the schema now."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.exc import DBAPIError

from ..messages import Message, msg
from ..parts import Sessions
from ..sockets import abort_connections
from ..values import Facts
from ..writers import told
from . import names, structure
from .accounts import reaching_accounts
from .connection import Session
from .diagnosis.server_findings import is_replica
from .draining import NOT_YET_KNOWN, REPLICATION_COMMANDS, Inside
from .events import enabled_events
from .target import Server
from .writing import cluster_refusal

APPLYING = frozenset(("Slave_SQL", "Slave_worker", "Connect", "Query"))
"""Commands of the server's own user that bring rows of another server."""


class ServerSessions(Sessions):
    """Sessions on the server, and what it says of the schema."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def facts(self) -> Facts:
        """See Sessions.facts."""
        with self.server.session("looking at") as session:
            self.server.need_schema(session)
            version, folder = session.ask("SELECT VERSION(), @@datadir")[0]
            chosen = structure.tables(session, self.server.schema)
            measured = structure.sizes(self.server, session, chosen, self.server.schema)
            return Facts(
                version=f"{self.server.capabilities.version_prefix}{version}",
                identity=f"{_server_identity(self.server, session)}/{self.server.schema}",
                data_directory=str(folder) if folder else None,
                is_replica=is_replica(self.server, session),
                size_bytes=sum(one.bytes for one in measured.values()),
                refusal=cluster_refusal(session),
            )

    def writers(self) -> list[Message]:
        """See Sessions.writers."""
        with self.server.session("looking who may write to") as session:
            return [*_sessions(self.server, session), *_events(self.server, session)]

    def spellings(self) -> dict[str, list[str]]:
        """See Sessions.spellings."""
        with self.server.session("listing tables of") as session:
            self.server.need_schema(session)
            tables = [table.name for table in structure.tables(session, self.server.schema)]
        return names.spellings(self.server.schema, tables)

    def end_statements(self) -> None:
        """See Sessions.end_statements."""
        self.server.end_statements()

    def abort_connections(self) -> None:
        """See Sessions.abort_connections."""
        abort_connections(self.server.url, 3306)


def _sessions(server: Server, session: Session) -> list[Message]:
    """Who is in the schema, or of an account that reaches it; an event at work is a session of its definer."""
    accounts = session.ask(server.capabilities.accounts_sql)
    reaching = reaching_accounts(server, session)
    able = [{"user": a[0], "host": a[1]} for a in accounts if reaching is None or f"'{a[0]}'@'{a[1]}'" in reaching]
    inside = Inside(able, accounts, 0)
    own_name = str(session.value("SELECT USER()")).rpartition("@")[0]
    ours = server.own_session_ids(session)
    found = []
    # SHOW PROCESSLIST, because the table of the same content fails when tmpdir is full.
    for row in session.ask("SHOW PROCESSLIST"):
        number, user, host, database, command, seconds = int(row[0]), str(row[1]), str(row[2] or ""), *row[3:6]
        if (number in ours and user == own_name) or user == NOT_YET_KNOWN:
            continue
        if user == "system user":
            if command in APPLYING:
                found.append(told(msg("replication thread {number} ({command})", number=number, command=command)))
            continue
        if command in REPLICATION_COMMANDS:
            continue
        if database == server.schema or (user != own_name and inside.includes(user, host)):
            what = msg("session {number} ({command} for {seconds} s)", number=number, command=command, seconds=seconds)
            found.append(told(what, account=user, address=host))
    return found


def _events(server: Server, session: Session) -> list[Message]:
    """None where the server's scheduler is off."""
    if str(session.value("SELECT @@GLOBAL.event_scheduler")).upper() not in ("ON", "1"):
        return []
    return [
        told(msg("event {name}", name=f"{event['schema']}.{event['name']}"), account=str(event["definer"]))
        for event in enabled_events(server, session)
    ]


def _server_identity(server: Server, session: Session) -> str:
    """What is the same by socket and by network; older servers have no id of their own."""
    with suppress(DBAPIError):
        return str(session.value(server.capabilities.identity_sql))
    return ":".join(map(str, session.ask("SELECT @@hostname, @@port, @@datadir")[0]))
