"""The way to the target: sessions, under whatever name the database has now, and their limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import psycopg2
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy import Engine as SqlEngine
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.pool import NullPool

from ..errors import EngineError, Interrupted, Transient, Unreachable
from ..messages import msg
from ..parts import raise_if_stopping
from ..programs import CommandFailed, CommandStopped
from ..values import Limits, Tag
from .capabilities import Capabilities, capabilities_of
from .connection import OF_SUPERUSERS, OWN, arguments_of, connected, give_back, silent, spelled
from .driver_errors import by_words, from_driver
from .identity import Identity
from .own_schemas import SETTING, as_setting, own_schemas
from .sql import ask, configure

T = TypeVar("T")
R = TypeVar("R")


class TargetDatabase:
    """Sessions to the target database and to the maintenance database `postgres` beside it."""

    def __init__(self, url: URL, tag: Tag, limits: Limits, stopping: threading.Event) -> None:
        self.url, self.tag, self.limits, self.stopping = url, tag, limits, stopping
        self.name = url.database or url.username or "postgres"
        self.identity = Identity(self.name, tag)
        self._sql_engines: dict[tuple[str, str], SqlEngine] = {}
        self._place: str | None = None
        self._control: str | None = None
        self._version = 0
        self._schemas: dict[int, str] | None = None
        self._superuser = False

    def raise_if_stopping(self, doing: str, object: str = "") -> None:
        """Call between pieces of long work. Raises Interrupted once the engine was asked to stop."""
        raise_if_stopping(self.stopping, doing, object or self.name)

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
        object = object or self.name
        self.raise_if_stopping(doing, object)
        connection = self.open(database, doing, object, options)
        try:
            with self.translated(doing, object):
                configure(connection, {**self._left_out(connection, database), **(settings or {})})
                yield connection
        finally:
            give_back(connection)

    def _left_out(self, connection: Connection, database: str | None) -> dict[str, object]:
        """Return the setting that leaves our schemas out, looked for once; none where the catalog cannot be read."""
        if database is not None and database == self._control:
            return {}
        if self._schemas is None:
            try:
                self._schemas = own_schemas(connection, self.tag)
            except DBAPIError:
                return {}
        return {SETTING: as_setting(self._schemas)} if self._schemas else {}

    def look_again_for_schemas(self) -> None:
        """Call when one of our own schemas was made or dropped."""
        self._schemas = None

    @contextmanager
    def control(self, doing: str) -> Iterator[Connection]:
        """A session beside the target, which stays possible while the target is closed."""
        with self.session(doing, database=self.control_database()) as connection:
            yield connection

    @contextmanager
    def translated(self, doing: str, object: str) -> Iterator[None]:
        """Driver and program errors leave the block as ours. Raises Transient or Interrupted."""
        try:
            yield
        except DBAPIError as error:
            cause = error.orig or error
            raise from_driver(cause, doing, object, stopping=self.stopping.is_set(), connecting=False) from error
        except PendingRollbackError as error:
            raise Transient(doing, object, "the line to the server was lost") from error
        except psycopg2.Error as error:
            raise from_driver(error, doing, object, stopping=self.stopping.is_set(), connecting=False) from error
        except CommandStopped as error:
            raise Interrupted(doing, object, "stopped on request") from error
        except CommandFailed as error:
            raise by_words(str(error), EngineError)(doing, object, str(error)) from error

    def place(self) -> str:
        """Return the name under which the target is now: its own, or the one it has while it is hidden."""
        with self.session("looking for the database"):
            return self._place or self.name

    def control_database(self) -> str:
        """`postgres`, or `template1` where that is missing or is the target itself."""
        if self._control is None:
            refusal: Unreachable | None = None
            for name in ("postgres", "template1"):
                if name == self.name:
                    continue
                try:
                    give_back(self.enter(name, "connecting to", name))
                except Unreachable as error:
                    if silent(error):
                        raise
                    refusal = refusal or error
                    continue
                self._control = name
                break
            else:
                assert refusal is not None
                raise refusal
        return self._control

    def renamed(self, name: str) -> None:
        """Note the name that the target was given."""
        self._place = name

    def close(self) -> None:
        """Give back what sessions were opened through."""
        for sql_engine in self._sql_engines.values():
            sql_engine.dispose()

    def control_if_known(self) -> str:
        """As `control_database`, without asking: what interrupts must not wait."""
        return self._control or "postgres"

    def standing(self, side: str | None) -> str | None:
        """Return the side database; None, the live one, when an earlier attempt has put it in place already."""
        if side is None:
            return None
        with self.control("looking for the side copy") as connection:
            there = self.identity.named(connection, side) is not None
            swapped = self.identity.side(connection, "broken") is not None
        return None if swapped and not there else side

    @property
    def capabilities(self) -> Capabilities:
        """Return what the server's version can; connects when nobody did yet."""
        if not self._version:
            with self.session("asking for the version"):
                pass
        return capabilities_of(self._version)

    def open(self, database: str | None, doing: str, object: str, options: str = "") -> Connection:
        if database is not None:
            return self.enter(database, doing, object, options)
        missing: Unreachable | None = None
        for name in (self._place or self.name, None):
            try:
                place = name or self._look_up(doing)
                connection = self.enter(place, doing, object, options)
            except Unreachable as error:
                if missing or silent(error):
                    raise missing or error from None
                missing = error
                continue
            if self._is_target(connection):
                self._place = place
                return connection
            give_back(connection)
            missing = Unreachable(doing, object, msg("the database {name} is another one", name=place))
        assert missing is not None
        raise missing

    def _look_up(self, doing: str) -> str:
        """Return the name that the target has now, by the catalog: a refused connection has no code, and its words are
        of any language. Raises Unreachable when it is nowhere."""
        connection = self.enter(self.control_database(), doing, self.name)
        try:
            entry = self.identity.target(connection)
        finally:
            give_back(connection)
        if entry is None:
            raise Unreachable(doing, self.name, "it is not hidden either")
        return entry.name

    def _is_target(self, connection: Connection) -> bool:
        """Return whether the session is in the very database that the journal names; it may have changed its name."""
        if self.identity.known is None:
            return True
        entry = self.identity.target(connection)
        [(name,)] = ask(connection, "SELECT current_database()")
        return entry is not None and entry.name == name

    def enter(self, database: str, doing: str, object: str, options: str = "") -> Connection:
        """Raises Unable where what we asked for is not in force from the very start."""
        key = (database, f"{options} {spelled(self.silence())}")
        if key not in self._sql_engines:
            url = self.url.set(database=database)
            self._sql_engines[key] = create_engine(
                url,
                isolation_level="AUTOCOMMIT",
                poolclass=NullPool,
                creator=lambda: connected({**arguments_of(url), **self._arguments(key[1])}, database),
                use_native_hstore=False,  # To look for that type is a query of the catalogs, and they may be damaged.
            )
        try:
            connection = self._sql_engines[key].connect()
            driver = connection.connection.driver_connection
            assert driver is not None
            self._version = int(driver.server_version)
            self._superuser = driver.get_parameter_status("is_superuser") == "on"
            configure(connection, capabilities_of(self._version).session_settings)
        except DBAPIError as error:
            cause = error.orig or error
            raise from_driver(cause, doing, object, stopping=self.stopping.is_set(), connecting=True) from error
        return connection

    def silence(self) -> dict[str, str]:
        """Settings of a superuser's sessions, known from the second on."""
        if not self._superuser:
            return {}
        return {**OF_SUPERUSERS, **({"event_triggers": "off"} if capabilities_of(self._version).event_triggers else {})}

    def _arguments(self, further: str) -> dict[str, object]:
        limits = {
            "statement_timeout": int(self.limits.statement_seconds * 1000),
            "lock_timeout": int(self.limits.lock_seconds * 1000),
        }
        return {
            "application_name": self.tag.session,
            "connect_timeout": 10,
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "options": f"{further} {spelled({**OWN, **limits})}".strip(),
        }

    def await_server(self, seconds: float = 60) -> None:
        """Wait for a server that ended all its sessions to accept new ones. Raises what it says at last."""
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
        """Return what `work` finds, called in `jobs` threads with a share of the items each, dealt out in turn."""
        shares = [items[first::jobs] for first in range(jobs) if items[first::jobs]]
        if not shares:
            return []
        with ThreadPoolExecutor(len(shares)) as pool:
            return [result for found in pool.map(work, shares) for result in found]
