"""What a maintenance made on the server beside the target: finding it, and taking it away."""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection

from ..errors import Unable
from ..values import Json
from .access_gate import Gate
from .sessions import mark_in
from .sql import ask, quoted


class Leftovers(Gate):
    """Side databases, marks, saved rows and sessions."""

    def leftovers(self) -> list[str]:
        """Side databases by their names; everything else in words."""
        found: list[str] = []
        with self.control("looking for what is left") as connection:
            for role in ("image", "restore", "broken", "held"):
                if self.exists(connection, self.side_name(role)):
                    found.append(self.side_name(role))
            mark = self.door(connection).mark
            if mark and self.tag.wrote(mark):
                found.append(f"marker on {self.database}")
            rows = ask(
                connection,
                """SELECT pid, application_name FROM pg_stat_activity
                   WHERE starts_with(application_name, %(family)s) AND application_name <> %(mine)s""",
                family=self.tag.family,
                mine=self.tag.session,
            )
            found += [f"session {pid} ({name})" for pid, name in rows]
        with self.session("looking for what is left") as connection:
            schemas = ask(
                connection,
                "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %(prefix)s) ORDER BY 1",
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
            elif item == self.side_name("held"):
                removed = False  # That is the database itself, while it is hidden.
            else:
                with self.control("dropping what is left") as connection:
                    self.drop_database(connection, item)
                    removed = not self.exists(connection, item)
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

    def exists(self, connection: Connection, name: str) -> bool:
        return bool(ask(connection, "SELECT 1 FROM pg_database WHERE datname = %(name)s", name=name))

    def drop_database(self, connection: Connection, name: str) -> None:
        """Only a side database that bears our mark or none; a name chosen by somebody else stays his."""
        rows = ask(
            connection,
            "SELECT shobj_description(oid, 'pg_database'), datistemplate FROM pg_database WHERE datname = %(name)s",
            name=name,
        )
        if not rows:
            return
        if rows[0][0] and not mark_in(rows[0][0]):
            raise Unable("dropping", name, "a database of that name exists and is not ours")
        for pid, *_ in self._foreign(connection, name, ours_too=True):
            ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
        if rows[0][1]:
            ask(connection, f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false")
        force = "WITH (FORCE)" if self.ways.drop_with_force else ""
        ask(connection, f"DROP DATABASE IF EXISTS {quoted(name)} {force}")

    def mark_side(self, connection: Connection, name: str, about: Json) -> None:
        self.set_comment(connection, name, json.dumps({"dbmaint": 1, **self.tag.mark, **about}))
