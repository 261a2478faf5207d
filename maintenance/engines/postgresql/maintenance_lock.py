"""One maintenance at a time on a target, and the sessions of an earlier attempt ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from ..errors import EngineError, Transient
from ..messages import msg
from ..parts import MaintenanceLock
from .connection import give_back
from .database_access import access_of
from .driver_errors import from_driver
from .identity import Entry, is_of
from .sql import ask, configure
from .target import TargetDatabase

KEEP_ALIVE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
"""For the server's end of a session: a host that vanished is noticed within 25 s."""


class PostgresLock(MaintenanceLock):
    """An advisory lock beside the target, held by a session of its own."""

    def __init__(self, target: TargetDatabase) -> None:
        self.target, self.url, self.tag = target, target.url, target.tag
        self._holder: Connection | None = None
        self._turn = threading.RLock()

    def acquire(self) -> int:
        """See MaintenanceLock.acquire. The lock is held by a session of its own until `close`."""
        with self._turn, self.target.control("ending the sessions of an earlier attempt") as connection:
            ended = self.end_other_tokens(connection)
            self._take()
        return ended

    def reacquire(self) -> None:
        """Take the lock again when the server lost our session, e.g. because it restarted."""
        with self._turn:
            if self._holder is None:
                return
            try:
                ask(self._holder, "SELECT 1")
            except (DBAPIError, PendingRollbackError):  # the latter: it was lost when it was last used
                self._drop_holder()
                self.assert_lease()
                self._take()

    def release_when_idle(self, seconds: float) -> None:
        """Let the server free the lock when it hears nothing of us for so long, although the line may seem to stand."""
        with self._turn:
            self.reacquire()
            if self._holder is None or not self.target.capabilities.idle_session_timeout:
                return
            try:
                configure(self._holder, {"idle_session_timeout": int(seconds * 1000)})
            except DBAPIError as error:
                raise self._lost(error) from error

    def end_other_tokens(self, connection: Connection, seconds: float = 20) -> int:
        """End the sessions of earlier attempts; return how many. Raises Transient when some stay."""
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
                    self.target.name,
                    msg("sessions {pids} stay", pids=str(pids)),
                )
            time.sleep(0.1)

    def _take(self) -> None:
        if self._holder is not None:
            return
        holder = self.target.open(self.target.control_database(), "taking the maintenance lock of", self.target.name)
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
        raise Transient("taking the maintenance lock of", self.target.name, "another maintenance holds it")

    def _lost(self, error: DBAPIError) -> EngineError:
        cause = error.orig or error
        return from_driver(cause, "taking the maintenance lock of", self.target.name, stopping=False, connecting=False)

    def is_held_elsewhere(self) -> bool:
        """See MaintenanceLock.is_held_elsewhere."""
        with self.target.control("looking who maintains the database") as connection:
            return any(
                may_maintain and self.tag.is_anothers_session(name)
                for _, name, may_maintain in self._holders(connection)
            )

    def mark(self) -> Mapping[str, object] | None:
        """See MaintenanceLock.mark."""
        with self.target.control("looking for the mark of a cut") as connection:
            entry = self.target.identity.target(connection)
            return (entry.mark if entry else None) or self._claim_of_another(connection, entry)

    def _claim_of_another(self, connection: Connection, entry: Entry | None) -> Mapping[str, object] | None:
        """Return what another installation seems to have left. We cannot verify its signature, so its mark counts only
        where the target is closed indeed, or gone, and does no more than keep us away."""
        claims: list[Mapping[str, object]] = []
        if entry is None:
            claims = [claim for claim in self.target.identity.claims(connection) if is_of(claim, self.target.name)]
        elif entry.claim and (entry.name != self.target.name or self._is_barred(connection, entry)):
            claims = [entry.claim]
        return next((claim for claim in claims if self.tag.is_anothers(claim)), None)

    def _is_barred(self, connection: Connection, entry: Entry) -> bool:
        """Return whether nobody may connect but one account, and superusers."""
        access = access_of(self.target, connection, entry.name)
        connecting = {who for who, what, _ in access.grants if what == "CONNECT"}
        return not access.allow or ("" not in connecting and len(connecting) <= 1)

    def _end_planted(self, connection: Connection) -> None:
        """End sessions that hold the lock and could not maintain the target: anybody may take such a lock."""
        for pid, _, may_maintain in self._holders(connection):
            if not may_maintain:
                ask(connection, "SELECT pg_terminate_backend(%(pid)s)", pid=pid)

    def _holders(self, connection: Connection) -> list[tuple[int, str, bool]]:
        """Return (pid, name of the session, whether its role could maintain the target) of those that hold the lock.

        A bigint lock is told as its two halves (https://www.postgresql.org/docs/current/view-pg-locks.html).
        """
        entry = self.target.identity.target(connection)
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
        """Return what the number of the lock is made of."""
        return f"dbmaint:{self.target.name}"

    def _drop_holder(self) -> None:
        if self._holder is not None:
            with suppress(DBAPIError):
                self._holder.invalidate()
            give_back(self._holder)
            self._holder = None

    def close(self) -> None:
        """Give the lock back."""
        with self._turn:
            self._drop_holder()
