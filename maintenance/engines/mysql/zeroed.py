"""Pages that hold nothing but zeros although they are in use: to the checksum tools an empty page is a good one.

A write that the disk lost, or a hole that a file system's repair made, leaves such a page; MariaDB reports it when a
row of it is wanted, MySQL ends. Told is only what the file and the server's last checkpoint prove. A page is written
by the time of the checkpoint if its being in use was: if the file's own map of used pages, or a neighbour that names
it, is on disk as of a change before that checkpoint. What is newer is not judged. For the bytes see the server's
source: fsp0fsp.h, fil0types.h.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from .leaves import INDEX, INDEX_PAGES, KIND, NEXT, NO_PAGE, PAGE, number_at
from .session import Session

PREVIOUS, CHANGED = 8, 16
"""Where a page's header holds its predecessor and the LSN of its last change."""
LIMIT, FLAGS = 50, 54
"""Where the file's first page holds the number of pages that were ever given out, and the file's format."""
MAPS, MAP_KINDS = 16_384, frozenset((8, 9))
"""Each so many pages begin with one that holds the map of them; its kinds."""
ENTRIES, ENTRY, STATE, BITS, EXTENT = 150, 40, 20, 24, 64
"""Where a map begins; bytes of an entry, where in it state and bits are, and how many pages an entry tells of."""
RESERVED = 1
"""The page after a map was the change buffer's, which later versions leave empty."""


def checkpoint(session: Session) -> int | None:
    """The LSN up to which all changes are in the files; None where the account may not know it, or where the server
    itself writes zeros over what is no more in use.
    """
    try:
        if session.ask("SHOW GLOBAL VARIABLES WHERE variable_name LIKE 'innodb%scrub%' AND value = 'ON'"):
            return None
        told = re.search(r"Last checkpoint at\s+(\d+)", str(session.ask("SHOW ENGINE INNODB STATUS")[0][2]))
    except DBAPIError:
        return None
    return int(told[1]) if told else None


def zeroed(path: Path, checkpoint: int) -> dict[int, int | None]:
    """Number of each such page → number of the index that a neighbour says it belongs to. Raises OSError.

    Nothing is told of files with other pages than usual, compressed ones among them: those have holes.
    """
    with open(path, "rb") as file:
        if path.stat().st_size < PAGE:
            return {}
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if not _usual(number_at(data, FLAGS, 4)):
                return {}
            empty, named = _empty_and_named(data, checkpoint)
            return {page: named.get(page) for page in empty if page in named or _in_use(data, page, checkpoint)}


def _usual(flags: int) -> bool:
    """Pages of 16 KiB that are not compressed, in the older format, which MySQL has, or in MariaDB's later one."""
    if flags & 0x10:
        return flags & 0xEF == 5
    return (flags >> 1) & 0xF == 0 and (flags >> 6) & 0xF in (0, 5) and flags >> 16 == 0


def _empty_and_named(data: mmap.mmap, checkpoint: int) -> tuple[list[int], dict[int, int]]:
    """Pages of zeros; pages that an index's page names as its neighbours, with the number of that index."""
    empty: list[int] = []
    named: dict[int, int] = {}
    for page in range(len(data) // PAGE):
        start = page * PAGE
        changed = number_at(data, start + CHANGED, 8)
        if changed == 0 and not any(data[start : start + PAGE]):
            empty.append(page)
        elif changed <= checkpoint and number_at(data, start + KIND, 2) in INDEX_PAGES:
            named.update((other, number_at(data, start + INDEX, 8)) for other in _neighbours(data, start))
    return empty, named


def _neighbours(data: mmap.mmap, start: int) -> Iterator[int]:
    for at in (PREVIOUS, NEXT):
        other = number_at(data, start + at, 4)
        if other not in (0, NO_PAGE):
            yield other


def _in_use(data: mmap.mmap, page: int, checkpoint: int) -> bool:
    """As the map says that was on disk at the checkpoint."""
    start = page // MAPS * MAPS * PAGE
    place = page % MAPS
    known = number_at(data, start + KIND, 2) in MAP_KINDS and number_at(data, start + CHANGED, 8) <= checkpoint
    if not known or place == RESERVED or page >= number_at(data, LIMIT, 4):
        return False
    entry = start + ENTRIES + place // EXTENT * ENTRY
    bit = 2 * (place % EXTENT)
    free = data[entry + BITS + bit // 8] >> bit % 8 & 1
    return number_at(data, entry + STATE, 4) != 0 and not free
