"""The databases that a maintenance makes on the server beside the target."""

from __future__ import annotations

from sqlalchemy import Connection

from ..errors import Unable
from ..values import Json
from .database_access import access_of, foreign_sessions, set_allow, set_comment, set_limit
from .identity import Entry
from .sql import ask, is_superuser, quoted
from .target import TargetDatabase

SIDES = ("image", "restore", "broken")


class SideDatabases:
    """Finds, marks and drops them."""

    def __init__(self, target: TargetDatabase) -> None:
        self.target = target

    def restored(self) -> str | None:
        """Return the name of the copy that was restored whole and proven before the cut."""
        with self.target.control("looking for the restored copy") as connection:
            entry = self.target.identity.side(connection, "restore")
        return entry.name if entry and entry.mark and entry.mark.get("complete") else None

    def ours(self, connection: Connection, role: str) -> Entry | None:
        """Return the side database in that role; None also where somebody else's has its name."""
        try:
            return self.target.identity.side(connection, role)
        except Unable:
            return None

    def mark(self, connection: Connection, oid: int, name: str, about: Json) -> None:
        set_comment(connection, name, self.target.identity.mark(oid, about))

    def mark_restored(self, connection: Connection, name: str, complete: bool, role: str = "restore") -> None:
        about = {"role": role, "complete": complete, "owner": access_of(self.target, connection).owner}
        self.mark(connection, access_of(self.target, connection, name).oid, name, about)

    def copying(self, connection: Connection, source: str, name: str) -> str:
        """Return the statement that copies database `source` by file. Superusers alone may connect then, where the
        account is one; otherwise CONNECT is to be revoked."""
        method = "STRATEGY FILE_COPY" if self.target.capabilities.copy_strategy else ""
        limit = "CONNECTION LIMIT 0" if is_superuser(connection) else ""
        version = self._collation_version(connection, source)
        return f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(source)} {method} {version} {limit}"

    def _collation_version(self, connection: Connection, source: str) -> str:
        """The server refuses to copy a database whose collation changed, unless it is told the version as recorded."""
        if not self.target.capabilities.database_collation_version:
            return ""
        [(version,)] = ask(
            connection, "SELECT quote_literal(datcollversion) FROM pg_database WHERE datname = %(name)s", name=source
        )
        return f"COLLATION_VERSION {version}" if version else ""

    def drop(self, connection: Connection, role: str) -> None:
        """Drop the side database in that role, if there is one. Raises Unable where it is not provably ours."""
        entry = self.target.identity.side(connection, role)
        if entry is not None:
            self.drop_entry(connection, entry)

    def drop_entry(self, connection: Connection, entry: Entry) -> None:
        """Drop a database that is proven to be ours, with the sessions in it."""
        for pid, *_ in foreign_sessions(self.target, connection, entry.oid, ours_too=True):
            ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
        self._drop_subscriptions(connection, entry)
        ask(connection, f"ALTER DATABASE {quoted(entry.name)} IS_TEMPLATE false")
        force = "WITH (FORCE)" if self.target.capabilities.drop_with_force else ""
        ask(connection, f"DROP DATABASE IF EXISTS {quoted(entry.name)} {force}")

    def _drop_subscriptions(self, connection: Connection, entry: Entry) -> None:
        """The server drops no database that has some. The slots at the publisher are the target's, and stay."""
        query = "SELECT subname FROM pg_subscription WHERE subdbid = %(oid)s"
        names = [quoted(name) for (name,) in ask(connection, query, oid=entry.oid)]
        if not names:
            return
        # Superusers alone get in meanwhile.
        set_limit(connection, entry.name, 0)
        set_allow(connection, entry.name, True)
        with self.target.session("dropping subscriptions", entry.name, database=entry.name) as inside:
            for name in names:
                ask(inside, f"ALTER SUBSCRIPTION {name} DISABLE")
                ask(inside, f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")
                ask(inside, f"DROP SUBSCRIPTION {name}")
