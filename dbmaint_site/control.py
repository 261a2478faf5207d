"""The control database and the key of this installation, from the environment."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from sqlalchemy.engine import make_url


def database_from_url(url: str) -> dict[str, Any]:
    """Django's database settings for `sqlite:///…` or `postgresql://…`.

    SQLite is used in WAL mode with immediate transactions, so that a claim is decided when its
    transaction begins, and with synchronous=FULL, so that a journal line is on disk when it returns.
    """
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            if parsed.database and parsed.database != ":memory:":
                private_file(Path(parsed.database))
            return {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": parsed.database,
                "OPTIONS": {
                    "transaction_mode": "IMMEDIATE",
                    "timeout": 30,
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
                },
            }
        case "postgresql":
            return {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parsed.database,
                "USER": parsed.username or "",
                "PASSWORD": parsed.password or "",
                "HOST": parsed.query.get("host") or parsed.host or "",
                "PORT": str(parsed.port or ""),
                "CONN_HEALTH_CHECKS": True,
            }
        case other:
            raise ImproperlyConfigured(
                f"DBMAINT_DATABASE_URL names {other}; the control database is sqlite or postgresql"
            )


def local_key(path: Path) -> str:
    """Return the installation's secret key, made on first use. Nobody else reads it but the group of a shared home."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640 if shared(path.parent) else 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        key = get_random_secret_key()
        file.write(key)
    return key


def shared(folder: Path) -> bool:
    """Return whether web and worker, two accounts of one group, share this folder: it hands its group down."""
    return bool(folder.stat().st_mode & stat.S_ISGID)


def private_folder(path: Path) -> None:
    """Make a folder for this account alone. One that is there is closed to all but its owner and readers of its group,
    unless two accounts share it."""
    try:
        path.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        if not shared(path):
            _take_away(path, 0o027)


def private_file(path: Path) -> None:
    """Make SQLite's file before SQLite does, which would let everybody read it. Its log inherits the permissions.

    One that is there, from a time when it was not so or copied back, is closed with its log.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileNotFoundError:
        return
    except FileExistsError:
        for beside in ("", "-wal", "-shm", "-journal"):
            _take_away(path.with_name(path.name + beside), 0o007 if shared(path.parent) else 0o077)
        return
    os.fchmod(descriptor, 0o660 if shared(path.parent) else 0o600)
    os.close(descriptor)


def _take_away(path: Path, rights: int) -> None:
    """These permissions, where they are there and the path is ours: another account that shares the folder closes its
    own."""
    with suppress(FileNotFoundError, PermissionError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & rights:
            path.chmod(mode & ~rights)
