"""The server and our way to it: sessions, whose turn it is, how we stop."""

from __future__ import annotations

import os
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, create_engine
from sqlalchemy import Engine as Door
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ..errors import AccessDenied, EngineError, Interrupted, ResourceShortage, Transient, Unable, Unreachable
from ..messages import Message, msg
from ..sockets import abort_connections
from ..values import Limits, Tag
from . import address
from .capabilities import Ways
from .connection import Row, Session
from .driver_errors import LOST, MEANING, REFUSED_PLUGIN, code_of, from_driver, from_words, words_of
from .names import quoted, shortened

SLOTS = 64
"""Sessions one run target has at a time, at most."""
LOAD_SLOT = SLOTS - 1
"""The mark of the client program that loads a dump; sessions of ours take lower numbers first."""
ALL_ROWS = 2**64 - 1
"""The default of sql_select_limit; a smaller one cuts off what is read, without a word."""
GIVEN_BACK_WITHIN_SECONDS = 2
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


class Server(Ways):
    """What every part needs: sessions with limits and a mark, the mutual exclusion, and how we stop.

    Every session holds a user lock that stands for run target, token, slot and schema as long as it lives; the
    server frees it with the session, and nobody can take it meanwhile. So the sessions of an older token are found
    by asking for the holders of these names, which nobody can foretell who lacks the signer's key. The mutual
    exclusion is the user lock `dbmaint:<schema>`, held by a session of its own from `fence` to `close`: all
    installations must know it, so one who can be no console may hold it in vain.
    """

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url, tag, limits)
        self.schema = url.database or ""
        self._door: Door | None = None
        self._sessions: dict[int, Session] = {}
        self._slots: set[int] = set()
        self._guard = threading.Lock()
        self._hold: Session | None = None
        self._fenced = False
        self.spared: dict[str, str] | None = None
        """What `spared_tables` knows; None before it looked. What is written anew is taken out."""
        self.judged: dict[Path, tuple[tuple[int, int, int], list[int]]] = {}
        """By file: inode, size and time of the last write when its pages were looked at, and those that were bad."""
        self.purge_awaited = False
        """Measuring has waited for InnoDB to put away old versions of rows, and nothing was worked on since."""
        self.dumped_definitions: dict[Path, tuple[str, ...]] = {}
        """Digests of the definitions in backups this object wrote."""

    @abstractmethod
    def unreadable_tables(self) -> dict[str, str]:
        """Tables that nothing may read, with the reason: reading a bad page would end the server. Looks now."""

    @abstractmethod
    def unreadable_rows(self) -> dict[str, str]:
        """Those of which not even the rows may be read one after the other, indexes left alone. Looks now."""

    @abstractmethod
    def refusal(self, session: Session) -> Message | None:
        """Why no maintenance may begin here, and what to do; None: nothing is against it."""

    def spared_tables(self) -> dict[str, str]:
        """`unreadable_tables` as they were seen last; looks where nobody has."""
        if self.spared is None:
            self.spared = self.unreadable_tables()
        return self.spared

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
        session = self._connected(doing, object)
        slot: int | None = None
        try:
            self._configure(session, limited)
            slot = self._marked(session)
            if self._fenced:
                self._keep_hold(session)
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

    def _overran(self, doing: str, object: str) -> EngineError:
        return Transient(
            doing, object, msg("the statement took longer than {seconds:.0f} s", seconds=self.limits.statement_seconds)
        )

    def _connected(self, doing: str, object: str) -> Session:
        try:
            connection = self._way_in().connect()
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

    def _way_in(self) -> Door:
        with self._guard:
            if self._door is None:
                # Only for a server that went silent: the limits proper are on the server.
                silence = int(self.limits.statement_seconds) + 60
                self._door = create_engine(
                    "mysql+mysqldb://",
                    poolclass=NullPool,
                    isolation_level="AUTOCOMMIT",
                    creator=lambda: address.connect(self.url, silence, self.first_statement),
                )
            return self._door

    def _configure(self, session: Session, limited: bool) -> None:
        """The limits of this session; what makes answers the same everywhere was set before its first statement."""
        variable, units = self.statement_limit
        limit = max(1, round(self.limits.statement_seconds * units)) if limited else 0
        lock = max(1, round(self.limits.lock_seconds))
        session.ask(f"SET SESSION lock_wait_timeout = {lock}, innodb_lock_wait_timeout = {lock}, {variable} = {limit}")

    @property
    def first_statement(self) -> str:
        """What every session begins with, before any other statement: the same rows give the same text, none is cut
        off and none left out, whatever the server's defaults are."""
        return f"SET SESSION {PINNED}, {self.statement_limit[0]} = 0{self.session_settings}"

    def slot_name(self, token: int, slot: int) -> str:
        return self.secret_name(f"{self.tag.family}{token}:{slot}@{self.schema}")

    def secret_name(self, purpose: str) -> str:
        """Return the name of a user lock that nobody else can take beforehand."""
        # At most 64 characters: MySQL's limit for the name of a user lock.
        return f"dbmaint:{self.tag.signer.digest(purpose)[:40]}"

    def _marked(self, session: Session) -> int:
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
        session = self._connected(doing, self.schema)
        try:
            yield session
        finally:
            with suppress(Exception):
                session.connection.close()

    def kill(self, session: Session, sql: str) -> bool:
        """Runs a KILL; False when there is no such session any more."""
        try:
            session.ask(sql)
        except DBAPIError as error:
            if code_of(error) == 1094:
                return False
            raise
        return True

    # -- stopping ----------------------------------------------------------------------------------

    def end_statements(self) -> None:
        """Again and again until nothing of ours runs, at most 5 s."""
        until = time.monotonic() + 4.5
        with suppress(EngineError), self.outside("stopping") as other:
            loading = other.value("SELECT IS_USED_LOCK(%(n)s)", n=self.slot_name(self.tag.token, LOAD_SLOT))
            if loading is not None:
                # The client program is gone soon; what it asked for would go on to its end.
                self.kill(other, f"{self.kill_session} {int(loading)}")
            while (busy := self._busy()) and time.monotonic() < until:
                # What does not listen to the gentle word for two seconds loses its connection.
                how = "KILL QUERY" if until - time.monotonic() > 2.5 else self.kill_session
                for session_id in busy:
                    self.kill(other, f"{how} {session_id}")
                time.sleep(0.05)

    def abort_connections(self) -> None:
        abort_connections(self.url, 3306)

    def _busy(self) -> list[int]:
        with self._guard:
            return [session.id for session in self._sessions.values() if session.busy]

    def running_sessions(self) -> dict[int, Session]:
        """Open sessions of this object by connection id."""
        with self._guard:
            return dict(self._sessions)

    # -- whose turn it is --------------------------------------------------------------------------

    @property
    def hold_name(self) -> str:
        """The lock that is the mutual exclusion on the target."""
        name = f"dbmaint:{self.schema}"
        return name if len(name) <= 64 else f"dbmaint:{shortened(self.schema)}"

    def acquire(self) -> int:
        """See MaintenanceLock.acquire. Sessions are ended one by one and waited for, at most `cut_seconds`."""
        ended = 0
        with self.session("ending older sessions of") as session:
            if refusal := self.refusal(session):
                raise Unable("taking the maintenance lock of", self.schema, refusal)
            until = time.monotonic() + self.limits.cut_seconds
            while older := self.older_sessions(session):
                for session_id in older:
                    ended += self.kill(session, f"{self.kill_session} {session_id}")
                if time.monotonic() > until:
                    raise Transient(
                        "ending older sessions of", self.schema, msg("sessions {older} do not end", older=str(older))
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

    def older_sessions(self, session: Session) -> list[int]:
        """Sessions of this run target with an older token, by the names of their locks."""
        found: list[int] = []
        for token in range(self.tag.token):
            names = {f"n{slot}": self.slot_name(token, slot) for slot in range(SLOTS)}
            columns = ", ".join(f"IS_USED_LOCK(%({key})s)" for key in names)
            found += [int(holder) for holder in session.ask(f"SELECT {columns}", **names)[0] if holder is not None]
        return found

    def _take_hold(self, session: Session) -> None:
        """Keeps or takes the mutual exclusion. Raises Transient when it is somebody else's."""
        holder = session.value("SELECT IS_USED_LOCK(%(name)s)", name=self.hold_name)
        with self._guard:
            own = self._hold.id if self._hold is not None else None
        if holder is not None and int(holder) == own:
            self._fenced = True
            return
        if holder is not None and self._is_no_console(session, int(holder)):
            self.kill(session, f"{self.kill_session} {int(holder)}")
            self._wait_for_hold(session)
            holder = session.value("SELECT IS_USED_LOCK(%(name)s)", name=self.hold_name)
        if holder is None:
            control = self._connected("holding", self.schema)
            try:
                self._configure(control, limited=False)
                taken = control.value("SELECT GET_LOCK(%(name)s, 0)", name=self.hold_name) == 1
                if taken:
                    # Marked like the others, so that a later claim finds and ends it.
                    self._marked(control)
                    control.ask("DO GET_LOCK(%(name)s, 1)", name=self.site_name)
            except DBAPIError as error:
                raise from_driver(error, "holding", self.schema, self.stopping.is_set()) from error
            if taken:
                with self._guard:
                    old, self._hold, self._fenced = self._hold, control, True
                if old is not None:
                    with suppress(Exception):
                        old.connection.invalidate()
                return
            with suppress(Exception):
                control.connection.close()
            holder = session.value("SELECT IS_USED_LOCK(%(name)s)", name=self.hold_name)
        raise Transient(
            "taking the maintenance lock of",
            self.schema,
            msg("another maintenance holds it (session {holder})", holder=holder),
        )

    @property
    def site_name(self) -> str:
        """The lock by which the holder says of which installation it is: MariaDB tells nobody the names of locks."""
        return f"dbmaint:{self.tag.site}@{shortened(self.schema)}"

    def hold_is_anothers(self, session: Session) -> bool:
        """Whether a session holds the mutual exclusion that is of no work of this installation."""
        holder, ours = session.ask(
            "SELECT IS_USED_LOCK(%(hold)s), IS_USED_LOCK(%(site)s)", hold=self.hold_name, site=self.site_name
        )[0]
        return holder is not None and holder != ours and not self._is_no_console(session, int(holder))

    def _is_no_console(self, session: Session, holder: int) -> bool:
        """Whether this session is of an account that could not maintain anything: then its lock is a pretence."""
        user = session.value("SELECT user FROM information_schema.processlist WHERE id = %(id)s", id=holder)
        if user is None:
            return False
        able = session.ask(
            "SELECT grantee FROM information_schema.user_privileges WHERE privilege_type = 'CREATE USER'"
        ) + session.ask(self.role_edges_sql)
        return not any(str(grantee).startswith(f"'{user}'@") for (grantee,) in able)

    def _keep_hold(self, session: Session) -> None:
        """A worker that was only slow must not go on after another has taken over."""
        holder = session.value("SELECT IS_USED_LOCK(%(name)s)", name=self.hold_name)
        with self._guard:
            own = self._hold.id if self._hold is not None else None
        if holder is None or int(holder) != own:
            self.assert_lease()
            self._take_hold(session)

    def own_session_ids(self, session: Session) -> set[int]:
        """Sessions of this tag, of this object or of another one."""
        names = {f"n{slot}": self.slot_name(self.tag.token, slot) for slot in range(SLOTS)}
        columns = ", ".join(f"IS_USED_LOCK(%({key})s)" for key in names)
        marked = {int(holder) for holder in session.ask(f"SELECT {columns}", **names)[0] if holder is not None}
        with self._guard:
            return marked | set(self._sessions) | {session.id} | ({self._hold.id} if self._hold else set())

    def close(self) -> None:
        with self._guard:
            hold, self._hold, self._fenced = self._hold, None, False
            door, self._door = self._door, None
            self._slots.clear()
        if hold is not None:
            with suppress(Exception):
                # Not `close`, which waits for an answer to a ROLLBACK.
                hold.connection.invalidate()
        if door is not None:
            door.dispose()

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
