"""The maintenance lock: a user lock `dbmaint:<schema>`, held by a session of its own from `acquire` to `close`.

All installations must know its name, so one who can be no console may hold it in vain.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from sqlalchemy.exc import DBAPIError

from ..errors import Transient, Unable
from ..messages import msg
from ..parts import MaintenanceLock
from .connection import Session
from .driver_errors import from_driver
from .gate_mirror import closed_by_another, marked
from .names import shortened
from .target import Server
from .writing import cluster_refusal

GIVEN_BACK_WITHIN_SECONDS = 2


class ServerLock(MaintenanceLock):
    """The maintenance lock of one schema of the server."""

    def __init__(self, server: Server) -> None:
        self.server, self.url, self.tag = server, server.url, server.tag
        self._guard = threading.Lock()
        self._hold: Session | None = None

    @property
    def hold_name(self) -> str:
        """The lock that is the mutual exclusion on the target."""
        name = f"dbmaint:{self.server.schema}"
        return name if len(name) <= 64 else f"dbmaint:{shortened(self.server.schema)}"

    def acquire(self) -> int:
        """See MaintenanceLock.acquire. Sessions are ended one by one and waited for, at most `cut_seconds`."""
        ended = 0
        with self.server.session("ending older sessions of") as session:
            if refusal := cluster_refusal(session):
                raise Unable("taking the maintenance lock of", self.server.schema, refusal)
            until = time.monotonic() + self.server.limits.cut_seconds
            while older := self.server.older_sessions(session):
                for session_id in older:
                    ended += self.server.kill(session, f"{self.server.capabilities.kill_session} {session_id}")
                if time.monotonic() > until:
                    raise Transient(
                        "ending older sessions of",
                        self.server.schema,
                        msg("sessions {older} do not end", older=str(older)),
                    )
                time.sleep(0.02)
            self._wait_for_hold(session)
            self._take_hold(session)
        return ended

    def _wait_for_hold(self, session: Session) -> None:
        """A session that has just ended may give the lock back a moment later."""
        until = time.monotonic() + GIVEN_BACK_WITHIN_SECONDS
        while time.monotonic() < until:
            holder = session.value("SELECT IS_USED_LOCK(%(name)s)", name=self.hold_name)
            if holder is None or (self._hold is not None and int(holder) == self._hold.id):
                return
            time.sleep(0.05)

    def _take_hold(self, session: Session) -> None:
        """Keeps or takes the mutual exclusion. Raises Transient when it is somebody else's."""
        holder = session.value("SELECT IS_USED_LOCK(%(name)s)", name=self.hold_name)
        with self._guard:
            own = self._hold.id if self._hold is not None else None
        if holder is not None and int(holder) == own:
            self.server.keep_lock = self._keep_hold
            return
        if holder is not None and self._is_no_console(session, int(holder)):
            self.server.kill(session, f"{self.server.capabilities.kill_session} {int(holder)}")
            self._wait_for_hold(session)
            holder = session.value("SELECT IS_USED_LOCK(%(name)s)", name=self.hold_name)
        if holder is None:
            control = self.server.connected("holding", self.server.schema)
            try:
                self.server.configure(control, limited=False)
                taken = control.value("SELECT GET_LOCK(%(name)s, 0)", name=self.hold_name) == 1
                if taken:
                    # Marked like the others, so that a later claim finds and ends it.
                    self.server.mark(control)
                    control.ask("DO GET_LOCK(%(name)s, 1)", name=self.site_name)
            except DBAPIError as error:
                raise from_driver(error, "holding", self.server.schema, self.server.stopping.is_set()) from error
            if taken:
                with self._guard:
                    old, self._hold = self._hold, control
                self.server.keep_lock = self._keep_hold
                if old is not None:
                    with suppress(Exception):
                        old.connection.invalidate()
                return
            with suppress(Exception):
                control.connection.close()
            holder = session.value("SELECT IS_USED_LOCK(%(name)s)", name=self.hold_name)
        raise Transient(
            "taking the maintenance lock of",
            self.server.schema,
            msg("another maintenance holds it (session {holder})", holder=holder),
        )

    @property
    def site_name(self) -> str:
        """The lock by which the holder says of which installation it is: MariaDB tells nobody the names of locks."""
        return f"dbmaint:{self.tag.site}@{shortened(self.server.schema)}"

    def is_held_elsewhere(self) -> bool:
        """See MaintenanceLock.is_held_elsewhere: whether a session holds the lock that is of no work of ours."""
        with self.server.session("looking who maintains") as session:
            holder, ours = session.ask(
                "SELECT IS_USED_LOCK(%(hold)s), IS_USED_LOCK(%(site)s)", hold=self.hold_name, site=self.site_name
            )[0]
            return holder is not None and holder != ours and not self._is_no_console(session, int(holder))

    def mark(self) -> Mapping[str, object] | None:
        """See MaintenanceLock.mark."""
        with self.server.session("looking for the mark of a cut on") as session:
            return marked(self.server, session)

    def _is_marked_by_another(self) -> bool:
        with self.server.session("looking for the mark of a cut on") as session:
            return closed_by_another(self.server, session)

    def _is_no_console(self, session: Session, holder: int) -> bool:
        """Whether this session is of an account that could not maintain anything: then its lock is a pretence."""
        user = session.value("SELECT user FROM information_schema.processlist WHERE id = %(id)s", id=holder)
        if user is None:
            return False
        able = session.ask(
            "SELECT grantee FROM information_schema.user_privileges WHERE privilege_type = 'CREATE USER'"
        ) + session.ask(self.server.capabilities.role_edges_sql)
        return not any(str(grantee).startswith(f"'{user}'@") for (grantee,) in able)

    def _keep_hold(self, session: Session) -> None:
        """A worker that was only slow must not go on after another has taken over."""
        holder = session.value("SELECT IS_USED_LOCK(%(name)s)", name=self.hold_name)
        with self._guard:
            own = self._hold.id if self._hold is not None else None
        if holder is None or int(holder) != own:
            self.assert_lease()
            self._take_hold(session)

    def close(self) -> None:
        """Give the lock back."""
        with self._guard:
            hold, self._hold = self._hold, None
        self.server.keep_lock = lambda session: None
        if hold is not None:
            with suppress(Exception):
                # Not `close`, which waits for an answer to a ROLLBACK.
                hold.connection.invalidate()
