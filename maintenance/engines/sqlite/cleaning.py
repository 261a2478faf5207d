"""What is left of a run target beside the file, and its removal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .access_gate import marked, remove_marker
from .driver_errors import saying
from .file import DatabaseFile


def leftovers(file: DatabaseFile) -> list[str]:
    """Side files, an image kept elsewhere, and the marker when it is of this run target."""
    paths = [*file.sides.found(), *_elsewhere(file)]
    found = [str(path) for path in paths if path != file.sides.elsewhere]
    return [*found, *([str(file.sides.marker)] if _marker_is_ours(file) else [])]


def clean(file: DatabaseFile, keep: Sequence[str] = ()) -> list[str]:
    """The marker stays as long as we hold the file: it says what to restore."""
    removed: list[str] = []
    for path in [*_elsewhere(file), *file.sides.found()]:
        kept = any(str(path).startswith(name) for name in keep)
        if kept or (path == file.sides.elsewhere and any(str(other) in keep for other in _elsewhere(file))):
            continue
        with saying("removing", path.name):
            path.unlink(missing_ok=True)
        if path != file.sides.elsewhere:
            removed.append(str(path))
    if _marker_is_ours(file) and not file.holding and str(file.sides.marker) not in keep:
        remove_marker(file)
        removed.append(str(file.sides.marker))
    return removed


def _elsewhere(file: DatabaseFile) -> list[Path]:
    try:
        lines = file.sides.elsewhere.read_text().splitlines()
    except FileNotFoundError:
        return []
    return [path for line in lines if (path := Path(line)).exists()]


def _marker_is_ours(file: DatabaseFile) -> bool:
    left = marked(file)
    return left is not None and file.tag.wrote(left)
