"""What the console's account must be allowed, right by right, with the statement that gives each."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

from ..messages import msg
from ..parts import Privileges
from ..values import Grant
from .accounts import observed_accounts
from .connection import Session
from .events import enabled_events
from .names import account, quoted
from .target import Server


class ServerPrivileges(Privileges):
    """What the console's account may do, by the server's own lists."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def grants(self, role: str | None = None) -> list[Grant]:
        """See Privileges.grants. `role` is 'user' or 'user@host'; the host is % when left out.

        Rights that come by way of a role of the server are not seen, and told as missing.
        """
        with self.server.session("asking for the rights of the account") as session:
            me = session.value("SELECT CURRENT_USER()") if role is None else role
            user, _, host = str(me).rpartition("@") if "@" in str(me) else (str(me), "", "%")
            literal = f"{text(session, user)}@{text(session, host)}"
            return list(_needed(self.server, session, f"'{user}'@'{host}'", literal, role is not None))


def text(session: Session, value: str) -> str:
    """A string as SQL, quoted by the server."""
    return str(session.value("SELECT QUOTE(%(value)s)", value=value))


def _needed(server: Server, session: Session, grantee: str, me: str, other: bool) -> Iterator[Grant]:
    if other and not session.ask(
        "SELECT 1 FROM information_schema.user_privileges WHERE grantee = %(g)s LIMIT 1", g=grantee
    ):
        yield Grant(f"CREATE USER {me}", msg("The console has no account yet"), False)
    held = {
        str(row[0]).upper()
        for row in session.ask(
            "SELECT privilege_type FROM information_schema.user_privileges WHERE grantee = %(g)s", g=grantee
        )
    }
    for right, purpose, severity in server.capabilities.rights:
        yield Grant(f"GRANT {right} ON *.* TO {me}", purpose, right in held, severity)
    yield from _needed_here(server, session, me, held)
    everywhere = {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "LOCK TABLES"} <= held
    schema = like(server.schema)
    yield Grant(
        f"GRANT ALL PRIVILEGES ON {quoted(schema)}.* TO {me}",
        msg("Without it the console cannot read and rebuild the tables of {schema}", schema=server.schema),
        everywhere or _holds(session, grantee, server.schema, "ALTER"),
        "high",
    )
    yield Grant(
        f"GRANT ALL PRIVILEGES ON {quoted(like('dbm_') + '%')}.* TO {me}",
        msg("Without it the console cannot keep copies in schemas of its own, whose names begin with dbm_"),
        everywhere or _holds(session, grantee, "dbm_x", "CREATE"),
        "high",
    )
    yield Grant(
        f"GRANT SELECT ON `mysql`.* TO {me}",
        msg("Without it the console cannot see accounts and statistics"),
        "SELECT" in held or _holds(session, grantee, "mysql", "SELECT"),
        "high",
    )
    yield Grant(
        f"GRANT SELECT ON `performance_schema`.* TO {me}",
        msg("Without it the console cannot see progress and waiting sessions"),
        "SELECT" in held or _holds(session, grantee, "performance_schema", "SELECT"),
        "low",
    )


def _needed_here(server: Server, session: Session, me: str, held: set[str]) -> Iterator[Grant]:
    """What follows from the accounts, triggers and settings that this server has now."""
    right = server.capabilities.protecting_right
    if right is not None and (protected := _protected(server, session, right)):
        purpose = msg(
            "Without it the console can neither lock {accounts} nor switch off their events",
            accounts=", ".join(protected),
        )
        yield Grant(f"GRANT {right} ON *.* TO {me}", purpose, right in held, "high")
    known = {str(row[0]).upper() for row in session.ask("SHOW PRIVILEGES")}
    definer = next((right for right in server.capabilities.definer_rights if right in known), None)
    if definer is not None:
        purpose = msg("Without it the console cannot restore views and routines of other accounts")
        yield Grant(f"GRANT {definer} ON *.* TO {me}", purpose, definer in held, "high")
    if _creators_are_not_trusted(server, session):
        purpose = msg(
            "Without it the console cannot put back triggers and functions while the binary log is on; or SET GLOBAL"
            " log_bin_trust_function_creators = ON"
        )
        yield Grant(f"GRANT SUPER ON *.* TO {me}", purpose, "SUPER" in held, "high")


def _protected(server: Server, session: Session, right: str) -> list[str]:
    """Return the accounts that the cut would lock, and the definers of events that it would switch off, which only
    an account with this right may alter."""
    rows = session.ask("SELECT grantee FROM information_schema.user_privileges WHERE privilege_type = %(r)s", r=right)
    holders = {str(row[0]) for row in rows}
    try:
        accounts = [(one["user"], one["host"]) for one in observed_accounts(server, session) if not one["locked"]]
        definers = [str(event["definer"]).rpartition("@")[::2] for event in enabled_events(server, session)]
    except DBAPIError:
        return []  # without the rights to look that are told as missing themselves
    found = {account(str(user), str(host)) for user, host in [*accounts, *definers] if f"'{user}'@'{host}'" in holders}
    return sorted(found)


def _creators_are_not_trusted(server: Server, session: Session) -> bool:
    """Whether error 1419 would meet who puts back a trigger or function of this schema."""
    if session.ask("SELECT @@GLOBAL.log_bin, @@GLOBAL.log_bin_trust_function_creators")[0] != (1, 0):
        return False
    return bool(
        session.ask(
            "SELECT 1 FROM information_schema.triggers WHERE trigger_schema = %(s)s UNION ALL"
            " SELECT 1 FROM information_schema.routines WHERE routine_schema = %(s)s AND routine_type = 'FUNCTION'"
            " LIMIT 1",
            s=server.schema,
        )
    )


def like(name: str) -> str:
    """A schema's name in GRANT, where _ and % stand for anything."""
    return name.replace("_", "\\_").replace("%", "\\%")


def _holds(session: Session, grantee: str, schema: str, right: str) -> bool:
    """Whether a grant on this schema, or on a pattern that fits it, includes the right."""
    return bool(
        session.ask(
            "SELECT 1 FROM information_schema.schema_privileges"
            " WHERE grantee = %(g)s AND %(s)s LIKE table_schema AND privilege_type = %(p)s LIMIT 1",
            g=grantee,
            s=schema,
            p=right,
        )
    )
