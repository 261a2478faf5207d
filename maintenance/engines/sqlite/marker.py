"""The marker beside the file: whose cut it is, and what was there before."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from ..values import Json
from .connection import fresh
from .driver_errors import translated
from .target import DatabaseFile

LONGEST = 1 << 20
"""Bytes of a marker."""


def marked(file: DatabaseFile) -> Json | None:
    """Return what the marker says; None when there is none, or one that this installation did not write here.

    It names rights and an owner that are given back to the file, so it is not believed without its signature. What
    another installation wrote cannot be proven, and is only a reason to leave the file alone.
    """
    try:
        read = json.loads(read_small(file.sides.marker))
    except (OSError, ValueError):
        return None
    if not isinstance(read, dict):
        return None
    return read if file.tag.is_anothers(read) or file.tag.signer.is_signed(read, str(file.path)) else None


def read_small(path: Path) -> bytes:
    """Return the content of a file of ours. Raises OSError for a link, or anything else than a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no file")
        return os.read(descriptor, LONGEST)
    finally:
        os.close(descriptor)


def mark(file: DatabaseFile, gate: Json, marker: Json) -> None:
    """Written whole or not at all, and on the disk before the lock is taken."""
    claim = {"gate": gate, "marker": marker, **file.tag.mark, "token": file.tag.token}
    text = json.dumps(file.tag.signer.signed(claim, str(file.path)))
    part = file.sides.marker.with_name(file.sides.marker.name + ".part")
    with translated("marking", file.name):
        fresh(part)
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


def note_elsewhere(file: DatabaseFile, image: Path) -> None:
    """Note beside the file where its image lies, for whoever cleans up after a crash."""
    with translated("noting the image of", file.name):
        fresh(file.sides.elsewhere)
        file.sides.elsewhere.write_text(json.dumps(file.tag.signer.signed({"image": str(image)}, str(file.path))))


def noted_elsewhere(file: DatabaseFile) -> list[Path]:
    """Return the image noted, while it exists. What is named is removed one day, so only a signed note counts."""
    try:
        note = json.loads(read_small(file.sides.elsewhere))
    except (OSError, ValueError):
        return []
    if not isinstance(note, dict) or not file.tag.signer.is_signed(note, str(file.path)):
        return []
    image = Path(str(note.get("image")))
    return [image] if image.exists() else []


def remove_marker(file: DatabaseFile) -> None:
    """Remove the marker beside the file, where there is one."""
    with translated("removing the marker of", file.name):
        file.sides.marker.unlink(missing_ok=True)
        sync_folder(file)
