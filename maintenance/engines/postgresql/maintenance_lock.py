"""Whose turn it is: one maintenance at a time on a target, and the sessions of an earlier attempt ended."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from ..errors import EngineError, Transient
from ..messages import msg
from ..values import Limits, Tag
from .driver_errors import from_driver
from .sessions import Sessions, give_back
from .sql import ask, configure

KEEP_ALIVE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
"""For the server's end of a session: a host that vanished is noticed within 25 s."""


class Turn(Sessions):
    """An advisory lock beside the target, held by a session of its own."""

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url, tag, limits)
        self._holder: Connection | None = None
        self._turn = threading.RLock()

    def acquire(self) -> int:
        """Also takes an advisory lock beside the target, held by a session of its own until `close`."""
        with self._turn, self.control("ending the sessions of an earlier attempt") as connection:
            ended = self._end_other_tokens(connection)
            self._take_turn()
        return ended

    def keep_turn(self) -> None:
        """Takes the lock again when the server lost our session, e.g. because it restarted."""
        with self._turn:
            if self._holder is None:
                return
            try:
                ask(self._holder, "SELECT 1")
            except (DBAPIError, PendingRollbackError):  # the latter: it was lost when it was last used
                self._drop_holder()
                self.assert_lease()
                self._take_turn()

    def give_up_turn_when_idle(self, seconds: float) -> None:
        """The server frees the lock when it hears nothing of us for so long, although the line may seem to stand."""
        with self._turn:
            self.keep_turn()
            if self._holder is None or not self.ways.idle_session_timeout:
                return
            try:
                configure(self._holder, {"idle_session_timeout": int(seconds * 1000)})
            except DBAPIError as error:
                raise self._lost(error) from error

    def _end_other_tokens(self, connection: Connection, seconds: float = 20) -> int:
        until = time.monotonic() + seconds
        ended: set[int] = set()
        while True:
            pids = [
                int(pid)
                for (pid,) in ask(
                    connection,
                    """SELECT pid FROM pg_stat_activity
                       WHERE starts_with(application_name, %(family)s) AND application_name <> %(mine)s
                         AND usename = session_user""",
                    family=self.tag.family,
                    mine=self.tag.session,
                )
            ]
            if not pids:
                return len(ended)
            for pid in pids:
                ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)
            ended.update(pids)
            if time.monotonic() > until:
                raise Transient(
                    "ending the sessions of an earlier attempt on",
                    self.database,
                    msg("sessions {pids} stay", pids=str(pids)),
                )
            time.sleep(0.1)

    def _take_turn(self) -> None:
        if self._holder is not None:
            return
        holder = self._open(self.control_database(), "taking the maintenance lock of", self.database)
        try:
            configure(holder, KEEP_ALIVE)
            for _ in range(10):
                [(taken,)] = ask(
                    holder,
                    "SELECT pg_try_advisory_lock(hashtextextended(%(key)s, 0))",
                    key=self.lock_key(),
                )
                if taken:
                    self._holder = holder
                    return
                self._end_planted(holder)
                # The session just ended may give its lock back a moment later.
                time.sleep(0.2)
        except DBAPIError as error:
            give_back(holder)
            raise self._lost(error) from error
        give_back(holder)
        raise Transient("taking the maintenance lock of", self.database, "another maintenance holds it")

    def _lost(self, error: DBAPIError) -> EngineError:
        cause = error.orig or error
        return from_driver(cause, "taking the maintenance lock of", self.database, stopping=False, connecting=False)

    def turn_is_anothers(self, connection: Connection) -> bool:
        """Whether work of another installation holds the lock; `connection` is to the control database."""
        return any(
            may_maintain and self.tag.is_anothers_session(name) for _, name, may_maintain in self._holders(connection)
        )

    def _end_planted(self, connection: Connection) -> None:
        """Ends sessions that hold the lock and could not maintain the target: anybody may take such a lock."""
        for pid, _, may_maintain in self._holders(connection):
            if not may_maintain:
                ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)

    def _holders(self, connection: Connection) -> list[tuple[int, str, bool]]:
        """(pid, name of the session, whether its role could maintain the target) of those that hold the lock.

        A bigint lock is told as its two halves (https://www.postgresql.org/docs/current/view-pg-locks.html).
        """
        entry = self.identity.target(connection)
        rows = ask(
            connection,
            """SELECT l.pid, coalesce(a.application_name, ''), coalesce((SELECT r.rolsuper OR r.rolname = session_user
                 OR coalesce(pg_has_role(r.oid, %(owner)s::name, 'MEMBER'), false)
                 FROM pg_roles r WHERE r.oid = a.usesysid), true)
               FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
               WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended(%(key)s, 0)""",
            key=self.lock_key(),
            owner=entry.owner if entry else None,
        )
        return [(int(pid), str(name), bool(may_maintain)) for pid, name, may_maintain in rows]

    def lock_key(self) -> str:
        return f"dbmaint:{self.database}"

    def _drop_holder(self) -> None:
        if self._holder is not None:
            with suppress(DBAPIError):
                self._holder.invalidate()
            give_back(self._holder)
            self._holder = None

    def close(self) -> None:
        with self._turn:
            self._drop_holder()
        for door in self._doors.values():
            door.dispose()
