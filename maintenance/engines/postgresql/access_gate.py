"""The gate: who may connect. Marked on the database itself, in the transaction that closes it.

Two ways to close it, the first that this account and this database allow:

- `hide`: connections are disallowed to everybody, sessions ended, then the database gets another name that only
  this console knows, so nobody slips through, superusers and users of our own role included. One transaction
  brings it back.
- `revoke`: we own the database but may not rename it: CONNECT is revoked from everybody but us.
"""

from __future__ import annotations

import math
import shlex
import time
from typing import Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import AccessDenied, Transient, Unable
from ..messages import msg
from ..parts import AccessGate
from ..values import Cut, Json
from .database_access import (
    DatabaseAccess,
    access_of,
    foreign_sessions,
    granting,
    grants_of,
    keeps_its_name,
    set_allow,
    set_comment,
    set_grants,
    set_limit,
    wanted_grants,
)
from .driver_errors import lost
from .maintenance_lock import PostgresLock
from .sql import Row, ask, is_superuser, literal, quoted, transaction, words_of
from .target import TargetDatabase

Method = Literal["hide", "revoke"]
QUIET_POLLS = 3
POLL_SECONDS = 0.02


class PostgresGate(AccessGate):
    """Closing, opening, and telling whether everything is as before."""

    def __init__(self, target: TargetDatabase, lock: PostgresLock) -> None:
        self.target, self.lock = target, lock

    def recall(self, gate: Json) -> None:
        """See AccessGate.recall."""
        self.target.identity.recall(gate)

    def read_state(self) -> Json:
        """See AccessGate.read_state."""
        with self.target.control("reading the connection settings of the database") as connection:
            access = access_of(self.target, connection)
            gate = access.mark.get("gate") if access.mark else None
            if isinstance(gate, dict):
                self.recall(gate)
                return dict(gate)
            [(room,)] = ask(
                connection,
                """SELECT current_setting('max_connections')::int
                          - current_setting('superuser_reserved_connections')::int""",
            )
            gate = {
                "database": self.target.name,
                "oid": access.oid,
                "hidden": self.target.identity.side_name("held"),
                "limit": access.limit,
                "allow": access.allow,
                "owner": access.owner,
                "comment": access.comment,
                "grants": None if access.plain else [list(grant) for grant in access.grants],
                "room": room,
            }
            self.recall(gate)
            return gate

    def cut(self, gate: Json, marker: Json) -> Cut:
        """See AccessGate.cut."""
        begun = time.monotonic()
        self.recall(gate)
        self.lock.reacquire()
        with self.target.control("cutting the connections to the database") as connection:
            method = self._choose(connection)
            self._close_gate(connection, gate, marker, method)
            self._await_arrivals(connection)
            ended = self._end_sessions(connection, method)
            if method == "hide":
                self._hide(connection, gate)
        return Cut(sessions_ended=ended, quiet_polls=QUIET_POLLS, seconds=time.monotonic() - begun)

    def open(self, gate: Json, share: float | None) -> None:
        """With a share, the limit counts from the original limit, or from what the server has room for.

        `None` restores name, limit, permission, grants and comment in one transaction.
        """
        self.recall(gate)
        self.lock.reacquire()
        with self.target.control("letting connections in to the database") as connection:
            access = access_of(self.target, connection)
            self.refuse_strangers(connection, access, gate)
            if access.name != self.target.name:
                # One look: the server itself waits for the last to go, and refuses the renaming while anybody is in.
                self._end_sessions(connection, "hide", 1)
            with transaction(connection):
                if access.name != self.target.name:
                    ask(connection, self._renaming(connection, access, self.target.name))
                set_limit(connection, self.target.name, staged(gate, share))
                set_allow(connection, self.target.name, bool(gate["allow"]))
                set_grants(connection, self.target.name, gate)
                if share is None:
                    set_comment(connection, self.target.name, text_or_none(gate["comment"]))
            self.target.renamed(self.target.name)

    def is_cut(self) -> bool:
        """See AccessGate.is_cut."""
        with self.target.control("looking for the mark of the cut") as connection:
            entry = self.target.identity.target(connection)
            return entry is not None and entry.mark is not None and self.target.tag.wrote(entry.mark)

    def refuse_strangers(self, connection: Connection, access: DatabaseAccess, gate: Json) -> None:
        """Raise Unable before anything is opened or renamed that is not as the journal says."""
        if access.owner != gate["owner"]:
            raise Unable(
                "opening",
                access.name,
                msg("it belongs to {now} and belonged to {then}", now=access.owner, then=str(gate["owner"])),
            )
        if access.name not in (self.target.name, gate["hidden"]):
            raise Unable("opening", access.name, msg("its name was to be {name}", name=str(gate["hidden"])))
        other = self.target.identity.named(connection, self.target.name)
        if other is not None and other.oid != access.oid:
            raise Unable(
                "opening",
                access.name,
                msg(
                    "another database, which belongs to {owner}, has taken the name {name}; rename that one first",
                    owner=other.owner,
                    name=self.target.name,
                ),
            )

    def differences(self, gate: Json) -> list[str]:
        """See AccessGate.differences."""
        with self.target.control("comparing the connection settings of the database") as connection:
            access = access_of(self.target, connection)
            wanted = wanted_grants(connection, access.name, gate)
            pairs: list[tuple[str, object, object]] = [
                ("name", access.name, self.target.name),
                ("connection limit", access.limit, gate["limit"]),
                ("allow connections", access.allow, gate["allow"]),
                ("owner", access.owner, gate["owner"]),
                ("comment", access.comment, gate["comment"]),
                ("grants", sorted(access.grants), sorted(wanted)),
            ]
        return [
            msg("{what} is {now}, was {then}", what=what, now=repr(now), then=repr(then))
            for what, now, then in pairs
            if now != then
        ]

    def manual_commands(self, gate: Json) -> list[str]:
        """See AccessGate.manual_commands."""
        with self.target.control("looking how it can be opened by hand") as connection:
            url = self.target.url.set(drivername="postgresql", database=self.target.control_database(), query={})
            address = url._replace(password=None).render_as_string(hide_password=False)
            return [
                f"psql {shlex.quote(address)} -c {shlex.quote(statement)}"
                for statement in self.opening(connection, gate)
            ]

    # -- closing -----------------------------------------------------------------------------------

    def _choose(self, connection: Connection) -> Method:
        access = access_of(self.target, connection)
        if access.name != self.target.name:
            return "hide"
        if access.mark and self.target.tag.wrote(access.mark) and access.mark.get("method") in ("hide", "revoke"):
            return "revoke" if access.mark["method"] == "revoke" else "hide"
        [(superuser, may_create, me, owns)] = ask(
            connection,
            """SELECT r.rolsuper, r.rolcreatedb, r.rolname, pg_has_role(d.datdba, 'USAGE')
               FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = %(name)s""",
            name=access.name,
        )
        if not superuser and not owns:
            raise AccessDenied(
                "cutting the connections to", self.target.name, msg("{me} does not own the database", me=me)
            )
        if superuser or (may_create and not keeps_its_name(connection, access.name)):
            return "hide"
        if any(row[1] == me for row in foreign_sessions(self.target, connection, access.oid)):
            raise Unable(
                "cutting the connections to",
                self.target.name,
                msg(
                    "applications connect as {me}, the role of this console; "
                    "give the console its own role, or CREATEDB to {me}",
                    me=me,
                ),
            )
        return "revoke"

    def _close_gate(self, connection: Connection, gate: Json, marker: Json, method: Method) -> None:
        access = access_of(self.target, connection)
        if access.name != self.target.name:
            return  # Hidden already, and marked.
        if method == "hide" and (other := self.target.identity.named(connection, str(gate["hidden"]))):
            raise Unable(
                "cutting the connections to",
                self.target.name,
                msg("{owner} has a database with the name {name}", owner=other.owner, name=other.name),
            )
        mark = self.target.identity.mark(access.oid, {"method": method, "gate": gate, "marker": marker})
        with transaction(connection):
            set_comment(connection, access.name, mark)
            if method != "hide":
                # An earlier run may have left it refusing everybody, us included.
                set_allow(connection, access.name, True)
            self.bar(connection, access.name, method)

    def bar(self, connection: Connection, name: str, method: Method) -> None:
        """Block new sessions in database `name`."""
        if method == "hide":
            set_allow(connection, name, False)
        else:
            me = str(ask(connection, "SELECT current_user")[0][0])
            for who in {grant[0] for grant in grants_of(connection, name) if grant[0] != me}:
                whom = quoted(who) if who else "PUBLIC"
                ask(connection, f"REVOKE CONNECT ON DATABASE {quoted(name)} FROM {whom} CASCADE")
            ask(connection, f"GRANT CONNECT ON DATABASE {quoted(name)} TO {quoted(me)}")

    def _hide(self, connection: Connection, gate: Json) -> None:
        """Give the database its hidden name, under which our own sessions may enter again."""
        access, held = access_of(self.target, connection), str(gate["hidden"])
        if access.name == self.target.name:
            with transaction(connection):
                ask(connection, self._renaming(connection, access, held))
                set_allow(connection, held, True)
        self.target.renamed(held)

    def _renaming(self, connection: Connection, access: DatabaseAccess, to: str) -> str:
        """Return the statement that renames, also under what we spare.

        There ALTER DATABASE is refused, only because clients could be confused (RenameDatabase in the server's
        dbcommands.c): inside the server everything goes by the database's number. So a superuser writes the name.
        """
        if keeps_its_name(connection, access.name) and is_superuser(connection):
            new = literal(connection, to)
            return f"UPDATE pg_catalog.pg_database SET datname = {new} WHERE oid = {access.oid}"
        return f"ALTER DATABASE {quoted(access.name)} RENAME TO {quoted(to)}"

    def _await_arrivals(self, connection: Connection) -> None:
        """Who was let in just before it closed holds the database until he is among the sessions; then he is ended."""
        until = time.monotonic() + self.target.limits.cut_seconds
        coming = self._arriving(connection)
        while coming and time.monotonic() < until:
            self.target.raise_if_stopping("cutting the connections to", self.target.name)
            time.sleep(POLL_SECONDS)
            coming &= self._arriving(connection)

    def _arriving(self, connection: Connection) -> set[int]:
        """Return processes in the transaction with which each session begins."""
        rows = ask(
            connection,
            """SELECT pid FROM pg_locks WHERE objid = %(oid)s AND locktype = 'object'
               AND classid = 'pg_database'::regclass AND mode = 'RowExclusiveLock'""",
            oid=access_of(self.target, connection).oid,
        )
        return {int(pid) for (pid,) in rows}

    def _end_sessions(self, connection: Connection, method: Method, polls: int = QUIET_POLLS) -> int:
        """End sessions, also those that come again, until so many polls running found none."""
        until = time.monotonic() + self.target.limits.cut_seconds
        ended: set[int] = set()
        refused = ""
        quiet = 0
        while True:
            rows = foreign_sessions(
                self.target, connection, access_of(self.target, connection).oid, ours_too=method == "hide"
            )
            if not rows:
                quiet += 1
                if quiet == polls:
                    return len(ended)
            elif time.monotonic() > until:
                who = ", ".join(sorted({str(row[1]) for row in rows}))
                kind = AccessDenied if refused else Transient
                raise kind(
                    "cutting the connections to", self.target.name, refused or f"sessions of {who} stay or come again"
                )
            else:
                quiet = 0
                refused = self._terminate(connection, rows, ended) or refused
            self.target.raise_if_stopping("cutting the connections to", self.target.name)
            time.sleep(POLL_SECONDS)

    def _terminate(self, connection: Connection, rows: list[Row], ended: set[int]) -> str:
        """Return the server's words where it refused."""
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

    def opening(self, connection: Connection, gate: Json) -> list[str]:
        """Return the statements that bring everything back as `gate` says, from how the target is now."""
        access, name = access_of(self.target, connection), quoted(self.target.name)
        hidden = access.name != self.target.name
        renaming = [self._renaming(connection, access, self.target.name)] if hidden else []
        return [
            *renaming,
            f"ALTER DATABASE {name} CONNECTION LIMIT {staged(gate, None)}",
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS {'true' if gate['allow'] else 'false'}",
            *granting(connection, access.name, self.target.name, gate),
            f"COMMENT ON DATABASE {name} IS {literal(connection, text_or_none(gate['comment']))}",
        ]


def staged(gate: Json, share: float | None) -> int:
    """Return the connection limit at this stage; at least one, never more than it was."""
    limit = int(str(gate["limit"]))
    if share is None:
        return limit
    base = limit if limit >= 0 else int(str(gate["room"]))
    return min(base, max(1, math.ceil(base * share)))


def text_or_none(value: object) -> str | None:
    return None if value is None else str(value)
