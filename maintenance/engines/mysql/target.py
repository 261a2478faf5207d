"""The server and our way to it: sessions, how we stop, what the native tools need."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, create_engine
from sqlalchemy import Engine as SqlEngine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ..errors import AccessDenied, EngineError, Interrupted, ResourceShortage, Transient, Unable, Unreachable
from ..messages import msg
from ..parts import raise_if_stopping
from ..values import Limits, Tag
from . import address
from .capabilities import Capabilities
from .connection import Row, Session
from .driver_errors import LOST, MEANING, REFUSED_PLUGIN, code_of, from_driver, from_words, words_of
from .names import quoted

SLOTS = 64
"""Sessions one run target has at a time, at most."""
LOAD_SLOT = SLOTS - 1
"""The mark of the client program that loads a dump; sessions of ours take lower numbers first."""
ALL_ROWS = 2**64 - 1
"""The default of sql_select_limit; a smaller one cuts off what is read, without a word."""
PINNED = (
    "time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO', foreign_key_checks = 1, unique_checks = 1,"
    f" autocommit = 1, max_join_size = {ALL_ROWS}, sql_big_selects = 1, sql_select_limit = {ALL_ROWS},"
    " sql_safe_updates = 0, sql_auto_is_null = 0, sql_quote_show_create = 1, completion_type = 0,"
    " group_concat_max_len = 1000000, div_precision_increment = 4,"
    " lc_messages = 'en_US', lc_time_names = 'en_US', default_week_format = 0, wait_timeout = 86400"
)
"""Session variables that both products have and that change what a statement reads, writes or answers."""
ANOTHER_LOGIN = msg(
    "the server asks for a login by which whoever poses as it could read the password; use an account that logs in by"
    " mysql_native_password or ed25519, or prove the server: ssl_mode=VERIFY_IDENTITY with ssl_ca,"
    " server_public_key_path, or a socket"
)


class Server:
    """What every part needs: sessions with limits and a mark, and how we stop.

    Every session holds a user lock that stands for run target, token, slot and schema as long as it lives; the
    server frees it with the session, and nobody can take it meanwhile. So the sessions of an older token are found
    by asking for the holders of these names, which nobody can foretell who lacks the signer's key.
    """

    keep_lock: Callable[[Session], None] = staticmethod(lambda session: None)
    """Called in each new session: takes the maintenance lock again where it was lost, or raises."""

    def __init__(
        self, url: URL, tag: Tag, limits: Limits, stopping: threading.Event, capabilities: Capabilities
    ) -> None:
        self.url, self.tag, self.limits, self.stopping, self.capabilities = url, tag, limits, stopping, capabilities
        self.schema = url.database or ""
        self._way_in: SqlEngine | None = None
        self._sessions: dict[int, Session] = {}
        self._slots: set[int] = set()
        self._guard = threading.Lock()
        self.spared: dict[str, str] | None = None
        """What `spared_tables` knows; None before it looked. What is written anew is taken out."""
        self.judged: dict[Path, tuple[tuple[int, int, int], list[int]]] = {}
        """By file: inode, size and time of the last write when its pages were looked at, and those that were bad."""
        self.purge_awaited = False
        """Measuring has waited for InnoDB to put away old versions of rows, and nothing was worked on since."""

    def raise_if_stopping(self, doing: str, object: str) -> None:
        """Call between pieces of long work. Raises Interrupted once the engine was asked to stop."""
        raise_if_stopping(self.stopping, doing, object)

    # -- sessions ----------------------------------------------------------------------------------

    @contextmanager
    def session(
        self, doing: str, object: str = "", *, database: bool = False, limited: bool = True
    ) -> Iterator[Session]:
        """A marked session with lock and statement limits and pinned settings; driver errors in our tree.

        `database`: the target schema is the default one (otherwise none is, so that the session never
        looks like an application's). `limited=False`: no statement limit on the server, because a CHECK
        that it ends answers "OK"; such statements go through `admin`, which has a deadline of its own.
        """
        object = object or self.schema
        self.raise_if_stopping(doing, object)
        session = self.connected(doing, object)
        slot: int | None = None
        try:
            self.configure(session, limited)
            slot = self.mark(session)
            self.keep_lock(session)
            if database:
                session.verbatim(f"USE {quoted(self.schema)}")
            with self._guard:
                self._sessions[session.id] = session
            self.raise_if_stopping(doing, object)
            yield session
            if session.overran:
                raise self._overran(doing, object)
        except DBAPIError as error:
            if session.overran:
                raise self._overran(doing, object) from error
            raise from_driver(error, doing, object, self.stopping.is_set()) from error
        finally:
            with self._guard:
                self._sessions.pop(session.id, None)
                if slot is not None:
                    self._slots.discard(slot)
            with suppress(Exception):
                session.connection.close()

    @contextmanager
    def unreplicated(self, doing: str) -> Iterator[Session]:
        """A session whose changes stay out of the binary log where we may: replicas keep accounts of their own."""
        with self.session(doing) as session:
            try:
                session.ask("SET SESSION sql_log_bin = 0")
            except DBAPIError as error:
                if code_of(error) not in (1227, 1231):
                    raise
            yield session

    def _overran(self, doing: str, object: str) -> EngineError:
        return Transient(
            doing, object, msg("the statement took longer than {seconds:.0f} s", seconds=self.limits.statement_seconds)
        )

    def connected(self, doing: str, object: str) -> Session:
        try:
            connection = self._connections().connect()
        except DBAPIError as error:
            code = code_of(error)
            if code in LOST:
                raise Unreachable("connecting to", self.url.host or "the server", words_of(error)) from error
            if code in REFUSED_PLUGIN:
                raise AccessDenied("connecting to", self.url.host or "the server", ANOTHER_LOGIN) from error
            kind = MEANING.get(code or 0, Unreachable)
            raise kind("connecting to", self.url.host or "the server", words_of(error)) from error
        session = Session(connection, doing, object, f"/* {self.tag.session} */")
        try:
            session.id = int(session.value("SELECT CONNECTION_ID()"))
        except DBAPIError as error:
            raise from_driver(error, doing, object, self.stopping.is_set()) from error
        return session

    def _connections(self) -> SqlEngine:
        with self._guard:
            if self._way_in is None:
                # Only for a server that went silent: the limits proper are on the server.
                silence = int(self.limits.statement_seconds) + 60
                self._way_in = create_engine(
                    "mysql+mysqldb://",
                    poolclass=NullPool,
                    isolation_level="AUTOCOMMIT",
                    creator=lambda: address.connect(self.url, silence, self.first_statement),
                )
            return self._way_in

    def configure(self, session: Session, limited: bool) -> None:
        """The limits of this session; what makes answers the same everywhere was set before its first statement."""
        variable, units = self.capabilities.statement_limit
        limit = max(1, round(self.limits.statement_seconds * units)) if limited else 0
        lock = max(1, round(self.limits.lock_seconds))
        session.ask(f"SET SESSION lock_wait_timeout = {lock}, innodb_lock_wait_timeout = {lock}, {variable} = {limit}")

    @property
    def first_statement(self) -> str:
        """What every session begins with, before any other statement: the same rows give the same text, none is cut
        off and none left out, whatever the server's defaults are."""
        return f"SET SESSION {PINNED}, {self.capabilities.statement_limit[0]} = 0{self.capabilities.session_settings}"

    def slot_name(self, token: int, slot: int) -> str:
        """Return the name of the user lock that marks one of our sessions."""
        return self.secret_name(f"{self.tag.family}{token}:{slot}@{self.schema}")

    def secret_name(self, purpose: str) -> str:
        """Return the name of a user lock that nobody else can take beforehand."""
        # At most 64 characters: MySQL's limit for the name of a user lock.
        return f"dbmaint:{self.tag.signer.digest(purpose)[:40]}"

    def mark(self, session: Session) -> int:
        """Take a user lock that names this run target; return its slot. Raises ResourceShortage."""
        with self._guard:
            tried = set(self._slots)
        for slot in range(SLOTS):
            if slot in tried:
                continue
            name = self.slot_name(self.tag.token, slot)
            if session.value("SELECT GET_LOCK(%(name)s, 0)", name=name) == 1:
                with self._guard:
                    self._slots.add(slot)
                return slot
        raise ResourceShortage(
            "connecting to",
            self.schema,
            msg("{slots} sessions of {session} are open already", slots=SLOTS, session=self.tag.session),
        )

    def admin(self, session: Session, sql: str) -> list[Row]:
        """Runs CHECK, OPTIMIZE, ALTER and their kind under a deadline of our own, and looks whether we ended it.

        The products' own statement limits either do not reach these statements or make CHECK answer "OK".
        """
        timer = threading.Timer(self.limits.statement_seconds, self._end, [session])
        timer.daemon = True
        timer.start()
        try:
            rows = session.ask(sql)
        finally:
            timer.cancel()
        if session.overran:
            raise self._overran(session.doing, session.object)
        self.raise_if_stopping(session.doing, session.object)
        return rows

    def _end(self, session: Session) -> None:
        session.overran = True
        with suppress(EngineError, DBAPIError), self.outside("ending a statement that takes too long") as other:
            self.kill(other, f"KILL QUERY {session.id}")

    @contextmanager
    def outside(self, doing: str) -> Iterator[Session]:
        """A bare session, also while we are stopping."""
        session = self.connected(doing, self.schema)
        try:
            yield session
        finally:
            with suppress(Exception):
                session.connection.close()

    def kill(self, session: Session, sql: str) -> bool:
        """Run a KILL; False when there is no such session any more."""
        try:
            session.ask(sql)
        except DBAPIError as error:
            if code_of(error) == 1094:
                return False
            raise
        return True

    # -- stopping ----------------------------------------------------------------------------------

    def end_statements(self) -> None:
        """See Sessions.end_statements. Again and again until nothing of ours runs."""
        until = time.monotonic() + 4.5
        with suppress(EngineError), self.outside("stopping") as other:
            loading = other.value("SELECT IS_USED_LOCK(%(n)s)", n=self.slot_name(self.tag.token, LOAD_SLOT))
            if loading is not None:
                # The client program is gone soon; what it asked for would go on to its end.
                self.kill(other, f"{self.capabilities.kill_session} {int(loading)}")
            while (busy := self._busy()) and time.monotonic() < until:
                # What does not listen to the gentle word for two seconds loses its connection.
                how = "KILL QUERY" if until - time.monotonic() > 2.5 else self.capabilities.kill_session
                for session_id in busy:
                    self.kill(other, f"{how} {session_id}")
                time.sleep(0.05)

    def _busy(self) -> list[int]:
        with self._guard:
            return [session.id for session in self._sessions.values() if session.busy]

    def running_sessions(self) -> dict[int, Session]:
        """Open sessions of this object by connection id."""
        with self._guard:
            return dict(self._sessions)

    # -- which sessions are ours --------------------------------------------------------------------

    def older_sessions(self, session: Session) -> list[int]:
        """Sessions of this run target with an older token, by the names of their locks."""
        found: list[int] = []
        for token in range(self.tag.token):
            names = {f"n{slot}": self.slot_name(token, slot) for slot in range(SLOTS)}
            columns = ", ".join(f"IS_USED_LOCK(%({key})s)" for key in names)
            found += [int(holder) for holder in session.ask(f"SELECT {columns}", **names)[0] if holder is not None]
        return found

    def own_session_ids(self, session: Session) -> set[int]:
        """Sessions of this tag, of this object or of another one."""
        names = {f"n{slot}": self.slot_name(self.tag.token, slot) for slot in range(SLOTS)}
        columns = ", ".join(f"IS_USED_LOCK(%({key})s)" for key in names)
        marked = {int(holder) for holder in session.ask(f"SELECT {columns}", **names)[0] if holder is not None}
        with self._guard:
            return marked | set(self._sessions) | {session.id}

    def close(self) -> None:
        """Give back every connection that is not a session of somebody's."""
        with self._guard:
            way_in, self._way_in = self._way_in, None
            self._slots.clear()
        if way_in is not None:
            way_in.dispose()

    # -- what the tools need -----------------------------------------------------------------------

    def secrets(self) -> dict[str, str]:
        """For the environment of a native tool: they read the password nowhere else but in files."""
        return address.environment(self.url)

    def address(self, program: str) -> list[str]:
        """Arguments of this native tool that lead to the server; isolated from option files."""
        return address.arguments(self.url, program)

    def data_folder(self, session: Session) -> Path | None:
        """The server's data folder where this process can read it: same host and enough rights."""
        host, folder = session.ask("SELECT @@hostname, @@datadir")[0]
        if host != socket.gethostname() or not folder:
            return None
        path = Path(str(folder))
        return path if os.access(path, os.R_OK | os.X_OK) and (path / "ibdata1").exists() else None

    def accept(self, rows: list[Row], doing: str, object: str) -> list[str]:
        """Notes and warnings of a maintenance statement. Raises when a result row says that it failed.

        These statements never raise on failure by themselves: the failure is a row with Msg_type
        'error' (or 'Error'), or a status other than OK.
        """
        kept: list[str] = []
        for _, _, kind, text in rows:
            if str(kind).lower() == "error" or (kind == "status" and not _fine(str(text))):
                words = "; ".join(str(row[3]) for row in rows)
                if "interrupted" in words and self.stopping.is_set():
                    raise Interrupted(doing, object, words)
                raise from_words(words, doing, object)
            if kind != "status":
                kept.append(str(text))
        return kept

    def need_schema(self, session: Session) -> None:
        """Raises Unable when there is no such database."""
        if not session.ask("SELECT 1 FROM information_schema.schemata WHERE schema_name = %(s)s", s=self.schema):
            raise Unable(
                "opening",
                self.schema,
                msg("there is no database {database} that this account can see", database=self.schema),
            )


def _fine(status: str) -> bool:
    return status in ("OK", "Table is already up to date", "Engine-independent statistics collected")
