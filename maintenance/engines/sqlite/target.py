"""The way to the target: connections to the file, turns on a held one, deadlines and interruption.

Nothing in this package opens the live file with `open()`: closing any descriptor of a file drops all
POSIX locks this process has on it, SQLite's among them (https://sqlite.org/howtocorrupt.html, 2.2).
Raw bytes are read by a child program instead.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from .. import programs
from ..errors import AccessDenied, Damaged, EngineError, Interrupted, ResourceShortage, Transient, Unable, Unreachable
from ..messages import msg
from ..parts import raise_if_stopping
from ..values import Limits, Tag
from . import foreign_log
from .connection import Mode, connect
from .driver_errors import translated
from .file_header import Header, first_bytes, header_in
from .names import Sides
from .processes import holders, named

STEPS = 2000
"""Virtual machine steps between two looks at the stop flag."""


class Closing(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


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
        self._look: tuple[object, Path] | None = None
        """A copy that was made to look at, and `marks` of then."""
        self._foreign: tuple[object, bool] | None = None
        self._turn = threading.RLock()
        self._working: dict[sqlite3.Connection, str] = {}
        self._book = threading.Lock()

    @property
    def name(self) -> str:
        """The name of the file without its folder."""
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
            with self._looking(doing, object) as connection, self.watched(connection, doing, object):
                yield connection
            return
        self._take_turn(doing, object)
        try:
            if self.held is None:
                raise Transient(doing, object, "the connection was given back meanwhile")
            with self.watched(self.held, doing, object):
                yield self.held
        finally:
            self._turn.release()

    @contextmanager
    def _looking(self, doing: str, object: str) -> Iterator[sqlite3.Connection]:
        """A connection that changes nothing: no journal of others is played in, no log is written back or removed.

        Raises Transient when somebody wrote while the file was read without a lock.
        """
        before = self.marks()
        with translated(doing, object):
            path, mode = self._way_to_look()
            connection = connect(path, mode, timeout=self.limits.lock_seconds)
        if self.tolerant:
            connection.execute("PRAGMA writable_schema = ON")
        try:
            yield connection
        finally:
            connection.close()
        if mode == "immutable" and self.marks() != before:
            raise Transient(doing, object, "somebody wrote into the file meanwhile")

    def _way_to_look(self) -> tuple[Path, Mode]:
        """What lies beside the file of a program that died is played into a copy, where it belongs to the file.

        A file in WAL mode without its log cannot be opened for reading alone but as one that nobody writes.
        """
        if holders(self.path):
            return self.path, "ro"
        if any(self.beside(ending).exists() and self.beside(ending).stat().st_size for ending in ("-wal", "-journal")):
            if self.log_is_foreign():
                return self.path, "immutable"
            return self.copy_to_look_at(), "rw"
        return self.path, "immutable" if self.header().write_ahead else "ro"

    def log_is_foreign(self) -> bool:
        """Whether the log beside the file was written for another database, or is none."""
        marks = self.marks()
        if self._foreign is None or self._foreign[0] != marks:
            self._foreign = (marks, foreign_log.is_foreign(self.path, self.beside("-wal"), self.copy_to_look_at))
        return self._foreign[1]

    def copy_to_look_at(self) -> Path:
        """A copy of the file with what lies beside it, as of now; the same one until something changes.

        Raises ResourceShortage or Transient.
        """
        marks = self.marks()
        if self._look is None or self._look[0] != marks:
            self._forget_look()
            free = shutil.disk_usage(self.path.parent).free
            if self.size() * 1.05 > free:
                words = msg("{needed} bytes are needed and {free} are free", needed=self.size(), free=free)
                raise ResourceShortage("copying", self.name, words)
            folder = Path(tempfile.mkdtemp(prefix=f"{self.sides.prefix}look", dir=self.path.parent))
            self._look = (marks, folder)
            with suppress(FileNotFoundError):
                for ending in ("", "-wal", "-journal"):
                    if self.beside(ending).exists():
                        self.copy_bytes(self.beside(ending), folder / f"copy{ending}")
            if self.marks() != marks:
                self._forget_look()
                raise Transient("copying", self.name, "somebody wrote into the file meanwhile")
        return self._look[1] / "copy"

    def _forget_look(self) -> None:
        if self._look is not None:
            shutil.rmtree(self._look[1], ignore_errors=True)
            self._look = None

    def copy_bytes(self, source: Path, target: Path) -> None:
        """Copy by a child: see the top of this file. Raises ResourceShortage, Interrupted, FileNotFoundError."""
        args = ["cp", "--reflink=auto", "--remove-destination", "--", str(source), str(target)]
        try:
            programs.run(args, stop=self.stopping, timeout=self.limits.statement_seconds)
        except programs.CommandStopped:
            self.raise_if_stopping("copying", self.name)
            raise
        except programs.CommandFailed as error:
            target.unlink(missing_ok=True)
            if not source.exists():
                raise FileNotFoundError(source) from error
            raise ResourceShortage("copying", self.name, str(error)) from error
        os.chmod(target, 0o600)

    def equals(self, copy: Path) -> bool:
        """Whether the file is byte for byte the copy. Read by a child: see the top of this file.

        Raises ResourceShortage.
        """
        try:
            programs.run(
                ["cmp", "--silent", "--", str(self.path), str(copy)],
                stop=self.stopping,
                timeout=self.limits.statement_seconds,
            )
        except programs.CommandFailed as error:
            if error.returncode == 1:
                return False
            raise ResourceShortage("copying", self.name, str(error)) from error
        return True

    def beside(self, ending: str) -> Path:
        """The file itself for '', or one that belongs to it: -wal, -shm, -journal."""
        return self.path.with_name(self.path.name + ending)

    def marks(self) -> tuple[tuple[int, int, int], ...]:
        """Inode, size and time of the last write of the file, its log and its journal; zeros where there is none."""
        marks: list[tuple[int, int, int]] = []
        for ending in ("", "-wal", "-journal"):
            try:
                status = self.beside(ending).stat()
                marks.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except FileNotFoundError:
                marks.append((0, 0, 0))
        return tuple(marks)

    @contextmanager
    def writing(self, doing: str, object: str) -> Iterator[sqlite3.Connection]:
        """As `working`, but may write where nothing is held: for what a crash left to be put right."""
        if self.holding:
            with self.working(doing, object) as connection:
                yield connection
            return
        self.raise_if_stopping(doing, object)
        with translated(doing, object):
            own = connect(self.path, timeout=self.limits.lock_seconds)
        with closing(own), self.watched(own, doing, object):
            yield own

    @contextmanager
    def side(self, path: Path, doing: str, mode: Mode = "immutable") -> Iterator[sqlite3.Connection]:
        """Read a finished copy, which nobody writes; or write one of ours ('rw')."""
        self.raise_if_stopping(doing, path.name)
        with translated(doing, path.name):
            connection = connect(path, mode)
        try:
            with self.watched(connection, doing, path.name):
                yield connection
        finally:
            connection.close()

    @contextmanager
    def watched(self, connection: sqlite3.Connection, doing: str, object: str) -> Iterator[None]:
        """Lets `interrupt` and the statement limit reach this connection, and translates its errors.

        Raises Transient.
        """
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
            with translated(doing, object):
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
        """Call between pieces of long work. Raises Interrupted once the engine was asked to stop."""
        raise_if_stopping(self.stopping, doing, object)

    @contextmanager
    def alone(self, doing: str, object: str) -> Iterator[None]:
        """Keep other threads of this object waiting through several pieces of work."""
        self._take_turn(doing, object)
        try:
            yield
        finally:
            self._turn.release()

    def interrupt(self) -> None:
        """Ask again until nothing is at work: a statement that just begins forgets an earlier request."""
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
        """Return what is being done now, in words."""
        with self._book:
            return list(self._working.values())

    def give_back(self) -> None:
        """Close the held connection, after whoever has the turn."""
        with self._turn:
            if self.held is not None:
                self.held.close()
                self.held = None
            if self.raw is not None:
                self.raw.close()
                self.raw = None
            self.evidence_kept = False
            self._forget_look()

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
        return self.header_of(self.path)

    def header_of(self, path: Path) -> Header:
        """As `header`, of a copy."""
        return header_in(first_bytes(path, 100), path.stat().st_size)

    def notice_truncation(self) -> bool:
        """True, and tolerant from now on, when the file ends before its header says.

        The header alone could be that of a file that somebody is just making longer, so SQLite is asked too.
        """
        header = self.header()
        free = shutil.disk_usage(self.path.parent).free
        self.tolerant = (
            header.magic and header.truncated and not header.claims_too_much(free) and self._is_refused_as_corrupt()
        )
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
                total += self.beside(ending).stat().st_size
            except FileNotFoundError:
                pass
        return total


def _end(connection: sqlite3.Connection, overdue: threading.Event | None) -> None:
    if overdue is not None:
        overdue.set()
    try:
        connection.interrupt()
    except sqlite3.Error:
        pass  # closed meanwhile
