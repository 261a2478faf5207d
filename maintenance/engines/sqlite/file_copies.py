"""Copies of a database file: made by the online backup, and safe on the disk."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path

from ..errors import Interrupted, Transient
from .driver_errors import BUSY, LOCKED


def synced(path: Path) -> None:
    """A copy is on the disk, its name too. Never for the live file: see the top of target.py."""
    _sync(path)
    sync_name(path)


def sync_name(path: Path) -> None:
    """Make the name of the file survive a power cut."""
    _sync(path.parent)


def _sync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copied(source: sqlite3.Connection, target: sqlite3.Connection, stopping: threading.Event, name: str) -> None:
    """The online backup, page by page; damaged pages are copied as they are. Stops on request.

    Raises what `from_driver` makes of the error; the target is then as before.
    """

    def beat(status: int, remaining: int, total: int) -> None:
        if stopping.is_set():
            raise Interrupted("copying", name, "stopped on request")
        if status in (BUSY, LOCKED) and time.monotonic() > patience:
            raise Transient("copying", name, "somebody else keeps the file locked")

    patience = time.monotonic() + 30
    source.backup(target, pages=2000, progress=beat, sleep=0.05)
