"""S: the image restored beside the live file, and a side file put in its place."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from .. import programs
from ..errors import Damaged, ResourceShortage, Unable
from ..messages import msg
from ..values import Image
from .backup import written_back
from .connection import connect
from .driver_errors import translated
from .exclusive_lock import hold
from .file_copies import copied, sync_name, synced
from .names import JOURNALS
from .target import DatabaseFile


def restore_beside(file: DatabaseFile, image: Image) -> str:
    """Copy the image, so that the image stays whatever happens. Raises Damaged when it has changed."""
    source, target = Path(image.name), file.sides.restored
    if image.kind != "copy" or not source.is_file():
        words = "the image is not there; restore the backup file by hand, it lacks what was committed after it"
        raise Unable("restoring", image.name, words)
    with translated("restoring", file.name):
        with open(source, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if image.sha256 is not None and digest != image.sha256:
            raise Damaged("restoring", image.name, "the image is not what was written")
        part = target.with_name(f"{target.name}.part")
        _remove_with_journals(target)
        _room_for(source, file)
        try:
            for ending in (*JOURNALS, ""):
                journal = source.with_name(source.name + ending)
                if journal.exists():
                    file.copy_bytes(journal, part)
                    os.replace(part, target.with_name(target.name + ending))
        finally:
            part.unlink(missing_ok=True)
        synced(target)
    return str(target)


def _room_for(source: Path, file: DatabaseFile) -> None:
    needed, free = source.stat().st_size, shutil.disk_usage(file.path.parent).free
    if free < needed:
        raise ResourceShortage(
            "restoring", file.name, msg("{needed} bytes are needed and {free} are free", needed=needed, free=free)
        )


def put_in_place(file: DatabaseFile, side: Path, move_journals: bool = True) -> None:
    """Into the live file by SQLite's own backup where it can be opened: the same inode, all or nothing.

    Otherwise under the live name, in one rename; journals of the old file go first (unless the copy is the
    same file mended), because SQLite would play them into the new one.
    """
    if _overwritten(file, side):
        _remove_with_journals(side)
    else:
        _rename(file, side, move_journals)


def put_back(file: DatabaseFile, side: Path) -> None:
    """As `put_in_place`, and byte for byte: SQLite's backup leaves counters of its own in the header."""
    log = side.with_name(f"{side.name}-wal")
    if not (log.exists() and log.stat().st_size) and _overwritten(file, side) and written_back(file):
        _copy_header(file, side)
        if file.equals(side):
            _remove_with_journals(side)
            return
    _rename(file, side, move_journals=True)


def _overwritten(file: DatabaseFile, side: Path) -> bool:
    """False, and nothing is changed, where SQLite refuses one of them or their encodings differ: a connection keeps
    the encoding that it has found once, and reads nothing of a file in another."""
    try:
        with file.working("putting back", file.name) as live, closing(connect(side, "immutable")) as source:
            if _encoding(live) != _encoding(source):
                return False
            copied(source, live, file.stopping, file.name)
            # Read anew: what this connection knows of the schema is of the file before.
            live.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except Damaged:
        return False
    return True


def _encoding(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA encoding").fetchone()[0])


def _copy_header(file: DatabaseFile, side: Path) -> None:
    """By a child: see the top of sessions.py. One sector, so that it is written as a whole or not at all."""
    target = [f"of={file.path}", "bs=100", "count=1", "conv=notrunc,fsync", "status=none"]
    try:
        programs.run(["dd", f"if={side}", *target], timeout=file.limits.statement_seconds)
    except programs.CommandFailed as error:
        raise ResourceShortage("putting back", file.name, str(error)) from error


def _move_journals(file: DatabaseFile, side: Path) -> None:
    """Those of the broken file go aside, those copied with the image take their place."""
    for ending in JOURNALS:
        journal, aside, wanted = (path.with_name(path.name + ending) for path in (file.path, file.sides.broken, side))
        if journal.exists() and not aside.exists():
            os.replace(journal, aside)
        if wanted.exists():
            os.replace(wanted, journal)


def _rename(file: DatabaseFile, side: Path, move_journals: bool) -> None:
    status = file.path.stat()
    with translated("putting back", file.name):
        os.chown(side, status.st_uid, status.st_gid)
        os.chmod(side, status.st_mode & 0o7777)
        if move_journals:
            _move_journals(file, side)
        was_held = file.holding
        os.replace(side, file.path)
        sync_name(file.path)
    # The lock stays on the old file, so it is taken anew on this one.
    file.give_back()
    file.tolerant = False
    if was_held:
        hold(file)


def _remove_with_journals(path: Path) -> None:
    for ending in ("", *JOURNALS):
        path.with_name(path.name + ending).unlink(missing_ok=True)
