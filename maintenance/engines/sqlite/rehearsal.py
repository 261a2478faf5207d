"""A copy of the file on which a maintenance is rehearsed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from sqlalchemy import URL

from ..archive import Seal
from ..errors import ResourceShortage
from ..messages import Message, msg
from ..parts import Rehearsal
from ..values import Stage
from .backup import ROOM, copy_page_by_page
from .driver_errors import translated
from .file_copies import synced
from .names import JOURNALS
from .target import DatabaseFile


class FileRehearsal(Rehearsal):
    """The copy lies beside the file, on the same disk: what is measured on it holds for the file."""

    def __init__(self, file: DatabaseFile, url: URL) -> None:
        self.file, self.url = file, url

    def refusal(self) -> Message | None:
        """See Rehearsal.refusal."""
        return None

    def build(self, folder: Path, stem: str, seal: Seal) -> Stage:
        """See Rehearsal.build. Free pages and damaged ones are copied as they are."""
        begun, copy = time.monotonic(), self.file.sides.rehearsal
        self.remove()
        self._refuse_without_room()
        part = copy.with_name(f"{copy.name}.part")
        with translated("copying for a rehearsal", self.file.name):
            copy_page_by_page(self.file, part)
            for ending in (*JOURNALS, ""):
                source = part.with_name(part.name + ending)
                if source.exists():
                    os.replace(source, copy.with_name(copy.name + ending))
            synced(copy)
        return Stage(str(copy), copy.stat().st_size, time.monotonic() - begun, by_file=True)

    def address(self) -> URL:
        """See Rehearsal.address."""
        return self.url.set(database=str(self.file.sides.rehearsal))

    def remove(self) -> list[str]:
        """See Rehearsal.remove."""
        copy, removed = self.file.sides.rehearsal, list[str]()
        for path in sorted(copy.parent.iterdir()):
            if path.name == copy.name or path.name.startswith((f"{copy.name}.", f"{copy.name}-")):
                with translated("removing", path.name):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
                removed.append(str(path))
        return removed

    def _refuse_without_room(self) -> None:
        needed, free = int(self.file.size() * ROOM), shutil.disk_usage(self.file.path.parent).free
        if free < needed:
            words = msg("{needed} bytes are needed and {free} are free", needed=needed, free=free)
            raise ResourceShortage("copying for a rehearsal", self.file.name, words)
