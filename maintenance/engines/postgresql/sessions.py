"""The way to the server: sessions, under whatever name the target has now, and how we end what they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg2
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy import Engine as Door
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.pool import NullPool

from ..base import UndividedEngine
from ..errors import EngineError, Interrupted, Transient, Unable, Unreachable
from ..messages import msg
from ..programs import CommandFailed, CommandStopped
from ..sockets import abort_connections
from ..values import Json, Limits, Tag
from .capabilities import Ways, ways_of
from .driver_errors import by_words, from_driver
from .identity import Identity
from .sql import ask, configure

T = TypeVar("T")
R = TypeVar("R")

SAFE_PATH = "pg_catalog, pg_temp"
"""Where names without a schema are looked for: others may create in any other schema, and a function, an operator or
a type of theirs would be taken for the server's own. Temporary ones last, which by default come first."""

OWN = {
    "search_path": SAFE_PATH.replace(" ", ""),
    "row_security": "off",  # Policies are the owner's code: an error instead of running them, or of rows left out.
    "constraint_exclusion": "off",  # Planning a query would call functions of CHECK constraints.
    "default_transaction_read_only": "off",
    "default_transaction_isolation": r"read\ committed",
    "synchronous_commit": "local",  # A standby that is gone must not hold up the cut, or the opening.
    "idle_in_transaction_session_timeout": "0",
    "jit": "off",  # Questions to a large catalog would be compiled for seconds.
}
"""For every session of ours, as libpq's `options` spells it: in force before the first statement, over what ALTER ROLE
and ALTER DATABASE say."""

OF_SUPERUSERS = {
    "session_replication_role": "replica",  # Neither triggers of the target nor its event triggers fire for us.
    "lc_messages": "C",
}
"""Besides these, where the account may set them. Until its first session has told, it may not."""


def spelled(settings: Mapping[str, object]) -> str:
    """As libpq's `options`."""
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def arguments_of(url: URL) -> dict[str, object]:
    """What the driver is called with."""
    _, arguments = url.get_dialect()().create_connect_args(url)
    return dict(arguments)


def connected(arguments: Mapping[str, Any], database: str) -> Any:
    """A driver's connection to the server itself, with the settings that were asked for in force.

    Whoever stands between us and the server drops them, or lends us another session for each transaction: a lock, a
    setting, or the end of our sessions would then be somebody else's. Raises Unable.
    """
    connection = psycopg2.connect(**arguments)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            # Qualified, as the path may be anybody's still.
            cursor.execute("SELECT pg_catalog.current_setting('search_path'), pg_catalog.pg_backend_pid()")
            path, process = cursor.fetchone()
        if path != OWN["search_path"] or process != connection.info.backend_pid:
            raise Unable(
                "connecting to",
                database,
                msg(
                    "a pooler stands between the console and the server, and drops what every session of the console "
                    "is opened with; register the address of the server itself"
                ),
            )
    except BaseException:
        connection.close()
        raise
    return connection


def give_back(connection: Connection) -> None:
    """Close a session, also one whose line is lost: what its work brought counts, not that it cannot be closed."""
    with suppress(DBAPIError, psycopg2.Error):
        connection.close()


def silent(error: EngineError) -> bool:
    """Whether nobody answered, so that asking for another database would wait as long again. The words are libpq's own,
    in the language of our process: English."""
    return "timeout expired" in error.words


class Sessions(UndividedEngine):
    """Sessions to the target database and to the maintenance database `postgres` beside it."""

    name = "postgresql"
    methods = ("pg_dump", "pg_basebackup")

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url.set(drivername="postgresql+psycopg2"), tag, limits)
        self.database = url.database or url.username or "postgres"
        self.identity = Identity(self.database, tag)
        self._doors: dict[tuple[str, str], Door] = {}
        self._place: str | None = None
        self._control: str | None = None
        self._version = 0
        self._superuser = False

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
            give_back(connection)

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
        except PendingRollbackError as error:
            raise Transient(doing, object, "the line to the server was lost") from error
        except psycopg2.Error as error:
            raise from_driver(error, doing, object, stopping=self.stopping.is_set(), connecting=False) from error
        except CommandStopped as error:
            raise Interrupted(doing, object, "stopped on request") from error
        except CommandFailed as error:
            raise by_words(str(error), EngineError)(doing, object, str(error)) from error

    def place(self) -> str:
        """The name under which the target is now: its own, or the one it has while it is hidden."""
        with self.session("looking for the database"):
            return self._place or self.database

    def control_database(self) -> str:
        """`postgres`, or `template1` where that is missing or is the target itself."""
        if self._control is None:
            refusal: Unreachable | None = None
            for name in ("postgres", "template1"):
                if name == self.database:
                    continue
                try:
                    give_back(self._enter(name, "connecting to", name))
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

    def recall(self, gate: Json) -> None:
        self.identity.recall(gate)

    def standing(self, side: str | None) -> str | None:
        """The side database; None, the live one, when an earlier attempt has put it in place already."""
        if side is None:
            return None
        with self.control("looking for the side copy") as connection:
            there = self.identity.named(connection, side) is not None
            swapped = self.identity.side(connection, "broken") is not None
        return None if swapped and not there else side

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
        missing: Unreachable | None = None
        for name in (self._place or self.database, None):
            try:
                place = name or self._look_up(doing)
                connection = self._enter(place, doing, object, options)
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
        """The name that the target has now, by the catalog: a refused connection has no code, and its words are of any
        language. Raises Unreachable when it is nowhere."""
        connection = self._enter(self.control_database(), doing, self.database)
        try:
            entry = self.identity.target(connection)
        finally:
            give_back(connection)
        if entry is None:
            raise Unreachable(doing, self.database, "it is not hidden either")
        return entry.name

    def _is_target(self, connection: Connection) -> bool:
        """Whether the session is in the very database that the journal names; it may have changed its name."""
        if self.identity.known is None:
            return True
        entry = self.identity.target(connection)
        [(name,)] = ask(connection, "SELECT current_database()")
        return entry is not None and entry.name == name

    def _enter(self, database: str, doing: str, object: str, options: str = "") -> Connection:
        """Raises Unable where what we asked for is not in force from the very start."""
        key = (database, f"{options} {spelled(self._silence())}")
        if key not in self._doors:
            url = self.url.set(database=database)
            self._doors[key] = create_engine(
                url,
                isolation_level="AUTOCOMMIT",
                poolclass=NullPool,
                creator=lambda: connected({**arguments_of(url), **self._arguments(key[1])}, database),
                use_native_hstore=False,  # To look for that type is a query of the catalogs, and they may be damaged.
            )
        try:
            connection = self._doors[key].connect()
            driver = connection.connection.driver_connection
            assert driver is not None
            self._version = int(driver.server_version)
            self._superuser = driver.get_parameter_status("is_superuser") == "on"
            configure(connection, ways_of(self._version).session_settings)
        except DBAPIError as error:
            cause = error.orig or error
            raise from_driver(cause, doing, object, stopping=self.stopping.is_set(), connecting=True) from error
        return connection

    def _silence(self) -> dict[str, str]:
        """Settings of a superuser's sessions, known from the second on."""
        if not self._superuser:
            return {}
        return {**OF_SUPERUSERS, **({"event_triggers": "off"} if ways_of(self._version).event_triggers else {})}

    def abort_connections(self) -> None:
        abort_connections(self.url, 5432)

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
            give_back(connection)

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
