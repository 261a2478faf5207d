"""The black box: journal lines on disk beside the backups, for when the control database is gone.

One file a run target, one JSON object a line, each flushed to disk before the journal goes on. A link
in DBMAINT_HOME/black-box leads from the database's name to its latest file.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from maintenance.conf import places
from maintenance.engines.values import Json

log = logging.getLogger("maintenance")


class BlackBoxUnwritable(Exception):
    """None of the folders takes the file."""


@dataclass(frozen=True)
class BlackBox:
    path: Path

    def write(self, line: Json) -> None:
        """Append a line and sync it. Raises OSError."""
        text = json.dumps({"at": timezone.now().isoformat(), **line}, ensure_ascii=False)
        # The line break comes first too: a line that a crash tore must not swallow this one.
        data = f"\n{text}\n".encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def moved_home(self) -> BlackBox | None:
        """Return a copy of this box in DBMAINT_HOME, for when its folder takes no more; None when that fails too."""
        home = Path(settings.HOME) / "black-box" / self.path.name
        if home == self.path:
            return None
        try:
            home.parent.mkdir(parents=True, exist_ok=True, mode=places.PRIVATE)
            home.write_bytes(self.path.read_bytes() if self.path.exists() else b"")
            box = BlackBox(home)
            box.write({"kind": "moved", "from": str(self.path)})
            _point(str(box.lines()[0]["database"]), box.path)
        except OSError:
            return None
        return box

    def lines(self) -> list[Json]:
        """Return all whole lines; one that a crash tore is left out."""
        entries: list[Json] = []
        for text in self.path.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(text)
            except ValueError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
        return entries


def link(database: str) -> Path:
    """Return where the link to the latest box of this database lies."""
    return Path(settings.HOME) / "black-box" / f"{database}.jsonl"


def open_box(database: str, target: int, folders: Sequence[str], header: Json, roots: tuple[Path, ...]) -> BlackBox:
    """Return the box of this run target in the first folder that takes it and may have it, else in DBMAINT_HOME.

    A box that exists already is used again. Raises BlackBoxUnwritable.
    """
    name = f"black-box-{database}-{target}.jsonl"
    candidates = [Path(f) for f in folders if f] + [link(database).parent]
    failures: list[str] = []
    for folder in sorted(candidates, key=lambda f: not _is_there(f / name)):
        box = BlackBox(folder / name)
        try:
            if folder != link(database).parent:
                places.refuse_backup_folder(folder, roots)
            folder.mkdir(parents=True, exist_ok=True, mode=places.PRIVATE)
            box.write({"kind": "opened", "database": database, "target": target, **header})
        except (OSError, places.FolderRefused) as error:
            failures.append(str(error))
            continue
        try:
            _point(database, box.path)
        except OSError as error:
            log.error("The link to the black box %s could not be made: %s", box.path, error)
        return box
    raise BlackBoxUnwritable(f"the black box of {database} can be written nowhere: {'; '.join(failures)}")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _point(database: str, path: Path) -> None:
    pointer = link(database)
    pointer.parent.mkdir(parents=True, exist_ok=True, mode=places.PRIVATE)
    fresh = pointer.with_suffix(f".{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(path)
    os.replace(fresh, pointer)
