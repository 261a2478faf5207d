"""What a maintenance made on the server beside the target: finding it, and taking it away."""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from ..errors import Unable
from ..values import Json
from .access_gate import Gate
from .identity import Entry
from .sql import ask, quoted

SIDES = ("image", "restore", "broken")


class Leftovers(Gate):
    """Side databases, marks, saved rows and sessions."""

    def leftovers(self) -> list[str]:
        """Side databases by their names; everything else in words."""
        found: list[str] = []
        with self.control("looking for what is left") as connection:
            found += [entry.name for role in SIDES if (entry := self._own(connection, role))]
            target = self.identity.target(connection)
            if target is not None and target.mark is not None and self.tag.wrote(target.mark):
                found += [target.name] if target.name != self.database else []
                found.append(f"marker on {self.database}")
            rows = ask(
                connection,
                """SELECT pid, application_name FROM pg_stat_activity
                   WHERE starts_with(application_name, %(family)s) AND application_name <> %(mine)s
                     AND usename = session_user""",
                family=self.tag.family,
                mine=self.tag.session,
            )
            found += [f"session {pid} ({name})" for pid, name in rows]
        with self.session("looking for what is left") as connection:
            schemas = ask(
                connection,
                """SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %(prefix)s)
                   AND pg_get_userbyid(nspowner) = current_user ORDER BY 1""",
                prefix=f"{self.tag.suffix}_",
            )
            found += [f"schema {name}" for (name,) in schemas]
        return found

    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        """A marker goes only where the gate is as before; saved rows that were not put back stay."""
        self.keep_turn()
        gone: list[str] = []
        left = [item for item in self.leftovers() if item not in keep]
        if any(item.startswith("session ") for item in left):
            with self.control("ending sessions of an earlier attempt") as connection:
                self._end_other_tokens(connection)
        for item in left:
            if item.startswith("schema "):
                removed = self._drop_schema(item.removeprefix("schema "))
            elif item.startswith("marker on "):
                removed = self._drop_marker()
            elif item.startswith("session "):
                removed = True
            else:
                removed = self._drop_named(item)
            if removed:
                gone.append(item)
        return gone

    def _drop_schema(self, name: str) -> bool:
        with self.session("dropping what is left", name) as connection:
            tables = ask(
                connection,
                """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = %(name)s AND c.relkind = 'r'""",
                name=name,
            )
            for (table,) in tables:
                if ask(connection, f"SELECT 1 FROM {quoted(name)}.{quoted(table)} LIMIT 1"):
                    return False
            ask(connection, f"DROP SCHEMA {quoted(name)} CASCADE")
        return True

    def _drop_marker(self) -> bool:
        """True when it is gone."""
        gate = self.read_state()
        if any(not words.startswith("comment ") for words in self.differences(gate)):
            return False
        with self.control("removing the marker") as connection:
            comment = gate["comment"]
            self.set_comment(connection, self.database, None if comment is None else str(comment))
        return True

    def _own(self, connection: Connection, role: str) -> Entry | None:
        """The side database in that role; None also where somebody else's has its name."""
        try:
            return self.identity.side(connection, role)
        except Unable:
            return None

    def _drop_named(self, name: str) -> bool:
        """True when a side database of ours had that name. The target itself, while it is hidden, is none."""
        with self.control("dropping what is left") as connection:
            for role in SIDES:
                entry = self._own(connection, role)
                if entry is not None and entry.name == name:
                    self.drop_side(connection, role)
                    return True
        return False

    def drop_side(self, connection: Connection, role: str) -> None:
        """Drops the side database in that role, if there is one. Raises Unable where it is not provably ours."""
        entry = self.identity.side(connection, role)
        if entry is None:
            return
        for pid, *_ in self._foreign(connection, entry.oid, ours_too=True):
            ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
        ask(connection, f"ALTER DATABASE {quoted(entry.name)} IS_TEMPLATE false")
        force = "WITH (FORCE)" if self.ways.drop_with_force else ""
        ask(connection, f"DROP DATABASE IF EXISTS {quoted(entry.name)} {force}")

    def mark_side(self, connection: Connection, oid: int, name: str, about: Json) -> None:
        self.set_comment(connection, name, self.identity.mark(oid, about))
