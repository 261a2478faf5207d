"""Where tests write."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

MEMORY = Path("/dev/shm")
ROOM = 6_000_000_000
"""Bytes that the servers of two workers may fill in memory, with as much to spare."""


def place() -> Path | None:
    """In memory where there is room: making, syncing and deleting hundreds of files takes seconds on a disk."""
    fits = MEMORY.is_dir() and min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > ROOM
    return MEMORY if fits else None
