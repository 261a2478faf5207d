"""Keeping everybody else out: an exclusive lock that dies with this process.

`locking_mode = EXCLUSIVE` with one empty exclusive transaction keeps readers and writers out in every
journal mode (https://sqlite.org/pragma.html#pragma_locking_mode). In WAL mode it is refused while another
connection is merely open, so that having it proves that nobody is there.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
import time
from contextlib import suppress

from ..errors import Transient, Unable
from ..messages import msg
from .connection import connect
from .driver_errors import BUSY, CORRUPT, LOCKED, NOTADB, READONLY, UNSUPPORTED, from_driver, primary
from .file_copies import synced
from .names import JOURNALS
from .processes import holders, named
from .target import DatabaseFile

PENDING_BYTE, LOCK_BYTES = 0x40000000, 512
"""Where SQLite takes its locks (https://sqlite.org/fileformat2.html#the_lock_byte_page)."""
QUIET_POLLS = 3
FOREIGN_LOG = msg(
    "the write-ahead log beside the file was written for another database and would destroy it; move the log away, and"
    " nothing else"
)


class RawHold:
    """SQLite's own lock bytes, for a file that SQLite refuses: no header, or shorter than the header says.

    (Made to lock a short file, SQLite writes the shorter length into the header, and gives the page numbers
    beyond it out again while tables still refer to them.)

    The lock belongs to the open file description, so no other `close` in this process can drop it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        os.close(self.descriptor)


def hold(file: DatabaseFile) -> None:
    """Take the lock within `limits.cut_seconds`, by SQLite or, where it cannot, on its lock bytes.

    Raises Transient with the name of who is in the way, Interrupted on request, Unable when the log beside the file is
    of another database: SQLite would play it in.
    """
    keep_before(file)
    until = time.monotonic() + file.limits.cut_seconds
    while True:
        file.raise_if_stopping("locking", file.name)
        try:
            file.held = _exclusive(file)
            return
        except sqlite3.Error as error:
            code = primary(error)
            # SQLite opens a file for reading alone when its header tells a version that there is not.
            unwritable = code == READONLY and bool(file.header().corrections)
            if code in (NOTADB, CORRUPT) or str(error) == UNSUPPORTED or unwritable:
                file.raw = _raw(file)
                if file.raw is not None:
                    return
            elif code not in (BUSY, LOCKED):
                raise from_driver(error, "locking", file.name) from error
            if time.monotonic() > until:
                raise Transient("locking", file.name, in_the_way(file)) from error
        time.sleep(0.05)


def keep_before(file: DatabaseFile) -> None:
    """Copy file, log and journal as a program that died left them: to take the lock is to play them in.

    Raises Unable.
    """
    left = [ending for ending in JOURNALS if file.beside(ending).exists() and file.beside(ending).stat().st_size]
    if not {"-wal", "-journal"} & {*left} or holders(file.path):
        return
    if file.log_is_foreign():
        raise Unable("locking", file.name, FOREIGN_LOG)
    if file.sides.before.exists():
        return
    marks = file.marks()
    with suppress(FileNotFoundError):
        for ending in (*left, ""):
            file.copy_bytes(file.beside(ending), file.sides.before.with_name(file.sides.before.name + ending))
        synced(file.sides.before)
    if file.marks() != marks:  # somebody is at work, whom we cannot see: it is theirs
        for ending in (*left, ""):
            file.sides.before.with_name(file.sides.before.name + ending).unlink(missing_ok=True)


def in_the_way(file: DatabaseFile) -> str:
    others = holders(file.path)
    return f"still in use by {named(others)}" if others else "still in use, by whom cannot be told"


def quiet_polls(file: DatabaseFile) -> int:
    """How many of our own tries to get in were refused; raises Transient when one got in."""
    for _ in range(QUIET_POLLS):
        if not refused(file):
            raise Transient("proving the lock of", file.name, "another connection was let in")
        time.sleep(0.02)
    return QUIET_POLLS


def refused(file: DatabaseFile) -> bool:
    """Whether a newcomer can neither read nor write."""
    try:
        newcomer = connect(file.path)
        try:
            newcomer.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            newcomer.close()
    except sqlite3.Error as error:
        return primary(error) in (BUSY, LOCKED)
    return False


def _exclusive(file: DatabaseFile) -> sqlite3.Connection:
    connection = connect(file.path, timeout=0.2)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        # Never COMMIT: where the header tells another number of pages than the file has, BEGIN corrects it.
        connection.execute("ROLLBACK")
    except BaseException:
        connection.close()
        raise
    return connection


def _raw(file: DatabaseFile) -> RawHold | None:
    descriptor = os.open(file.path, os.O_RDWR | os.O_CLOEXEC)
    record = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, PENDING_BYTE, LOCK_BYTES, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, record)
    except OSError:
        os.close(descriptor)
        return None
    return RawHold(descriptor)
