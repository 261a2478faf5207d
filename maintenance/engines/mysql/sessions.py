"""Who else may write to the schema now: sessions, events that are on, and the appliers of replication."""

from __future__ import annotations

from ..messages import Message, msg
from ..writers import told
from .accounts import reaching_accounts
from .connection import Session
from .draining import NOT_YET_KNOWN, REPLICATION_COMMANDS, Inside
from .events import enabled_events
from .server import Server

APPLYING = frozenset(("Slave_SQL", "Slave_worker", "Connect", "Query"))
"""Commands of the server's own user that bring rows of another server."""


def writers(server: Server) -> list[Message]:
    """See Sessions.writers."""
    with server.session("looking who may write to") as session:
        return [*_sessions(server, session), *_events(server, session)]


def _sessions(server: Server, session: Session) -> list[Message]:
    """Who is in the schema, or of an account that reaches it; an event at work is a session of its definer."""
    accounts = session.ask(server.accounts_sql)
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
