"""What the console's account must be allowed, right by right, with the statement that gives each."""

from __future__ import annotations

from collections.abc import Iterator

from ..messages import msg
from ..parts import Privileges
from ..values import Grant
from .connection import Session
from .names import quoted
from .server import Server


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
