"""Where settings may lead: folders that config.json names, and never the console's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from django.conf import settings
from sqlalchemy import URL

from maintenance.engines import addresses
from maintenance.engines.addresses import AddressRefused, is_below
from maintenance.engines.messages import Message, msg, size

from . import config

PRIVATE = 0o700
"""Of a folder that holds backups."""


class FolderRefused(Exception):
    """Backups may not lie there; the sentence says where they may."""

    def __init__(self, sentence: Message) -> None:
        self.sentence = sentence
        super().__init__(str(sentence))


def own_folders() -> list[Path]:
    """The console's own: pages are served from some, others hold what it believes."""
    home = Path(settings.HOME)
    return [
        Path(settings.STATIC_ROOT),
        Path(settings.REPORTS_DIR),
        Path(settings.PERFORMANCE_DIR),
        Path(settings.LOGS_DIR),
        Path(settings.AUDIT_FILE).parent,
        home / "certificates",
        home / "black-box",
        *(Path(settings.BASE_DIR) / name for name in CODE),
    ]


CODE = (
    "bench",
    "chaos",
    "dbmaint_site",
    "demo",
    "deploy",
    "docs",
    "locale",
    "maintenance",
    "reports",
    "static",
    "templates",
    "tests",
)


def refuse_backup_folder(folder: Path, roots: tuple[Path, ...]) -> None:
    """Raises FolderRefused unless the folder, its symbolic links followed, lies below a root and is none of ours."""
    place = folder.resolve()
    if not any(is_below(place, root) for root in roots):
        raise FolderRefused(
            msg(
                "{folder} does not lie below a folder that config.json names for backups; those are: {roots}.",
                folder=str(folder),
                roots=", ".join(map(str, roots)) or msg("none"),
            )
        )
    holds = [Path(settings.HOME), Path(settings.BASE_DIR), *own_folders()]
    if any(own.resolve().is_relative_to(place) for own in holds) or any(is_below(place, x) for x in own_folders()):
        raise FolderRefused(
            msg("{folder} is a folder of the console itself; choose one that holds only backups.", folder=str(folder))
        )


def make_backup_folder(folder: Path, roots: tuple[Path, ...]) -> None:
    """Create the folder, for its owner alone; one that is there already stays as it is.

    Raises FolderRefused, or OSError as the system gives it.
    """
    refuse_backup_folder(folder, roots)
    folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE)


def look_at_folder(folder: Path) -> Message:
    """Return what this process sees of a folder for backups. It makes nothing and opens no file."""
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        free = size(shutil.disk_usage(nearest).free)
        if nearest != folder:
            return msg("{folder} is not there yet and will be made; {free} are free.", folder=str(folder), free=free)
        if not folder.is_dir():
            return msg("{folder} is no folder.", folder=str(folder))
        if not os.access(folder, os.W_OK | os.X_OK):
            return msg(
                "{folder} is there, {free} are free; the web's account may not write there, the worker's must.",
                folder=str(folder),
                free=free,
            )
        return msg("{folder} is there and can be written; {free} are free.", folder=str(folder), free=free)
    except OSError as error:
        return msg("{folder} cannot be looked at: {error}", folder=str(folder), error=str(error.strerror))


def refuse_address(url: URL) -> None:
    """Raises AddressRefused, also for a path outside the folders of config.json and for the console's own files."""
    if any(str(value).startswith("/") for value in url.query.values()):
        known = config.load()
        addresses.refuse(url, {"sockets": known.socket_folders, "certificates": known.certificate_folders})
    else:
        addresses.refuse(url)
    if url.get_backend_name() == "sqlite" and _is_our_file(Path(url.database or "")):
        raise AddressRefused(msg("{file} is a file of the console itself.", file=url.database))


def _is_our_file(file: Path) -> bool:
    secret = {Path(settings.AUDIT_KEY), Path(settings.MARK_KEY), Path(settings.AUDIT_FILE), Path(settings.CONFIG_FILE)}
    secret |= {Path(settings.HOME) / "secret.key"}
    return file.resolve() in {x.resolve() for x in secret} or any(is_below(file, own) for own in own_folders())
