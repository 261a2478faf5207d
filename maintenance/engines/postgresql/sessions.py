"""The way to the server: sessions, under whatever name the target has now, and how we end what they run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg2
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy import Engine as Door
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ..base import UndividedEngine
from ..errors import EngineError, Interrupted, Transient, Unreachable
from ..programs import CommandFailed, CommandStopped
from ..sockets import abort_connections
from ..values import Limits, Tag
from .capabilities import Ways, ways_of
from .driver_errors import by_words, from_driver
from .sql import ask, configure

T = TypeVar("T")
R = TypeVar("R")

OWN = {
    "default_transaction_read_only": "off",
    "default_transaction_isolation": r"read\ committed",
    "idle_in_transaction_session_timeout": "0",
    "jit": "off",  # Questions to a large catalog would be compiled for seconds.
}
"""For every session of ours, as libpq's `options` spells it: ALTER ROLE and ALTER DATABASE can say otherwise."""


def mark_in(comment: str | None) -> dict[str, Any] | None:
    """The JSON of a comment that this console wrote, otherwise None."""
    if not comment or not comment.startswith('{"dbmaint"'):
        return None
    try:
        mark = json.loads(comment)
    except ValueError:
        return None
    return mark if isinstance(mark, dict) else None


class Sessions(UndividedEngine):
    """Sessions to the target database and to the maintenance database `postgres` beside it."""

    name = "postgresql"
    methods = ("pg_dump", "pg_basebackup")

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url.set(drivername="postgresql+psycopg2"), tag, limits)
        self.database = url.database or url.username or "postgres"
        self._doors: dict[tuple[str, str], Door] = {}
        self._place: str | None = None
        self._control: str | None = None
        self._version = 0

    # -- sessions ----------------------------------------------------------------------------------

    @contextmanager
    def session(
        self,
        doing: str,
        object: str = "",
        *,
        database: str | None = None,
        settings: Mapping[str, object] | None = None,
        options: str = "",
    ) -> Iterator[Connection]:
        """A session of its own in the target database (or in `database`), closed afterwards.

        `options` are for what must be set before it begins.

        Raises Interrupted after `interrupt()`, otherwise the server's errors in our words.
        """
        object = object or self.database
        self.raise_if_stopping(doing, object)
        connection = self._open(database, doing, object, options)
        try:
            with self.translated(doing, object):
                configure(connection, settings or {})
                yield connection
        finally:
            connection.close()

    @contextmanager
    def control(self, doing: str) -> Iterator[Connection]:
        """A session beside the target, which stays possible while the target is closed."""
        with self.session(doing, database=self.control_database()) as connection:
            yield connection

    @contextmanager
    def translated(self, doing: str, object: str) -> Iterator[None]:
        """Driver and program errors leave the block as ours."""
        try:
            yield
        except DBAPIError as error:
            cause = error.orig or error
            raise from_driver(cause, doing, object, stopping=self.stopping.is_set(), connecting=False) from error
        except psycopg2.Error as error:
            raise from_driver(error, doing, object, stopping=self.stopping.is_set(), connecting=False) from error
        except CommandStopped as error:
            raise Interrupted(doing, object, "stopped on request") from error
        except CommandFailed as error:
            raise by_words(str(error), EngineError)(doing, object, str(error)) from error

    def place(self) -> str:
        """The name under which the target is now: its own, or the one it has while it is hidden."""
        if self._place is None:
            with self.session("looking for the database"):
                pass
        return self._place or self.database

    def control_database(self) -> str:
        """`postgres`, or `template1` where that is missing or is the target itself."""
        if self._control is None:
            for name in ("postgres", "template1"):
                if name == self.database:
                    continue
                try:
                    self._open(name, "connecting to", name).close()
                except Unreachable as error:
                    if "does not exist" not in error.words:
                        raise
                    continue
                self._control = name
                break
            else:
                raise Unreachable(
                    "connecting to", "the maintenance database", "neither postgres nor template1 lets us in"
                )
        return self._control

    def side_name(self, role: str) -> str:
        """Name of a side database of this run target, e.g. shop_dbm42_image; at most 63 bytes as the server allows."""
        ending = f"_{self.tag.suffix}_{role}"
        base = self.database.encode()
        if len(base) + len(ending) > 63:
            digest = hashlib.sha256(base).hexdigest()[:8]
            base = base[: 63 - len(ending) - 9].decode(errors="ignore").encode() + b"_" + digest.encode()
        return base.decode() + ending

    def standing(self, side: str | None) -> str | None:
        """The side database; None, the live one, when an earlier attempt has put it in place already."""
        if side is None:
            return None
        with self.control("looking for the side copy") as connection:
            rows = ask(
                connection,
                "SELECT datname FROM pg_database WHERE datname IN (%(side)s, %(broken)s)",
                side=side,
                broken=self.side_name("broken"),
            )
        names = {str(name) for (name,) in rows}
        return None if side not in names and self.side_name("broken") in names else side

    @property
    def ways(self) -> Ways:
        """What the server's version can; connects when nobody did yet."""
        if not self._version:
            with self.session("asking for the version"):
                pass
        return ways_of(self._version)

    def major(self) -> int:
        return self.ways.major

    def _open(self, database: str | None, doing: str, object: str, options: str = "") -> Connection:
        if database is not None:
            return self._enter(database, doing, object, options)
        known = self._place or self.database
        try:
            connection = self._enter(known, doing, object, options)
        except Unreachable as error:
            if "does not exist" not in error.words:
                raise
            try:
                other = self.database if known != self.database else self._hidden(doing)
                connection = self._enter(other, doing, object, options)
            except Unreachable:
                raise error from None
            known = other
        self._place = known
        return connection

    def _hidden(self, doing: str) -> str:
        """The name that a cut gave to the target. Raises Unreachable when there is none."""
        connection = self._enter(self.control_database(), doing, self.database)
        try:
            name = self.hidden_name(connection)
        finally:
            connection.close()
        if name is None:
            raise Unreachable(doing, self.database, "it is not hidden either")
        return name

    def hidden_name(self, connection: Connection) -> str | None:
        """By the mark on it, whichever run hid it: a later one must be able to bring it back."""
        rows = ask(
            connection, "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database ORDER BY datname"
        )
        for name, comment in rows:
            mark = mark_in(comment)
            gate = mark.get("gate") if mark else None
            if (
                mark
                and mark.get("method") == "hide"
                and isinstance(gate, dict)
                and gate.get("database") == self.database
            ):
                return str(name)
        return None

    def _enter(self, database: str, doing: str, object: str, options: str = "") -> Connection:
        if (database, options) not in self._doors:
            self._doors[database, options] = create_engine(
                self.url.set(database=database),
                isolation_level="AUTOCOMMIT",
                poolclass=NullPool,
                connect_args=self._arguments(options),
                use_native_hstore=False,  # To look for that type is a query of the catalogs, and they may be damaged.
            )
        try:
            connection = self._doors[database, options].connect()
            self._version = int(connection.connection.driver_connection.server_version)  # type: ignore[union-attr]
            configure(connection, ways_of(self._version).session_settings)
        except DBAPIError as error:
            cause = error.orig or error
            raise from_driver(cause, doing, object, stopping=self.stopping.is_set(), connecting=True) from error
        return connection

    def abort_connections(self) -> None:
        abort_connections(self.url, 5432)

    def _arguments(self, further: str) -> dict[str, object]:
        options = f"{self.url.query.get('options', '')} {further}"
        options += "".join(f" -c {name}={value}" for name, value in OWN.items())
        options += f" -c statement_timeout={int(self.limits.statement_seconds * 1000)}"
        options += f" -c lock_timeout={int(self.limits.lock_seconds * 1000)}"
        return {
            "application_name": self.tag.session,
            "connect_timeout": 10,
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "options": options.strip(),
        }

    def await_server(self, seconds: float = 60) -> None:
        """Waits for a server that ended all its sessions to accept new ones. Raises what it says at last."""
        until = time.monotonic() + seconds
        while True:
            try:
                with self.session("waiting for the server to recover") as connection:
                    # A session that came in before the server noticed the end of the other ends with all.
                    ask(connection, "SELECT pg_sleep(0.3)")
                    return
            except (Unreachable, Transient):
                if time.monotonic() > until:
                    raise
                time.sleep(0.3)

    def shared(self, items: Sequence[T], work: Callable[[Sequence[T]], list[R]], jobs: int) -> list[R]:
        """What `work` finds, called in `jobs` threads with a share of the items each, dealt out in turn."""
        shares = [items[first::jobs] for first in range(jobs) if items[first::jobs]]
        if not shares:
            return []
        with ThreadPoolExecutor(len(shares)) as pool:
            return [result for found in pool.map(work, shares) for result in found]

    # -- how we stop -------------------------------------------------------------------------------

    def end_statements(self) -> None:
        """Cancels what our sessions run; a session that is still busy after 2 s is ended."""
        control = self._control or "postgres"
        try:
            connection = self._enter(control, "stopping our work on", self.database)
        except EngineError:
            return  # Nobody to ask: the server is gone, and our sessions with it.
        try:
            with suppress(DBAPIError):
                self._stop_sessions(connection)
        finally:
            connection.close()

    def _stop_sessions(self, connection: Connection) -> None:
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < 4:
            busy = ask(
                connection,
                """SELECT pid FROM pg_stat_activity WHERE application_name = %(mine)s AND pid <> pg_backend_pid()
                   AND state IN ('active', 'idle in transaction', 'idle in transaction (aborted)',
                     'fastpath function call')""",
                mine=self.tag.session,
            )
            if not busy and passed > 0.3:
                return
            for (pid,) in busy:
                how = "pg_cancel_backend" if passed < 2 else "pg_terminate_backend"
                ask(connection, f"SELECT {how}(%(pid)s)", pid=pid)
            time.sleep(0.1)
