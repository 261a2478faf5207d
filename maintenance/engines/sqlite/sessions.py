"""The one door to a database file: connections, turns on a held one, deadlines and interruption.

Nothing in this package opens the live file with `open()`: closing any descriptor of a file drops all
POSIX locks this process has on it, SQLite's among them (https://sqlite.org/howtocorrupt.html, 2.2).
Raw bytes are read by a child program instead.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from .. import programs
from ..errors import AccessDenied, Damaged, EngineError, Interrupted, Transient, Unable, Unreachable
from ..messages import msg
from ..parts import Sessions
from ..values import Facts, Limits, Tag
from .capabilities import VERSION
from .driver_errors import BUSY, LOCKED, saying
from .names import Sides, folded, spellings, tables_in
from .processes import holders, named

MAGIC = b"SQLite format 3\x00"
STEPS = 2000
"""Virtual machine steps between two looks at the stop flag."""


@dataclass(frozen=True)
class Header:
    """The first 100 bytes (https://sqlite.org/fileformat2.html#the_database_header)."""

    magic: bool
    page_size: int
    reserved: int
    pages: int
    file_bytes: int

    @property
    def plausible(self) -> bool:
        return 512 <= self.page_size <= 65536 and self.page_size & (self.page_size - 1) == 0

    @property
    def truncated(self) -> bool:
        return self.plausible and self.file_bytes < self.pages * self.page_size


class Closing(Protocol):
    def close(self) -> None: ...


def connect(path: Path, *, timeout: float = 0.0, immutable: bool = False) -> sqlite3.Connection:
    """Opens an existing file, never makes one. `immutable` reads without any lock or journal."""
    mode = "mode=ro&immutable=1" if immutable else "mode=rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{mode}", uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    # Damaged text must not hide the row it stands in.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.execute("PRAGMA foreign_keys = OFF")
    return connection


class DatabaseFile:
    """One database file as one engine object uses it. `held` is the connection that keeps others out."""

    def __init__(self, path: Path, tag: Tag, limits: Limits, stopping: threading.Event) -> None:
        self.path, self.tag, self.limits, self.stopping = path, tag, limits, stopping
        self.sides = Sides(path, tag)
        self.held: sqlite3.Connection | None = None
        self.raw: Closing | None = None
        """Our lock on a file that SQLite itself cannot lock, because its header is damaged."""
        self.evidence_kept = False
        """The copy beside the file shows its damage as of now."""
        self.tolerant = False
        """Open although the file is shorter than its header says; the schema is then not checked."""
        self._turn = threading.RLock()
        self._working: dict[sqlite3.Connection, str] = {}
        self._book = threading.Lock()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def holding(self) -> bool:
        """Whether this object keeps everybody else out."""
        return self.held is not None or self.raw is not None

    # -- work ------------------------------------------------------------------------------------------

    @contextmanager
    def working(self, doing: str, object: str) -> Iterator[sqlite3.Connection]:
        """A connection for one piece of work: the held one, in turn, or one of its own.

        Raises the engine's errors; ends at the statement limit and when stopping is set.
        """
        self.raise_if_stopping(doing, object)
        if self.raw is not None:
            raise Damaged(
                doing, object, "SQLite cannot open the file as it is: its header is damaged or its end is missing"
            )
        if self.held is None:
            with saying(doing, object):
                connection = self.opened()
            try:
                with self.watched(connection, doing, object):
                    yield connection
            finally:
                connection.close()
            return
        self._take_turn(doing, object)
        try:
            if self.held is None:
                raise Transient(doing, object, "the connection was given back meanwhile")
            with self.watched(self.held, doing, object):
                yield self.held
        finally:
            self._turn.release()

    def opened(self) -> sqlite3.Connection:
        connection = connect(self.path, timeout=self.limits.lock_seconds)
        if self.tolerant:
            connection.execute("PRAGMA writable_schema = ON")
        return connection

    @contextmanager
    def side(self, path: Path, doing: str) -> Iterator[sqlite3.Connection]:
        """Reads a finished copy, which nobody writes."""
        self.raise_if_stopping(doing, path.name)
        with saying(doing, path.name):
            connection = connect(path, immutable=True)
        try:
            with self.watched(connection, doing, path.name):
                yield connection
        finally:
            connection.close()

    @contextmanager
    def watched(self, connection: sqlite3.Connection, doing: str, object: str) -> Iterator[None]:
        """Lets `interrupt` and the statement limit reach this connection, and translates its errors."""
        deadline = time.monotonic() + self.limits.statement_seconds
        outer = self._working.get(connection)
        with self._book:
            self._working[connection] = f"{doing} {object}"
        overdue = threading.Event()
        # integrity_check of older versions never calls the progress handler, hence the timer too.
        timer = threading.Timer(self.limits.statement_seconds, _end, (connection, overdue))
        timer.daemon = True
        timer.start()
        connection.set_progress_handler(lambda: self.stopping.is_set() or time.monotonic() > deadline, STEPS)
        try:
            with saying(doing, object):
                yield
        except EngineError as error:
            self._undo_open_transaction(connection)
            if isinstance(error, Interrupted) and not self.stopping.is_set():
                words = msg("took longer than {seconds:.0f} s", seconds=self.limits.statement_seconds)
                raise Transient(doing, object, words) from error
            if isinstance(error, Transient) and "locked" in error.words and (others := holders(self.path)):
                words = msg("{words}; in use by {others}", words=error.words, others=named(others))
                raise Transient(doing, object, words) from error
            raise
        finally:
            timer.cancel()
            with self._book:
                if outer is None:
                    self._working.pop(connection, None)
                else:
                    self._working[connection] = outer

    def raise_if_stopping(self, doing: str, object: str) -> None:
        if self.stopping.is_set():
            raise Interrupted(doing, object, "stopped on request")

    @contextmanager
    def alone(self, doing: str, object: str) -> Iterator[None]:
        """Keeps other threads of this object waiting through several pieces of work."""
        self._take_turn(doing, object)
        try:
            yield
        finally:
            self._turn.release()

    def interrupt(self) -> None:
        """Asks again until nothing is at work: a statement that just begins forgets an earlier request."""
        until = time.monotonic() + 4.5
        while time.monotonic() < until:
            with self._book:
                busy = list(self._working)
            if not busy or not self.stopping.is_set():
                return
            for connection in busy:
                _end(connection, None)
            time.sleep(0.02)

    def in_hand(self) -> list[str]:
        with self._book:
            return list(self._working.values())

    def give_back(self) -> None:
        """Closes the held connection, after whoever has the turn."""
        with self._turn:
            if self.held is not None:
                self.held.close()
                self.held = None
            if self.raw is not None:
                self.raw.close()
                self.raw = None
            self.evidence_kept = False

    def _take_turn(self, doing: str, object: str) -> None:
        while not self._turn.acquire(timeout=0.1):
            self.raise_if_stopping(doing, object)

    @staticmethod
    def _undo_open_transaction(connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.set_progress_handler(None, 0)
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # the first error is the one to tell

    # -- the file itself -------------------------------------------------------------------------------

    def require(self) -> os.stat_result:
        """Raises Unreachable or AccessDenied in one clear sentence; never creates the file."""
        doing, object = "opening", str(self.path)
        if not self.path.is_absolute():
            raise Unable(doing, object, "give an absolute path, sqlite:////path/to/file")
        try:
            status = self.path.stat()
        except PermissionError as error:
            raise AccessDenied(doing, object, str(error)) from error
        except OSError as error:
            raise Unreachable(doing, object, msg("there is no such file ({words})", words=error.strerror)) from error
        if not self.path.is_file():
            raise Unreachable(doing, object, "it is not a file")
        if not os.access(self.path, os.R_OK | os.W_OK) or not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise AccessDenied(doing, object, "the file and its folder must be readable and writable for this account")
        return status

    def header(self) -> Header:
        """Read by a child; see the top of this file. Raises Unreachable when it cannot be read."""
        raw = first_bytes(self.path, 100)
        size = int.from_bytes(raw[16:18], "big")
        return Header(
            magic=raw[:16] == MAGIC,
            page_size=65536 if size == 1 else size,
            reserved=raw[20] if len(raw) > 20 else 0,
            # The page count is only to be believed when the two change counters agree.
            pages=int.from_bytes(raw[28:32], "big") if raw[24:28] == raw[92:96] else 0,
            file_bytes=self.path.stat().st_size,
        )

    def notice_truncation(self) -> bool:
        """True, and tolerant from now on, when the file ends before its header says.

        The header alone could be that of a file that somebody is just making longer, so SQLite is asked too.
        """
        header = self.header()
        self.tolerant = header.magic and header.truncated and self._is_refused_as_corrupt()
        return self.tolerant

    def _is_refused_as_corrupt(self) -> bool:
        self.tolerant = False
        if self.holding:
            return self.raw is not None
        try:
            with self.working("opening", self.name) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except Damaged:
            return True
        return False

    def size(self) -> int:
        """Bytes of the file with its journals."""
        total = 0
        for ending in ("", "-wal", "-journal"):
            try:
                total += self.path.with_name(self.path.name + ending).stat().st_size
            except FileNotFoundError:
                pass
        return total


def first_bytes(path: Path, count: int) -> bytes:
    try:
        with programs.running(["head", "-c", str(count), "--", str(path)], timeout=30) as child:
            assert child.stdout is not None
            return child.stdout.read()
    except programs.CommandFailed as error:
        raise Unreachable("reading the header of", str(path), str(error)) from error


def copied(source: sqlite3.Connection, target: sqlite3.Connection, stopping: threading.Event, name: str) -> None:
    """The online backup, page by page; damaged pages are copied as they are. Stops on request.

    Raises what `translated` makes of the error; the target is then as before.
    """

    def beat(status: int, remaining: int, total: int) -> None:
        if stopping.is_set():
            raise Interrupted("copying", name, "stopped on request")
        if status in (BUSY, LOCKED) and time.monotonic() > patience:
            raise Transient("copying", name, "somebody else keeps the file locked")

    patience = time.monotonic() + 30
    source.backup(target, pages=2000, progress=beat, sleep=0.05)


def _end(connection: sqlite3.Connection, overdue: threading.Event | None) -> None:
    if overdue is not None:
        overdue.set()
    try:
        connection.interrupt()
    except sqlite3.Error:
        pass  # closed meanwhile


class FileSessions(Sessions):
    """Connections to the file."""

    def __init__(self, file: DatabaseFile) -> None:
        self.file = file

    def facts(self) -> Facts:
        """See Sessions.facts. The inode tells hard links apart from copies; never makes a file."""
        status = self.file.require()
        with self.file.working("opening", self.file.name) as connection:
            # Needs no lock, so that a file in use, or a damaged one, still says who it is.
            connection.execute("SELECT 1").fetchone()
        return Facts(
            version=VERSION,
            identity=f"sqlite:{status.st_dev}:{status.st_ino}",
            data_directory=str(self.file.path.parent),
            is_replica=False,
            size_bytes=self.file.size(),
        )

    def spellings(self) -> dict[str, list[str]]:
        """See Sessions.spellings; folded."""
        self.file.require()
        with self.file.working("listing the tables of", self.file.name) as connection:
            return spellings(tables_in(connection))

    def folded(self, name: str) -> str:
        """See Sessions.folded."""
        return folded(name)

    def end_statements(self) -> None:
        """See Sessions.end_statements."""
        self.file.interrupt()
