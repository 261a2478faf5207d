"""F and J: the marker beside the file, the cut, and back to exactly the state before."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

from ..errors import Damaged, EngineError, Transient
from ..messages import say
from ..values import Cut, Json
from .driver_errors import saying
from .exclusive_lock import hold, in_the_way, quiet_polls
from .file import DatabaseFile


def marked(file: DatabaseFile) -> Json | None:
    """What the marker says, or None when there is none that can be read."""
    try:
        read = json.loads(file.sides.marker.read_text())
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None


def read_state(file: DatabaseFile) -> Json:
    """Journal mode, rights and owner; from the marker where one is left of an earlier crash."""
    left = marked(file)
    if left is not None and isinstance(left.get("gate"), dict):
        gate = left["gate"]
        assert isinstance(gate, dict)
        return gate
    status = file.require()
    return {
        "journal_mode": journal_mode(file),
        "mode": status.st_mode & 0o7777,
        "owner": status.st_uid,
        "group": status.st_gid,
        "journal": _journal(file).exists(),
    }


def _journal(file: DatabaseFile) -> Path:
    return file.path.with_name(f"{file.name}-journal")


def journal_mode(file: DatabaseFile) -> str | None:
    """None when the header is too damaged to say."""
    try:
        with file.working("reading the journal mode of", file.name) as connection:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    except Damaged:
        return None


def mark(file: DatabaseFile, gate: Json, marker: Json) -> None:
    """Written whole or not at all, and on the disk before the lock is taken."""
    text = json.dumps({"gate": gate, "marker": marker, **file.tag.mark, "token": file.tag.token})
    part = file.sides.marker.with_name(file.sides.marker.name + ".part")
    with saying("marking", file.name):
        with open(part, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, file.sides.marker)
        sync_folder(file)


def sync_folder(file: DatabaseFile) -> None:
    folder = os.open(file.path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def cut(file: DatabaseFile, gate: Json, marker: Json) -> Cut:
    """SQLite has no sessions to end: applications find the file locked, and we wait until they left."""
    begun = time.monotonic()
    mark(file, gate, marker)
    if not file.holding:
        file.evidence_kept = False
        hold(file)
    return Cut(sessions_ended=0, quiet_polls=quiet_polls(file), seconds=time.monotonic() - begun)


def open_gate(file: DatabaseFile, gate: Json, share: float | None) -> None:
    """Restores while nobody can be in the way, lets go, and at the last stage removes the marker."""
    if share is not None and share <= 0:
        return
    restore(file, gate)
    file.give_back()
    _drop_cold_journal(file, gate)
    if share is None:
        remove_marker(file)


def manual_commands(file: DatabaseFile, gate: Mapping[str, object]) -> list[str]:
    """See AccessGate.manual_commands. Nothing to unlock: the lock ended with its process."""
    path = shlex.quote(str(file.path))
    commands = [f"chmod {_number(gate['mode']):o} {path}", f"chown {gate['owner']}:{gate['group']} {path}"]
    if gate.get("journal_mode") is not None:
        commands.append(f"sqlite3 {path} 'PRAGMA journal_mode = {gate['journal_mode']}'")
    return [*commands, f"rm -f {shlex.quote(str(file.sides.marker))}"]


def restore(file: DatabaseFile, gate: Mapping[str, object]) -> None:
    """The recorded journal mode, rights and owner; while still held where we hold."""
    wanted = gate.get("journal_mode")
    if wanted is not None and file.raw is None:
        with file.working("restoring the journal mode of", file.name) as connection:
            found = connection.execute("PRAGMA journal_mode").fetchone()[0]
            if found != wanted:
                _change_journal_mode(file, connection.execute(_JOURNAL_MODES[str(wanted)]).fetchone()[0], str(wanted))
    status = file.path.stat()
    with saying("restoring the rights of", file.name):
        if status.st_mode & 0o7777 != gate["mode"]:
            os.chmod(file.path, _number(gate["mode"]))
        if (status.st_uid, status.st_gid) != (gate["owner"], gate["group"]):
            os.chown(file.path, _number(gate["owner"]), _number(gate["group"]))


def _drop_cold_journal(file: DatabaseFile, gate: Mapping[str, object]) -> None:
    """A worker killed under its exclusive lock leaves an empty journal that SQLite itself never removes.

    Going from PERSIST to DELETE makes SQLite remove it, under its own lock
    (https://sqlite.org/pragma.html#pragma_journal_mode).
    """
    if gate.get("journal_mode") != "delete" or gate.get("journal", True) or not _journal(file).exists():
        return
    try:
        with file.working("removing the journal of", file.name) as connection:
            connection.execute("PRAGMA journal_mode = PERSIST")
            connection.execute("PRAGMA journal_mode = DELETE")
    except Transient:
        pass  # applications are at work already, and the journal is theirs


_JOURNAL_MODES = {
    mode: f"PRAGMA journal_mode = {mode}" for mode in ("delete", "truncate", "persist", "memory", "wal", "off")
}


def _change_journal_mode(file: DatabaseFile, found: str, wanted: str) -> None:
    if found != wanted:
        raise Transient(
            "restoring the journal mode of",
            file.name,
            say("it stays {found} instead of {wanted}", found=found, wanted=wanted),
        )


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def remove_marker(file: DatabaseFile) -> None:
    with saying("removing the marker of", file.name):
        file.sides.marker.unlink(missing_ok=True)
        sync_folder(file)


def differences(file: DatabaseFile, gate: Mapping[str, object]) -> list[str]:
    """In words; empty when everything is as `gate` says and nobody is kept out."""
    found: list[str] = []
    if file.holding:
        found.append(say("the file is locked by this maintenance"))
    if file.sides.marker.exists():
        found.append(say("the marker {name} is still there", name=file.sides.marker.name))
    status = file.path.stat()
    if status.st_mode & 0o7777 != gate["mode"]:
        now, then = f"{status.st_mode & 0o7777:o}", f"{_number(gate['mode']):o}"
        found.append(say("the rights are {now} instead of {then}", now=now, then=then))
    if (status.st_uid, status.st_gid) != (gate["owner"], gate["group"]):
        now, then = f"{status.st_uid}:{status.st_gid}", f"{gate['owner']}:{gate['group']}"
        found.append(say("the owner is {now} instead of {then}", now=now, then=then))
    try:
        mode = journal_mode(file)
    except EngineError as error:
        return [*found, say("the file cannot be read: {words}", words=error.words or in_the_way(file))]
    # Per-connection modes (memory, off, truncate, persist) cannot be told from 'delete' by a newcomer.
    if gate.get("journal_mode") is not None and mode != gate["journal_mode"]:
        found.append(say("the journal mode is {now} instead of {then}", now=mode, then=gate["journal_mode"]))
    return found
