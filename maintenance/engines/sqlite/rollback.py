"""S: back to the image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..archive import Seal
from ..errors import Damaged, Unable
from ..parts import Rollback
from ..values import Backup, Diagnosis, Image, Json, RestoreBudget, WayBack
from .access_gate import FileGate
from .backup import copy_database, written_back
from .driver_errors import translated
from .file_copies import synced
from .marker import marked, noted_elsewhere, remove_marker
from .restore import put_back, restore_beside
from .target import DatabaseFile


class FileRollback(Rollback):
    """Back to the image."""

    def __init__(self, file: DatabaseFile, gate: FileGate) -> None:
        self.file, self.gate = file, gate

    def way_back(self, diagnosis: Diagnosis, budget: RestoreBudget) -> WayBack:
        """See Rollback.way_back. A backup is a copy that was opened and read; the image under the cut is another."""
        return WayBack("copy", diagnosis.size_bytes)

    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        """See Rollback.restore_beside."""
        self.file.raise_if_stopping("restoring", self.file.name)
        return restore_beside(self.file, image)

    def differs(self, image: Image) -> bool:
        """See Rollback.differs. Damage that rows do not show counts, too: of every byte of the file."""
        file, copy = self.file, Path(image.name)
        if image.kind != "copy" or not copy.is_file() or not file.holding:
            return False
        return not (written_back(file) or file.raw is not None) or not file.equals(copy)

    def swap(self, side: str, gate: Json, marker: Json) -> str:
        """See Rollback.swap."""
        self.file.raise_if_stopping("putting back", self.file.name)
        self.gate.cut(gate, marker)
        return _swapped(self.file, Path(side))

    def leftovers(self) -> list[str]:
        """Return side files, an image kept elsewhere, and the marker when it is of this run target."""
        paths = [*self.file.sides.found(), *noted_elsewhere(self.file)]
        found = [str(path) for path in paths if path != self.file.sides.elsewhere]
        return [*found, *([str(self.file.sides.marker)] if _marker_is_ours(self.file) else [])]

    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        """See Rollback.clean. The marker stays as long as we hold the file: it says what to restore."""
        return _cleaned(self.file, keep)


def _swapped(file: DatabaseFile, side: Path) -> str:
    """Keeps the broken file, then puts the copy in its place; the copy goes last, so a crash repeats it."""
    broken = file.sides.broken
    if not side.exists():
        if broken.exists():
            return str(broken)
        raise Unable("putting back", side.name, "there is no such copy")
    if not broken.exists():
        _keep_broken(file, broken)
    put_back(file, side)
    return str(broken)


def _keep_broken(file: DatabaseFile, broken: Path) -> None:
    part = broken.with_name(f"{broken.name}.part")
    part.unlink(missing_ok=True)
    try:
        with file.working("keeping the broken", file.name) as connection:
            copy_database(file, connection, part)
        os.replace(part, broken)
        synced(broken)
    except Damaged:
        # Its header is gone: the file itself is kept under a second name, see put_back.
        part.unlink(missing_ok=True)
        with translated("keeping the broken", file.name):
            os.link(file.path, broken)
    finally:
        part.unlink(missing_ok=True)


def _cleaned(file: DatabaseFile, keep: Sequence[str]) -> list[str]:
    removed: list[str] = []
    for path in [*noted_elsewhere(file), *file.sides.found()]:
        kept = any(str(path).startswith(name) for name in keep)
        if kept or (path == file.sides.elsewhere and any(str(other) in keep for other in noted_elsewhere(file))):
            continue
        with translated("removing", path.name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        if path != file.sides.elsewhere:
            removed.append(str(path))
    if _marker_is_ours(file) and not file.holding and str(file.sides.marker) not in keep:
        remove_marker(file)
        removed.append(str(file.sides.marker))
    return removed


def _marker_is_ours(file: DatabaseFile) -> bool:
    left = marked(file)
    return left is not None and file.tag.wrote(left)
