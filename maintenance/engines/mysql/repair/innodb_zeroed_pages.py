"""Pages that hold nothing but zeros although they are in use: to the checksum tools an empty page is a good one.

A write that the disk lost, or a hole that a file system's repair made, leaves such a page; MariaDB reports it when a
row of it is wanted, MySQL ends. Told is only what the file and the server's last checkpoint prove. A page is written
by the time of the checkpoint if its being in use was: if the file's own map of used pages, or a neighbour that names
it, is on disk as of a change before that checkpoint. What is newer is not judged. For the bytes see the server's
source: fsp0fsp.h, fil0types.h.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from ..session import Session
from .innodb_leaf_pages import INDEX, INDEX_PAGES, KIND, NEXT, NO_PAGE, PAGE, number_at

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
        pages = Pages(file.fileno())
        if not pages.count or not _usual(pages.number(0, FLAGS, 4)):
            return {}
        empty, named = _empty_and_named(pages, checkpoint)
        found = [page for page in empty if named[page] or _in_use(pages, page, checkpoint)]
        return {**dict.fromkeys(found), **_indexes(pages, checkpoint, frozenset(found))}


class Pages:
    """The pages of an open file, read where they are asked for: a table may be larger than the memory."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.count = os.fstat(file).st_size // PAGE

    def number(self, page: int, at: int, size: int) -> int:
        return int.from_bytes(os.pread(self.file, size, page * PAGE + at))

    def header(self, page: int) -> bytes:
        return os.pread(self.file, INDEX + 8, page * PAGE)

    def is_zero(self, page: int) -> bool:
        return os.pread(self.file, PAGE, page * PAGE) == bytes(PAGE)


def _usual(flags: int) -> bool:
    """Pages of 16 KiB that are not compressed, in the older format, which MySQL has, or in MariaDB's later one."""
    if flags & 0x10:
        return flags & 0xEF == 5
    return (flags >> 1) & 0xF == 0 and (flags >> 6) & 0xF in (0, 5) and flags >> 16 == 0


def _empty_and_named(pages: Pages, checkpoint: int) -> tuple[list[int], bytearray]:
    """Pages of zeros; and a byte a page, not 0 where an index's page names it as its neighbour."""
    empty: list[int] = []
    named = bytearray(pages.count)
    for page in range(pages.count):
        header = pages.header(page)
        if number_at(header, CHANGED, 8) == 0 and pages.is_zero(page):
            empty.append(page)
        for other in _neighbours(header, checkpoint):
            if other < pages.count:
                named[other] = 1
    return empty, named


def _indexes(pages: Pages, checkpoint: int, wanted: Collection[int]) -> dict[int, int]:
    """Of which index these pages are, as far as a neighbour tells; for that the file is read once more."""
    found: dict[int, int] = {}
    for page in range(pages.count if wanted else 0):
        header = pages.header(page)
        for other in _neighbours(header, checkpoint):
            if other in wanted:
                found[other] = number_at(header, INDEX, 8)
    return found


def _neighbours(header: bytes, checkpoint: int) -> Iterator[int]:
    """That a page of an index names, as of a change before the checkpoint."""
    if not 0 < number_at(header, CHANGED, 8) <= checkpoint or number_at(header, KIND, 2) not in INDEX_PAGES:
        return
    for at in (PREVIOUS, NEXT):
        other = number_at(header, at, 4)
        if other not in (0, NO_PAGE):
            yield other


def _in_use(pages: Pages, page: int, checkpoint: int) -> bool:
    """As the map says that was on disk at the checkpoint."""
    first, place = page // MAPS * MAPS, page % MAPS
    known = pages.number(first, KIND, 2) in MAP_KINDS and pages.number(first, CHANGED, 8) <= checkpoint
    if not known or place == RESERVED or page >= pages.number(0, LIMIT, 4):
        return False
    entry = ENTRIES + place // EXTENT * ENTRY
    bit = 2 * (place % EXTENT)
    free = pages.number(first, entry + BITS + bit // 8, 1) >> bit % 8 & 1
    return pages.number(first, entry + STATE, 4) != 0 and not free
