"""The marker beside the file: whose cut it is, and what was there before."""

from __future__ import annotations

import json
import os

from ..values import Json
from .driver_errors import saying
from .sessions import DatabaseFile


def marked(file: DatabaseFile) -> Json | None:
    """What the marker says, or None when there is none that can be read."""
    try:
        read = json.loads(file.sides.marker.read_text())
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None


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


def remove_marker(file: DatabaseFile) -> None:
    with saying("removing the marker of", file.name):
        file.sides.marker.unlink(missing_ok=True)
        sync_folder(file)
