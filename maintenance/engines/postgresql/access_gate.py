"""The gate: who may connect. Marked on the database itself, in the transaction that closes it.

Two ways to close it, the first that this account and this database allow:

- `hide`: connections are disallowed to everybody, sessions ended, then the database gets another name that only
  this console knows, so nobody slips through, superusers and users of our own role included. One transaction
  brings it back.
- `revoke`: we own the database but may not rename it: CONNECT is revoked from everybody but us.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import AccessDenied, Transient, Unable
from ..messages import msg
from ..values import Cut, Json
from .driver_errors import lost
from .identity import Entry, is_of
from .relations import Server
from .sql import Row, ask, quoted, transaction, words_of

Method = Literal["hide", "revoke"]
QUIET_POLLS = 3
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Door:
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


class Gate(Server):
    """Closing, opening, and telling whether everything is as before."""

    def is_held_elsewhere(self) -> bool:
        with self.control("looking who maintains the database") as connection:
            return self.turn_is_anothers(connection)

    def mark(self) -> Mapping[str, object] | None:
        with self.control("looking for the mark of a cut") as connection:
            entry = self.identity.target(connection)
            return (entry.mark if entry else None) or self._claim_of_another(connection, entry)

    def _claim_of_another(self, connection: Connection, entry: Entry | None) -> Mapping[str, object] | None:
        """What another installation seems to have left. We cannot verify its signature, so its mark counts only where
        the target is closed indeed, or gone, and does no more than keep us away."""
        claims: list[Mapping[str, object]] = []
        if entry is None:
            claims = [claim for claim in self.identity.claims(connection) if is_of(claim, self.database)]
        elif entry.claim and (entry.name != self.database or self._is_barred(connection, entry)):
            claims = [entry.claim]
        return next((claim for claim in claims if self.tag.is_anothers(claim)), None)

    def _is_barred(self, connection: Connection, entry: Entry) -> bool:
        """Whether nobody may connect but one account, and superusers."""
        door = self.door(connection, entry.name)
        connecting = {who for who, what, _ in door.grants if what == "CONNECT"}
        return not door.allow or ("" not in connecting and len(connecting) <= 1)

    def read_state(self) -> Json:
        with self.control("reading the connection settings of the database") as connection:
            door = self.door(connection)
            gate = door.mark.get("gate") if door.mark else None
            if isinstance(gate, dict):
                self.recall(gate)
                return dict(gate)
            [(room,)] = ask(
                connection,
                """SELECT current_setting('max_connections')::int
                          - current_setting('superuser_reserved_connections')::int""",
            )
            gate = {
                "database": self.database,
                "oid": door.oid,
                "hidden": self.identity.side_name("held"),
                "limit": door.limit,
                "allow": door.allow,
                "owner": door.owner,
                "comment": door.comment,
                "grants": None if door.plain else [list(grant) for grant in door.grants],
                "room": room,
            }
            self.recall(gate)
            return gate

    def cut(self, gate: Json, marker: Json) -> Cut:
        begun = time.monotonic()
        self.recall(gate)
        self.keep_turn()
        with self.control("cutting the connections to the database") as connection:
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
        self.keep_turn()
        with self.control("letting connections in to the database") as connection:
            door = self.door(connection)
            self._refuse_strangers(connection, door, gate)
            if door.name != self.database:
                # One look: the server itself waits for the last to go, and refuses the renaming while anybody is in.
                self._end_sessions(connection, "hide", 1)
            with transaction(connection):
                if door.name != self.database:
                    ask(connection, self._renaming(connection, door, self.database))
                self._set_limit(connection, self.database, staged(gate, share))
                self._set_allow(connection, self.database, bool(gate["allow"]))
                self.set_grants(connection, self.database, gate)
                if share is None:
                    self.set_comment(connection, self.database, text_or_none(gate["comment"]))
            self._place = self.database

    def is_cut(self) -> bool:
        with self.control("looking for the mark of the cut") as connection:
            entry = self.identity.target(connection)
            return entry is not None and entry.mark is not None and self.tag.wrote(entry.mark)

    def _refuse_strangers(self, connection: Connection, door: Door, gate: Json) -> None:
        """Raise Unable before anything is opened or renamed that is not as the journal says."""
        if door.owner != gate["owner"]:
            raise Unable(
                "opening",
                door.name,
                msg("it belongs to {now} and belonged to {then}", now=door.owner, then=str(gate["owner"])),
            )
        if door.name not in (self.database, gate["hidden"]):
            raise Unable("opening", door.name, msg("its name was to be {name}", name=str(gate["hidden"])))
        other = self.identity.named(connection, self.database)
        if other is not None and other.oid != door.oid:
            raise Unable(
                "opening",
                door.name,
                msg(
                    "another database, which belongs to {owner}, has taken the name {name}; rename that one first",
                    owner=other.owner,
                    name=self.database,
                ),
            )

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
            msg("{what} is {now}, was {then}", what=what, now=repr(now), then=repr(then))
            for what, now, then in pairs
            if now != then
        ]

    # -- reading -----------------------------------------------------------------------------------

    def door(self, connection: Connection, name: str | None = None) -> Door:
        """The row of the target (or of the database that is called `name`). Raises Unable when there is none."""
        entry = self.identity.target(connection) if name is None else self.identity.named(connection, name)
        if entry is None:
            raise Unable("reading the connection settings of", name or self.database, "there is no such database")
        [(limit, allow, plain)] = ask(
            connection,
            "SELECT datconnlimit, datallowconn, datacl IS NULL FROM pg_database WHERE oid = %(oid)s",
            oid=entry.oid,
        )
        if limit == -2:
            raise Unable(
                "reading the connection settings of", entry.name, "the database was dropped half and cannot be used"
            )
        return Door(
            entry.oid,
            entry.name,
            limit,
            allow,
            entry.owner,
            entry.comment,
            self._grants(connection, entry.name),
            bool(plain),
            entry.mark,
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
        if door.mark and self.tag.wrote(door.mark) and door.mark.get("method") in ("hide", "revoke"):
            return "revoke" if door.mark["method"] == "revoke" else "hide"
        [(superuser, may_create, me, owns)] = ask(
            connection,
            """SELECT r.rolsuper, r.rolcreatedb, r.rolname, pg_has_role(d.datdba, 'USAGE')
               FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = %(name)s""",
            name=door.name,
        )
        if not superuser and not owns:
            raise AccessDenied(
                "cutting the connections to", self.database, msg("{me} does not own the database", me=me)
            )
        if superuser or (may_create and not self.keeps_its_name(connection, door.name)):
            return "hide"
        if any(row[1] == me for row in self._foreign(connection, door.oid)):
            raise Unable(
                "cutting the connections to",
                self.database,
                msg(
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
        if method == "hide" and (other := self.identity.named(connection, str(gate["hidden"]))):
            raise Unable(
                "cutting the connections to",
                self.database,
                msg("{owner} has a database with the name {name}", owner=other.owner, name=other.name),
            )
        mark = self.identity.mark(door.oid, {"method": method, "gate": gate, "marker": marker})
        with transaction(connection):
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

    def _hide(self, connection: Connection, gate: Json) -> None:
        """Gives the database its hidden name, under which our own sessions may enter again."""
        door, held = self.door(connection), str(gate["hidden"])
        if door.name == self.database:
            with transaction(connection):
                ask(connection, self._renaming(connection, door, held))
                self._set_allow(connection, held, True)
        self._place = held

    def _renaming(self, connection: Connection, door: Door, to: str) -> str:
        """The statement that renames, also under what we spare.

        There ALTER DATABASE is refused, only because clients could be confused (RenameDatabase in the server's
        dbcommands.c): inside the server everything goes by the database's number. So a superuser writes the name.
        """
        if self.keeps_its_name(connection, door.name) and self.is_superuser(connection):
            new = literal(connection, to)
            return f"UPDATE pg_catalog.pg_database SET datname = {new} WHERE oid = {door.oid}"  # noqa: S608 -- quoted above
        return f"ALTER DATABASE {quoted(door.name)} RENAME TO {quoted(to)}"

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
            """SELECT pid FROM pg_locks WHERE objid = %(oid)s AND locktype = 'object'
               AND classid = 'pg_database'::regclass AND mode = 'RowExclusiveLock'""",
            oid=self.door(connection).oid,
        )
        return {int(pid) for (pid,) in rows}

    def _foreign(self, connection: Connection, oid: int, ours_too: bool = False) -> list[Row]:
        """(pid, role) of client sessions in database `oid`, replication left out. Ours have our name and our role:
        any session may call itself as ours do."""
        return ask(
            connection,
            """SELECT a.pid, a.usename FROM pg_stat_activity a
               WHERE a.datid = %(oid)s AND a.pid <> pg_backend_pid()
                 AND (a.backend_type = 'client backend' OR (a.backend_type IS NULL AND a.usesysid IS NOT NULL))
                 AND (%(all)s OR a.application_name IS DISTINCT FROM %(mine)s
                   OR a.usename IS DISTINCT FROM session_user)""",
            oid=oid,
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
            rows = self._foreign(connection, self.door(connection).oid, ours_too=method == "hide")
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
        renaming = [self._renaming(connection, door, self.database)] if hidden else []
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
