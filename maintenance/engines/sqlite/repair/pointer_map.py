"""The pages of a file with auto_vacuum that say of every page what leads to it: a witness beside the trees themselves.

https://sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from .pages import PageFile

ROOT, FREE, TREE = 1, 2, 5
KINDS = range(1, 6)
ENTRY = 5
"""Bytes: a kind, and the page that leads here."""
DEEPEST = 40
"""Inner pages above a leaf; no file has so many."""


@dataclass(frozen=True)
class PointerMap:
    """Page -> its kind and what leads to it; empty in files without auto_vacuum."""

    entries: Mapping[int, tuple[int, int]]

    def root_above(self, page: int) -> int | None:
        """Return the root of the tree that the page is of; None where the map does not tell."""
        for _ in range(DEEPEST):
            kind, above = self.entries.get(page, (0, 0))
            if kind == ROOT:
                return page
            if kind != TREE:
                return None
            page = above
        return None

    def is_free(self, page: int) -> bool:
        return self.entries.get(page, (0, 0))[0] == FREE


def is_place_of_map(source: PageFile, number: int) -> bool:
    """Whether a map lies here, in files that have some."""
    return number >= 2 and (number - 2) % (source.usable // ENTRY + 1) == 0


def read_pointer_map(source: PageFile, owners: Mapping[int, int]) -> PointerMap:
    """Return what the map pages tell, without those that are none or contradict the trees.

    `owners`: page -> root of the one tree that leads to it.
    """
    pages = [number for number in range(2, source.count + 1) if is_place_of_map(source, number)]
    read = {number: _entries(source, number) for number in pages}
    whole = PointerMap({page: entry for entries in read.values() for page, entry in entries.items()})
    agreeing: Counter[int] = Counter()
    step = source.usable // ENTRY + 1
    for page, root in owners.items():
        place = page - (page - 2) % step
        if page in read.get(place, ()):
            agreeing[place] += 1 if whole.root_above(page) == root else -9
    kept = [number for number in pages if agreeing[number] > 0]
    return PointerMap({page: entry for number in kept for page, entry in read[number].items()})


def _entries(source: PageFile, number: int) -> dict[int, tuple[int, int]]:
    """Return what one page tells; nothing where one of its entries cannot be."""
    content = source.page(number)
    found: dict[int, tuple[int, int]] = {}
    last = min(source.count, number + source.usable // ENTRY)
    for place, page in enumerate(range(number + 1, last + 1)):
        kind, above = struct.unpack_from(">BI", content, place * ENTRY)
        if kind not in KINDS or above > source.count or (above == 0) != (kind in (ROOT, FREE)):
            return {}
        found[page] = (kind, above)
    return found
