"""The gate: who may connect. Marked on the database itself, in the transaction that closes it.

Two ways to close it, the first that this account and this database allow:

- `hide`: connections are disallowed to everybody, sessions ended, then the database gets another name that only
  this console knows, so nobody slips through, superusers and users of our own role included. One transaction
  brings it back.
- `revoke`: we own the database but may not rename it: CONNECT is revoked from everybody but us.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import AccessDenied, Transient, Unable
from ..messages import say
from ..values import Cut, Json
from .driver_errors import lost
from .server import Server
from .sessions import mark_in
from .sql import Row, ask, quoted, transaction, words_of

Method = Literal["hide", "revoke"]
QUIET_POLLS = 3
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Door:
    """The database's row as it is now."""

    name: str
    limit: int
    allow: bool
    owner: str
    comment: str | None
    grants: tuple[tuple[str, str, bool], ...]
    plain: bool
    """Whether the grants are the default ones, never changed."""

    @property
    def mark(self) -> dict[str, Any] | None:
        """What our comment says, when the comment is ours."""
        return mark_in(self.comment)


class Gate(Server):
    """Closing, opening, and telling whether everything is as before."""

    def is_held_elsewhere(self) -> bool:
        with self.control("looking who maintains the database") as connection:
            return self.turn_is_anothers(connection)

    def mark(self) -> Mapping[str, object] | None:
        with self.control("looking for the mark of a cut") as connection:
            return self.door(connection).mark

    def read_state(self) -> Json:
        with self.control("reading the connection settings of the database") as connection:
            door = self.door(connection)
            mark = door.mark
            if mark and isinstance(mark.get("gate"), dict):
                return dict(mark["gate"])
            [(room,)] = ask(
                connection,
                """SELECT current_setting('max_connections')::int
                          - current_setting('superuser_reserved_connections')::int""",
            )
            return {
                "database": self.database,
                "limit": door.limit,
                "allow": door.allow,
                "owner": door.owner,
                "comment": door.comment,
                "grants": None if door.plain else [list(grant) for grant in door.grants],
                "room": room,
            }

    def cut(self, gate: Json, marker: Json) -> Cut:
        begun = time.monotonic()
        self.keep_turn()
        with self.control("cutting the connections to the database") as connection:
            method = self._choose(connection)
            self._close_gate(connection, gate, marker, method)
            self._await_arrivals(connection)
            ended = self._end_sessions(connection, method)
            if method == "hide":
                self._hide(connection)
        return Cut(sessions_ended=ended, quiet_polls=QUIET_POLLS, seconds=time.monotonic() - begun)

    def open(self, gate: Json, share: float | None) -> None:
        """With a share, the limit counts from the original limit, or from what the server has room for.

        `None` restores name, limit, permission, grants and comment in one transaction.
        """
        self.keep_turn()
        with self.control("letting connections in to the database") as connection:
            door = self.door(connection)
            if door.name != self.database:
                # One look: the server itself waits for the last to go, and refuses the renaming while anybody is in.
                self._end_sessions(connection, "hide", 1)
            with transaction(connection):
                self._lock_row(connection)
                if door.name != self.database:
                    ask(connection, self._renaming(connection, door.name, self.database))
                self._set_limit(connection, self.database, staged(gate, share))
                self._set_allow(connection, self.database, bool(gate["allow"]))
                self.set_grants(connection, self.database, gate)
                if share is None:
                    self.set_comment(connection, self.database, text_or_none(gate["comment"]))
            self._place = self.database

    def is_cut(self) -> bool:
        with self.control("looking for the mark of the cut") as connection:
            mark = self.door(connection).mark
            return mark is not None and self.tag.wrote(mark)

    def differences(self, gate: Json) -> list[str]:
        with self.control("comparing the connection settings of the database") as connection:
            door = self.door(connection)
            wanted = self._wanted_grants(connection, door.name, gate)
            pairs: list[tuple[str, object, object]] = [
                ("name", door.name, self.database),
                ("connection limit", door.limit, gate["limit"]),
                ("allow connections", door.allow, gate["allow"]),
                ("owner", door.owner, gate["owner"]),
                ("comment", door.comment, gate["comment"]),
                ("grants", sorted(door.grants), sorted(wanted)),
            ]
        return [
            say("{what} is {now}, was {then}", what=what, now=repr(now), then=repr(then))
            for what, now, then in pairs
            if now != then
        ]

    # -- reading -----------------------------------------------------------------------------------

    def door(self, connection: Connection, name: str | None = None) -> Door:
        """The row of the target (or of `name`). Raises Unable when there is none."""
        rows = self._rows_of(connection, name or self.database)
        if not rows and name is None and (hidden := self.hidden_name(connection)):
            rows = self._rows_of(connection, hidden)
        if not rows:
            raise Unable("reading the connection settings of", name or self.database, "there is no such database")
        found, limit, allow, owner, comment, plain = rows[0]
        if limit == -2:
            raise Unable(
                "reading the connection settings of", found, "the database was dropped half and cannot be used"
            )
        return Door(found, limit, allow, owner, comment, self._grants(connection, found), bool(plain))

    def _rows_of(self, connection: Connection, name: str) -> list[Row]:
        return ask(
            connection,
            """SELECT datname, datconnlimit, datallowconn, pg_get_userbyid(datdba),
                      shobj_description(oid, 'pg_database'), datacl IS NULL
               FROM pg_database WHERE datname = %(name)s""",
            name=name,
        )

    def _grants(self, connection: Connection, name: str) -> tuple[tuple[str, str, bool], ...]:
        """(grantee, privilege, grantable) in force; '' is everybody."""
        rows = ask(
            connection,
            """SELECT DISTINCT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type,
                      a.is_grantable
               FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
               WHERE d.datname = %(name)s ORDER BY 1, 2, 3""",
            name=name,
        )
        return tuple((str(who), str(what), bool(further)) for who, what, further in rows)

    def _wanted_grants(self, connection: Connection, name: str, gate: Json) -> tuple[tuple[str, str, bool], ...]:
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

    # -- closing -----------------------------------------------------------------------------------

    def _choose(self, connection: Connection) -> Method:
        door = self.door(connection)
        if door.name != self.database:
            return "hide"
        mark = door.mark
        if mark and self.tag.wrote(mark) and mark.get("method") in ("hide", "revoke"):
            method: Method = mark["method"]
            return method
        [(superuser, may_create, me, owns)] = ask(
            connection,
            """SELECT r.rolsuper, r.rolcreatedb, r.rolname, pg_has_role(d.datdba, 'USAGE')
               FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = %(name)s""",
            name=door.name,
        )
        if not superuser and not owns:
            raise AccessDenied(
                "cutting the connections to", self.database, say("{me} does not own the database", me=me)
            )
        if superuser or (may_create and not self.keeps_its_name(connection, door.name)):
            return "hide"
        if any(row[1] == me for row in self._foreign(connection, door.name)):
            raise Unable(
                "cutting the connections to",
                self.database,
                say(
                    "applications connect as {me}, the role of this console; "
                    "give the console its own role, or CREATEDB to {me}",
                    me=me,
                ),
            )
        return "revoke"

    def keeps_its_name(self, connection: Connection, name: str) -> bool:
        """Whether something is in the database that we spare and that the server neither renames nor copies under:
        a prepared transaction, logical replication, another background worker."""
        [(kept,)] = ask(
            connection,
            """SELECT EXISTS (SELECT 1 FROM pg_prepared_xacts WHERE database = %(name)s)
                 OR EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = %(name)s
                   AND backend_type NOT IN ('client backend', 'autovacuum worker', 'parallel worker'))""",
            name=name,
        )
        return bool(kept)

    def _close_gate(self, connection: Connection, gate: Json, marker: Json, method: Method) -> None:
        door = self.door(connection)
        if door.name != self.database:
            return  # Hidden already, and marked.
        mark = json.dumps({"dbmaint": 1, **self.tag.mark, "method": method, "gate": gate, "marker": marker})
        with transaction(connection):
            self._lock_row(connection)
            self.set_comment(connection, door.name, mark)
            if method != "hide":
                # An earlier run may have left it refusing everybody, us included.
                self._set_allow(connection, door.name, True)
            self.bar(connection, door.name, method)

    def bar(self, connection: Connection, name: str, method: Method) -> None:
        """Blocks new sessions in database `name`."""
        if method == "hide":
            self._set_allow(connection, name, False)
        else:
            me = str(ask(connection, "SELECT current_user")[0][0])
            for who in {grant[0] for grant in self._grants(connection, name) if grant[0] != me}:
                whom = quoted(who) if who else "PUBLIC"
                ask(connection, f"REVOKE CONNECT ON DATABASE {quoted(name)} FROM {whom} CASCADE")
            ask(connection, f"GRANT CONNECT ON DATABASE {quoted(name)} TO {quoted(me)}")

    def _hide(self, connection: Connection) -> None:
        """Gives the database its hidden name, under which our own sessions may enter again."""
        door = self.door(connection)
        held = door.name if door.name != self.database else self.side_name("held")
        if door.name == self.database:
            with transaction(connection):
                self._lock_row(connection)
                ask(connection, self._renaming(connection, door.name, held))
                self._set_allow(connection, held, True)
        self._place = held

    def _renaming(self, connection: Connection, name: str, to: str) -> str:
        """The statement that renames, also under what we spare.

        There ALTER DATABASE is refused, only because clients could be confused (RenameDatabase in the server's
        dbcommands.c): inside the server everything goes by the database's number. So a superuser writes the name.
        """
        if self.keeps_its_name(connection, name) and self.is_superuser(connection):
            new, old = literal(connection, to), literal(connection, name)
            return f"UPDATE pg_catalog.pg_database SET datname = {new} WHERE datname = {old}"  # noqa: S608 -- quoted above
        return f"ALTER DATABASE {quoted(name)} RENAME TO {quoted(to)}"

    def _await_arrivals(self, connection: Connection) -> None:
        """Who was let in just before it closed holds the database until he is among the sessions; then he is ended."""
        until = time.monotonic() + self.limits.cut_seconds
        coming = self._arriving(connection)
        while coming and time.monotonic() < until:
            self.raise_if_stopping("cutting the connections to", self.database)
            time.sleep(POLL_SECONDS)
            coming &= self._arriving(connection)

    def _arriving(self, connection: Connection) -> set[int]:
        """Processes in the transaction with which each session begins."""
        rows = ask(
            connection,
            """SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.objid AND d.datname = %(name)s
               WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.mode = 'RowExclusiveLock'""",
            name=self.door(connection).name,
        )
        return {int(pid) for (pid,) in rows}

    def _foreign(self, connection: Connection, name: str, ours_too: bool = False) -> list[Row]:
        """(pid, role) of client sessions in database `name`, replication left out."""
        return ask(
            connection,
            """SELECT a.pid, a.usename FROM pg_stat_activity a
               WHERE a.datname = %(name)s AND a.pid <> pg_backend_pid()
                 AND (a.backend_type = 'client backend' OR (a.backend_type IS NULL AND a.usesysid IS NOT NULL))
                 AND (%(all)s OR a.application_name IS DISTINCT FROM %(mine)s)""",
            name=name,
            mine=self.tag.session,
            all=ours_too,
        )

    def _end_sessions(self, connection: Connection, method: Method, polls: int = QUIET_POLLS) -> int:
        """Ends sessions, also those that come again, until so many polls running found none."""
        until = time.monotonic() + self.limits.cut_seconds
        ended: set[int] = set()
        refused = ""
        quiet = 0
        while True:
            name = self.door(connection).name
            rows = self._foreign(connection, name, ours_too=method == "hide")
            if not rows:
                quiet += 1
                if quiet == polls:
                    return len(ended)
            elif time.monotonic() > until:
                who = ", ".join(sorted({str(row[1]) for row in rows}))
                kind = AccessDenied if refused else Transient
                raise kind(
                    "cutting the connections to", self.database, refused or f"sessions of {who} stay or come again"
                )
            else:
                quiet = 0
                refused = self._terminate(connection, rows, ended) or refused
            self.raise_if_stopping("cutting the connections to", self.database)
            time.sleep(POLL_SECONDS)

    def _terminate(self, connection: Connection, rows: list[Row], ended: set[int]) -> str:
        """Returns the server's words where it refused."""
        refused = ""
        for pid, *_ in rows:
            try:
                ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
                ended.add(int(pid))
            except DBAPIError as error:
                if lost(error.orig):
                    raise
                refused = words_of(error)
        return refused

    # -- absolute values ---------------------------------------------------------------------------

    def _lock_row(self, connection: Connection) -> None:
        ask(connection, "SELECT pg_advisory_xact_lock(hashtextextended(%(key)s, 1))", key=self.lock_key())

    def _set_limit(self, connection: Connection, name: str, limit: int) -> None:
        ask(connection, f"ALTER DATABASE {quoted(name)} CONNECTION LIMIT {int(limit)}")

    def _set_allow(self, connection: Connection, name: str, allow: bool) -> None:
        ask(connection, f"ALTER DATABASE {quoted(name)} ALLOW_CONNECTIONS {'true' if allow else 'false'}")

    def set_comment(self, connection: Connection, name: str, comment: str | None) -> None:
        """COMMENT takes no bound value, so the server itself quotes it."""
        ask(connection, f"COMMENT ON DATABASE {quoted(name)} IS {literal(connection, comment)}")

    def set_grants(self, connection: Connection, name: str, gate: Json) -> None:
        """Grants as in `gate`; nothing is touched when they are so already."""
        for statement in self._granting(connection, name, name, gate):
            ask(connection, statement)

    def _granting(self, connection: Connection, found: str, name: str, gate: Json) -> list[str]:
        """Statements that give database `name`, which is called `found` now, the grants of `gate`."""
        wanted = self._wanted_grants(connection, found, gate)
        now = self._grants(connection, found)
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

    def opening(self, connection: Connection, gate: Json) -> list[str]:
        """The statements that bring everything back as `gate` says, from how the target is now."""
        door, name = self.door(connection), quoted(self.database)
        hidden = door.name != self.database
        renaming = [self._renaming(connection, door.name, self.database)] if hidden else []
        return [
            *renaming,
            f"ALTER DATABASE {name} CONNECTION LIMIT {staged(gate, None)}",
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS {'true' if gate['allow'] else 'false'}",
            *self._granting(connection, door.name, self.database, gate),
            f"COMMENT ON DATABASE {name} IS {literal(connection, text_or_none(gate['comment']))}",
        ]


def literal(connection: Connection, text: str | None) -> str:
    """As SQL, quoted by the server."""
    return str(ask(connection, "SELECT quote_nullable(%(text)s::text)", text=text)[0][0])


def staged(gate: Json, share: float | None) -> int:
    """The connection limit at this stage; at least one, never more than it was."""
    limit = int(str(gate["limit"]))
    if share is None:
        return limit
    base = limit if limit >= 0 else int(str(gate["room"]))
    return min(base, max(1, math.ceil(base * share)))


def text_or_none(value: object) -> str | None:
    return None if value is None else str(value)
