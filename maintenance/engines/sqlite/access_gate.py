"""F and J: the marker beside the file, the cut, and back to exactly the state before."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from ..errors import Damaged, EngineError, Transient, Unable
from ..messages import msg
from ..parts import AccessGate
from ..values import Cut, Json
from .driver_errors import translated
from .exclusive_lock import hold, in_the_way, quiet_polls
from .maintenance_lock import FileLock
from .marker import mark, marked, remove_marker
from .target import DatabaseFile


class FileGate(AccessGate):
    """The marker beside the file, and the lock of this process on the file."""

    dies_with_worker: ClassVar[bool] = True

    def __init__(self, file: DatabaseFile, lock: FileLock) -> None:
        self.file, self.lock = file, lock

    def read_state(self) -> Json:
        """Journal mode, rights and owner; from the marker where one is left of an earlier crash."""
        left = marked(self.file)
        if left is not None and isinstance(left.get("gate"), dict):
            gate = left["gate"]
            assert isinstance(gate, dict)
            return gate
        status = self.file.require()
        return {
            "journal_mode": journal_mode(self.file),
            "mode": status.st_mode & 0o7777,
            "owner": status.st_uid,
            "group": status.st_gid,
            "journal": _journal(self.file).exists(),
        }

    def cut(self, gate: Json, marker: Json) -> Cut:
        """SQLite has no sessions to end: applications find the file locked, and we wait until they left."""
        begun = time.monotonic()
        self.lock.acquire()
        mark(self.file, gate, marker)
        if not self.file.holding:
            self.file.evidence_kept = False
            hold(self.file)
        return Cut(sessions_ended=0, quiet_polls=quiet_polls(self.file), seconds=time.monotonic() - begun)

    def open(self, gate: Json, share: float | None) -> None:
        """SQLite knows no share: from the first stage on everybody may come in; None removes the marker.

        Restores while nobody can be in the way, then lets go.
        """
        if share is not None and share <= 0:
            return
        restore(self.file, gate)
        self.file.give_back()
        _drop_cold_journal(self.file, gate)
        if share is None:
            remove_marker(self.file)

    def differences(self, gate: Json) -> list[str]:
        """See AccessGate.differences."""
        return differences(self.file, gate)

    def is_cut(self) -> bool:
        """See AccessGate.is_cut."""
        return self.file.holding

    def manual_commands(self, gate: Json) -> list[str]:
        """See AccessGate.manual_commands. Nothing to unlock: the lock ended with its process."""
        path = shlex.quote(str(self.file.path))
        commands = [f"chmod {_number(gate['mode']):o} {path}", f"chown {gate['owner']}:{gate['group']} {path}"]
        if gate.get("journal_mode") is not None:
            commands.append(f"sqlite3 {path} 'PRAGMA journal_mode = {gate['journal_mode']}'")
        return [*commands, f"rm -f {shlex.quote(str(self.file.sides.marker))}"]


def _journal(file: DatabaseFile) -> Path:
    return file.path.with_name(f"{file.name}-journal")


def journal_mode(file: DatabaseFile) -> str | None:
    """Return 'wal' or 'delete' as the header says; None when it is too damaged to say.

    The other modes are a matter of each connection.
    """
    if file.held is not None:
        with suppress(Damaged), file.working("reading the journal mode of", file.name) as connection:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    header = file.header()
    if not (header.magic and header.plausible):
        return None
    return "wal" if header.write_ahead else "delete"


def restore(file: DatabaseFile, gate: Mapping[str, object]) -> None:
    """The recorded journal mode, rights and owner; while still held where we hold."""
    wanted = gate.get("journal_mode")
    if wanted is not None and file.raw is None and journal_mode(file) not in (wanted, None):
        # A file that SQLite refuses keeps the mode it has: `differences` tells, and nobody is kept out for it.
        with suppress(Damaged, Unable), file.writing("restoring the journal mode of", file.name) as connection:
            _change_journal_mode(file, connection.execute(_JOURNAL_MODES[str(wanted)]).fetchone()[0], str(wanted))
    with translated("restoring the rights of", file.name), _place_of(file) as place:
        status = os.stat(place)
        if status.st_mode & 0o7777 != gate["mode"]:
            os.chmod(place, _number(gate["mode"]))
        if (status.st_uid, status.st_gid) != (gate["owner"], gate["group"]):
            os.chown(place, _number(gate["owner"]), _number(gate["group"]))


@contextmanager
def _place_of(file: DatabaseFile) -> Iterator[str]:
    """The very file, whatever somebody puts under its name meanwhile: rights are given to nothing else.

    A descriptor that only names a file takes no locks away when it is closed (open(2), O_PATH).
    """
    descriptor = os.open(file.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _drop_cold_journal(file: DatabaseFile, gate: Mapping[str, object]) -> None:
    """A worker killed under its exclusive lock leaves an empty journal that SQLite itself never removes.

    Going from PERSIST to DELETE makes SQLite remove it, under its own lock
    (https://sqlite.org/pragma.html#pragma_journal_mode).
    """
    if gate.get("journal_mode") != "delete" or gate.get("journal", True) or not _journal(file).exists():
        return
    try:
        with file.writing("removing the journal of", file.name) as connection:
            connection.execute("PRAGMA journal_mode = PERSIST")
            connection.execute("PRAGMA journal_mode = DELETE")
    except (Transient, Damaged, Unable):
        pass  # applications are at work already and the journal is theirs, or SQLite refuses the file


_JOURNAL_MODES = {
    mode: f"PRAGMA journal_mode = {mode}" for mode in ("delete", "truncate", "persist", "memory", "wal", "off")
}


def _change_journal_mode(file: DatabaseFile, found: str, wanted: str) -> None:
    if found != wanted:
        raise Transient(
            "restoring the journal mode of",
            file.name,
            msg("it stays {found} instead of {wanted}", found=found, wanted=wanted),
        )


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def differences(file: DatabaseFile, gate: Mapping[str, object]) -> list[str]:
    """In words; empty when everything is as `gate` says and nobody is kept out."""
    found: list[str] = []
    if file.holding:
        found.append(msg("the file is locked by this maintenance"))
    if file.sides.marker.exists():
        found.append(msg("the marker {name} is still there", name=file.sides.marker.name))
    status = file.path.stat()
    if status.st_mode & 0o7777 != gate["mode"]:
        now, then = f"{status.st_mode & 0o7777:o}", f"{_number(gate['mode']):o}"
        found.append(msg("the rights are {now} instead of {then}", now=now, then=then))
    if (status.st_uid, status.st_gid) != (gate["owner"], gate["group"]):
        now, then = f"{status.st_uid}:{status.st_gid}", f"{gate['owner']}:{gate['group']}"
        found.append(msg("the owner is {now} instead of {then}", now=now, then=then))
    try:
        mode = journal_mode(file)
    except EngineError as error:
        return [*found, msg("the file cannot be read: {words}", words=error.words or in_the_way(file))]
    # Per-connection modes (memory, off, truncate, persist) cannot be told from 'delete' by a newcomer.
    # A header that names none keeps nobody out, and no work of ours would change it.
    if gate.get("journal_mode") is not None and mode not in (gate["journal_mode"], None):
        found.append(msg("the journal mode is {now} instead of {then}", now=mode, then=gate["journal_mode"]))
    return found
