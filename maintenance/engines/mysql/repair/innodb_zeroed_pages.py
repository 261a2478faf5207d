"""Pages that hold nothing but zeros although they are in use: to the checksum tools an empty page is a good one.

A write that the disk lost, or a hole that a file system's repair made, leaves such a page; MariaDB reports it when a
row of it is wanted, MySQL ends. A page is in use where the file's own map says so. Only the map is believed: a page
that was freed before it was ever written stays one of zeros for good, and a neighbour that was freed with it keeps the
bytes that name it. And only what the server has no newer version of in memory is told, of the map as of the page: what
is dirty there may be freed or be written yet. For the bytes see the server's source: fsp0fsp.h, fil0types.h.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from ..connection import Session
from .innodb_leaf_pages import INDEX, INDEX_PAGES, KIND, NEXT, NO_PAGE, PAGE, number_at

PREVIOUS, CHANGED, SPACE = 8, 16, 34
"""Where a page's header holds its predecessor, the LSN of its last change, and the number of its tablespace."""
LIMIT, FLAGS = 50, 54
"""Where the file's first page holds the number of pages that were ever given out, and the file's format."""
MAPS, MAP_KINDS = 16_384, frozenset((8, 9))
"""Each so many pages begin with one that holds the map of them; its kinds."""
ENTRIES, ENTRY, STATE, BITS, EXTENT = 150, 40, 20, 24, 64
"""Where a map begins; bytes of an entry, where in it state and bits are, and how many pages an entry tells of."""
RESERVED = 1
"""The page after a map was the change buffer's, which later versions leave empty."""
SETTLED_SECONDS = 0.2
"""What is being written is there after so long."""
ENOUGH = 1000
"""More pages of zeros in a file are not told one by one."""


@dataclass(frozen=True)
class ZeroPages:
    """Pages of zeros that are in use as the file's maps say. `maps`: LSN of the last change of each of these maps."""

    space: int
    pages: frozenset[int]
    maps: Mapping[int, int]


def proven_zero_pages(session: Session, path: Path) -> dict[int, int | None]:
    """Return the number of each page of zeros that is in use → the number of the index it belongs to, where a
    neighbour tells.

    Both are read before and after the server was asked what it holds in memory, and the server is asked twice: its
    list is no snapshot. Raises OSError.
    """
    before = zero_pages(path)
    if not before.pages or _leaves_zeros(session):
        return {}
    try:
        held = _held_in_memory(session, before) | _held_in_memory(session, before)
    except DBAPIError:
        return {}
    time.sleep(SETTLED_SECONDS)
    after = zero_pages(path)
    unchanged = {number for number, changed in before.maps.items() if after.maps.get(number) == changed} - held
    proven = {page for page in (before.pages & after.pages) - held if _map_of(page) in unchanged}
    return {**dict.fromkeys(sorted(proven)), **_indexes(path, proven)}


def zero_pages(path: Path) -> ZeroPages:
    """Return what the file alone says. Raises OSError.

    Nothing is told of files with other pages than usual, compressed ones among them: those have holes.
    """
    with open(path, "rb") as file:
        pages = Pages(file.fileno())
        if not pages.count or not _usual(pages.number(0, FLAGS, 4)):
            return ZeroPages(0, frozenset(), {})
        found = []
        for page in range(pages.count):
            if pages.is_zero(page) and _in_use(pages, page):
                found.append(page)
            if len(found) == ENOUGH:
                break
        maps = {number: pages.number(number, CHANGED, 8) for number in map(_map_of, found)}
        return ZeroPages(pages.number(0, SPACE, 4), frozenset(found), maps)


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
        return not any(self.header(page)) and os.pread(self.file, PAGE, page * PAGE) == bytes(PAGE)


def _leaves_zeros(session: Session) -> bool:
    """Whether the server itself writes zeros over what is no more in use, or has left changes out of the files."""
    try:
        return bool(
            session.ask(
                "SHOW GLOBAL VARIABLES WHERE (variable_name LIKE 'innodb%scrub%' AND value = 'ON')"
                " OR (variable_name = 'innodb_force_recovery' AND value >= 6)"
            )
        )
    except DBAPIError:
        return True


def _held_in_memory(session: Session, found: ZeroPages) -> set[int]:
    """Return those of the pages and of their maps that the server has not written as they are now."""
    # 1 stands for a page that was written and is still in the list of those to write.
    numbers = ", ".join(map(str, sorted(found.pages | found.maps.keys())))
    rows = session.ask(
        "SELECT page_number FROM information_schema.innodb_buffer_page"
        f" WHERE space = {found.space:d} AND page_number IN ({numbers}) AND oldest_modification > 1"
    )
    return {int(row[0]) for row in rows}


def _usual(flags: int) -> bool:
    """Pages of 16 KiB that are not compressed, in the older format, which MySQL has, or in MariaDB's later one."""
    if flags & 0x10:
        return flags & 0xEF == 5
    return (flags >> 1) & 0xF == 0 and (flags >> 6) & 0xF in (0, 5) and flags >> 16 == 0


def _indexes(path: Path, wanted: Collection[int]) -> dict[int, int]:
    """Of which index these pages are, as far as a neighbour in use tells; for that the file is read once more."""
    found: dict[int, int] = {}
    with open(path, "rb") as file:
        pages = Pages(file.fileno())
        for page in range(pages.count if wanted else 0):
            header = pages.header(page)
            for other in _neighbours(header):
                if other in wanted and _in_use(pages, page):
                    found[other] = number_at(header, INDEX, 8)
    return found


def _neighbours(header: bytes) -> Iterator[int]:
    """That a page of an index names."""
    if number_at(header, KIND, 2) not in INDEX_PAGES:
        return
    for at in (PREVIOUS, NEXT):
        other = number_at(header, at, 4)
        if other not in (0, NO_PAGE):
            yield other


def _map_of(page: int) -> int:
    return page // MAPS * MAPS


def _in_use(pages: Pages, page: int) -> bool:
    """As the map in the file says."""
    first, place = _map_of(page), page % MAPS
    if place == RESERVED or page >= pages.number(0, LIMIT, 4) or pages.number(first, KIND, 2) not in MAP_KINDS:
        return False
    entry = ENTRIES + place // EXTENT * ENTRY
    bit = 2 * (place % EXTENT)
    free = pages.number(first, entry + BITS + bit // 8, 1) >> bit % 8 & 1
    return pages.number(first, entry + STATE, 4) != 0 and not free
