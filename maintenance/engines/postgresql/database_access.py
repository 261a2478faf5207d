"""Who may connect to a database: its row in pg_database as it is, and the statements that change it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from ..errors import Unable
from ..values import Json
from .sql import Row, ask, literal, quoted
from .target import TargetDatabase


@dataclass(frozen=True)
class DatabaseAccess:
    """The database's row as it is now. `mark`: what our comment says, when this installation signed it for it."""

    oid: int
    name: str
    limit: int
    allow: bool
    owner: str
    comment: str | None
    grants: tuple[tuple[str, str, bool], ...]
    plain: bool
    """Whether the grants are the default ones, never changed."""
    mark: Json | None


def access_of(target: TargetDatabase, connection: Connection, name: str | None = None) -> DatabaseAccess:
    """Return the row of the target (or of the database that is called `name`). Raises Unable when there is none."""
    entry = target.identity.target(connection) if name is None else target.identity.named(connection, name)
    if entry is None:
        raise Unable("reading the connection settings of", name or target.name, "there is no such database")
    [(limit, allow, plain)] = ask(
        connection,
        "SELECT datconnlimit, datallowconn, datacl IS NULL FROM pg_database WHERE oid = %(oid)s",
        oid=entry.oid,
    )
    if limit == -2:
        raise Unable(
            "reading the connection settings of", entry.name, "the database was dropped half and cannot be used"
        )
    return DatabaseAccess(
        entry.oid,
        entry.name,
        limit,
        allow,
        entry.owner,
        entry.comment,
        grants_of(connection, entry.name),
        bool(plain),
        entry.mark,
    )


def grants_of(connection: Connection, name: str) -> tuple[tuple[str, str, bool], ...]:
    """Return (grantee, privilege, grantable) in force; '' is everybody."""
    rows = ask(
        connection,
        """SELECT DISTINCT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type,
                  a.is_grantable
           FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
           WHERE d.datname = %(name)s ORDER BY 1, 2, 3""",
        name=name,
    )
    return tuple((str(who), str(what), bool(further)) for who, what, further in rows)


def wanted_grants(connection: Connection, name: str, gate: Json) -> tuple[tuple[str, str, bool], ...]:
    """As the gate says; the default ones when it says nothing. Roles dropped since are left out."""
    grants = gate["grants"]
    if grants is None:
        rows = ask(
            connection,
            """SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type,
                      a.is_grantable
               FROM pg_database d, aclexplode(acldefault('d', d.datdba)) a WHERE d.datname = %(name)s""",
            name=name,
        )
    else:
        assert isinstance(grants, list)
        roles = {str(role) for (role,) in ask(connection, "SELECT rolname FROM pg_roles")} | {""}
        rows = [(who, what, further) for who, what, further in grants if who in roles]
    return tuple((str(who), str(what), bool(further)) for who, what, further in rows)


def foreign_sessions(target: TargetDatabase, connection: Connection, oid: int, ours_too: bool = False) -> list[Row]:
    """Return (pid, role) of client sessions in database `oid`, replication left out. Ours have our name and our role:
    any session may call itself as ours do."""
    return ask(
        connection,
        """SELECT a.pid, a.usename FROM pg_stat_activity a
           WHERE a.datid = %(oid)s AND a.pid <> pg_backend_pid()
             AND (a.backend_type = 'client backend' OR (a.backend_type IS NULL AND a.usesysid IS NOT NULL))
             AND (%(all)s OR a.application_name IS DISTINCT FROM %(mine)s
               OR a.usename IS DISTINCT FROM session_user)""",
        oid=oid,
        mine=target.tag.session,
        all=ours_too,
    )


def keeps_its_name(connection: Connection, name: str) -> bool:
    """Return whether something is in the database that we spare and that the server neither renames nor copies under:
    a prepared transaction, logical replication, another background worker."""
    [(kept,)] = ask(
        connection,
        """SELECT EXISTS (SELECT 1 FROM pg_prepared_xacts WHERE database = %(name)s)
             OR EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = %(name)s
               AND backend_type NOT IN ('client backend', 'autovacuum worker', 'parallel worker'))""",
        name=name,
    )
    return bool(kept)


def set_limit(connection: Connection, name: str, limit: int) -> None:
    """Set how many connections the database takes; -1: any number."""
    ask(connection, f"ALTER DATABASE {quoted(name)} CONNECTION LIMIT {int(limit)}")


def set_allow(connection: Connection, name: str, allow: bool) -> None:
    """Allow or refuse every new connection to the database, a superuser's too."""
    ask(connection, f"ALTER DATABASE {quoted(name)} ALLOW_CONNECTIONS {'true' if allow else 'false'}")


def set_comment(connection: Connection, name: str, comment: str | None) -> None:
    """COMMENT takes no bound value, so the server itself quotes it."""
    ask(connection, f"COMMENT ON DATABASE {quoted(name)} IS {literal(connection, comment)}")


def set_grants(connection: Connection, name: str, gate: Json) -> None:
    """Grants as in `gate`; nothing is touched when they are so already."""
    for statement in granting(connection, name, name, gate):
        ask(connection, statement)


def granting(connection: Connection, found: str, name: str, gate: Json) -> list[str]:
    """Return statements that give database `name`, which is called `found` now, the grants of `gate`."""
    wanted = wanted_grants(connection, found, gate)
    now = grants_of(connection, found)
    if sorted(now) == sorted(wanted):
        return []
    database = quoted(name)
    statements = [
        f"REVOKE ALL ON DATABASE {database} FROM {quoted(who) if who else 'PUBLIC'} CASCADE"
        for who in sorted({grant[0] for grant in now})
    ]
    for who, what, further in wanted:
        option = " WITH GRANT OPTION" if further else ""
        whom = quoted(who) if who else "PUBLIC"
        if what in ("CREATE", "CONNECT", "TEMPORARY"):
            statements.append(f"GRANT {what} ON DATABASE {database} TO {whom}{option}")
    return statements
