"""Which keys lie on which page, read from a table's file past the server: the way around a page that would end it.

Only what is needed for that is understood here: InnoDB's page and record headers, and a primary key of whole
numbers. https://dev.mysql.com/doc/refman/8.4/en/innodb-row-format.html and, for the bytes, the server's source:
fil0types.h, page0types.h and rem0rec.h.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maintenance.engines.errors import Damaged
from maintenance.engines.messages import msg

PAGE = 16_384
NO_PAGE = 0xFFFF_FFFF
INDEX_PAGES = frozenset((17_854, 17_855))
NEXT, KIND, RECORDS, LEVEL, INDEX = 12, 24, 42, 64, 66
"""Where a page's header holds its successor, its kind, the mark of a compact format, its level, its index."""
DELETED = 0x20
"""Bit of a record's first header byte."""
READ_AHEAD = 11
"""Leaves that the optimizer may read to the right of a range's lower end to guess its size, and one to spare."""


Numbers = tuple[int, ...]
"""One key."""


@dataclass(frozen=True)
class Key:
    """The primary key: of each column its bytes and whether it is unsigned."""

    columns: tuple[tuple[int, bool], ...]

    @property
    def width(self) -> int:
        return sum(width for width, _ in self.columns)

    def at(self, page: bytes, record: int) -> Numbers:
        found = []
        for width, unsigned in self.columns:
            value = int.from_bytes(page[record : record + width], "big")
            found.append(value if unsigned else value - (1 << (8 * width - 1)))
            record += width
        return tuple(found)


@dataclass(frozen=True)
class Format:
    """How the records of a page are laid out: where the two that bound them begin, how long a header is."""

    infimum: int
    supremum: int
    header: int
    relative: bool
    """The two bytes before a record say how far the next one is; otherwise where it is."""


COMPACT, REDUNDANT = Format(99, 112, 5, relative=True), Format(101, 116, 6, relative=False)


def _format(page: bytes) -> Format:
    return COMPACT if number_at(page, RECORDS, 2) & 0x8000 else REDUNDANT


@dataclass(frozen=True)
class Leaf:
    """`first` is the least key that belongs there, None on the leftmost; `live` the least that is there."""

    page: int
    first: Numbers | None
    readable: bool
    live: Numbers | None


@dataclass(frozen=True)
class Stretch:
    """Rows between two holes. `above` is a row of it that is read by itself: None where nothing lies to the left.

    Going down from below `below` (None: from the end) to what is greater than `above` reads no page but those of the
    stretch. `alone_from`: reading `above` by itself is harmless when the range begins after this key; without it
    that row is lost with the hole. `open_below`: that range has no lower end at all.
    """

    above: Numbers | None
    below: Numbers | None
    alone_from: Numbers | None = None
    open_below: bool = False

    @property
    def edge_readable(self) -> bool:
        return self.alone_from is not None or self.open_below


@dataclass(frozen=True)
class Way:
    """How all rows but those on unreadable pages are read; `holes` are the pages that are left out."""

    stretches: tuple[Stretch, ...]
    holes: tuple[int, ...]


def way_around(file: Path, index: int, key: Key, bad: Collection[int], table: str) -> Way:
    """Raises Damaged when more than leaves is unreadable, or when the pages contradict each other."""
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        leaves = _leaves(_Pages(data, frozenset(bad)), index, key, table)
    return Way(tuple(_stretches(leaves)), tuple(leaf.page for leaf in leaves if not leaf.readable))


def _stretches(leaves: Sequence[Leaf]) -> Iterator[Stretch]:
    begin = 0
    while begin < len(leaves):
        if not leaves[begin].readable:
            begin += 1
            continue
        end = next((n for n in range(begin, len(leaves)) if not leaves[n].readable), len(leaves))
        found = _stretch(leaves, begin, end)
        if found is not None:
            yield found
        begin = end


def _stretch(leaves: Sequence[Leaf], begin: int, end: int) -> Stretch | None:
    """Of the leaves `begin` to `end`, that one not included. None: no live row is there."""
    below = leaves[end].first if end < len(leaves) else None
    if begin == 0:
        return Stretch(None, below)
    holding = next((leaf for leaf in leaves[begin:end] if leaf.live is not None), None)
    if holding is None or holding.live is None:
        return None
    if holding.first is not None and holding.first < holding.live:
        # The server looks for what follows the number before on this very leaf.
        return Stretch(holding.live, below, alone_from=(*holding.live[:-1], holding.live[-1] - 1))
    # From far away only over one range, which several columns are not.
    for number in range(begin - READ_AHEAD, -1, -1) if len(holding.live) == 1 else ():
        if all(leaf.readable for leaf in leaves[number : number + READ_AHEAD]):
            first = leaves[number].first
            return Stretch(holding.live, below, alone_from=first, open_below=first is None)
    return Stretch(holding.live, below)


class _Pages:
    """The file's pages; one that is bad, or not what it says, is not handed out."""

    def __init__(self, data: mmap.mmap, bad: frozenset[int]) -> None:
        self.data, self.bad = data, bad

    def __len__(self) -> int:
        return len(self.data) // PAGE

    def page(self, number: int, index: int, level: int) -> bytes | None:
        """None: unreadable, another's, or of another level."""
        found = self.data[number * PAGE : (number + 1) * PAGE]
        if number in self.bad or len(found) < PAGE or number_at(found, KIND, 2) not in INDEX_PAGES:
            return None
        fitting = (number_at(found, INDEX, 8), number_at(found, LEVEL, 2), number_at(found, 4, 4)) == (
            index,
            level,
            number,
        )
        return found if fitting else None


def _leaves(pages: _Pages, index: int, key: Key, table: str) -> list[Leaf]:
    """In the order of their keys, as the pages above them name them."""
    parents = {number: page for number in range(len(pages)) if (page := pages.page(number, index, 1)) is not None}
    followers = {number_at(page, NEXT, 4) for page in parents.values()}
    current = next((number for number in parents if number not in followers), NO_PAGE)
    leaves: list[Leaf] = []
    seen = 0
    while current in parents:
        parent = parents[current]
        for record in _records(parent, table):
            leaves.append(_leaf(pages, index, key, parent, record, leftmost=not leaves, table=table))
        seen += 1
        current = number_at(parent, NEXT, 4)
        if seen > len(parents):
            break
    if not leaves or current != NO_PAGE or seen != len(parents) or not _in_order(pages, leaves):
        raise Damaged(
            "looking for a way around the bad pages of",
            table,
            "an inner page of its rows is unreadable too, or the pages contradict each other",
        )
    return leaves


def _leaf(pages: _Pages, index: int, key: Key, parent: bytes, record: int, leftmost: bool, table: str) -> Leaf:
    number = number_at(parent, record + key.width, 4)
    page = pages.page(number, index, 0)
    live = None
    if page is not None:
        header = _format(page).header
        there = (record for record in _records(page, table) if not page[record - header] & DELETED)
        live = next((key.at(page, record) for record in there), None)
    return Leaf(number, None if leftmost else key.at(parent, record), page is not None, live)


def _in_order(pages: _Pages, leaves: Sequence[Leaf]) -> bool:
    """Whether keys rise and each readable leaf names the next one as its neighbour."""
    for number, leaf in enumerate(leaves):
        following = leaves[number + 1] if number + 1 < len(leaves) else None
        if leaf.readable:
            named = number_at(pages.data, leaf.page * PAGE + NEXT, 4)
            if named != (following.page if following else NO_PAGE):
                return False
        if following is None:
            continue
        if following.first is None or (leaf.first is not None and following.first <= leaf.first):
            return False
        if leaf.live is not None and leaf.live >= following.first:
            return False
    return True


def _records(page: bytes, table: str) -> Iterator[int]:
    """Where the records of a page begin, in the order of their keys."""
    laid = _format(page)
    position = laid.infimum
    for _ in range(PAGE):
        told = number_at(page, position - 2, 2)
        position = (position + told) & 0xFFFF if laid.relative else told
        if position == laid.supremum:
            return
        if not laid.supremum < position < PAGE - 8:
            break
        yield position
    raise Damaged("reading the pages of", table, msg("the records of a page lead nowhere"))


def number_at(data: bytes | mmap.mmap, at: int, width: int) -> int:
    """An unsigned number as InnoDB writes it: `width` bytes, the highest first."""
    return int.from_bytes(data[at : at + width], "big")
