"""Reads a database file page by page, without SQLite, so that a damaged page hides only itself.

The format: https://sqlite.org/fileformat2.html. Works on a copy that nobody writes. Nothing the file says of itself is
believed without bounds: a number of a page lies within the file, and no page is read twice on one way.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


class RawText(bytes):
    """Text that is not valid in the encoding of its database, as the bytes it consists of."""


Value = None | int | float | str | bytes | RawText

LEAF_TABLE, INNER_TABLE, LEAF_INDEX, INNER_INDEX = 0x0D, 0x05, 0x0A, 0x02
LEAVES = frozenset((LEAF_TABLE, LEAF_INDEX))
INNER = frozenset((INNER_TABLE, INNER_INDEX))
SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
PENDING_BYTE = 0x40000000
"""The page with this byte holds SQLite's locks and nothing else."""
ENCODINGS = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
_BROKEN = (IndexError, struct.error, OverflowError)


class Unreadable(Exception):
    """This page, cell or record does not follow the format."""


@dataclass(frozen=True)
class Layout:
    """What has to be known of a file before a page can be read: bytes of a page, of its reserved end, and the text."""

    size: int
    reserved: int
    encoding: int


@dataclass(frozen=True)
class Cell:
    """One record; `rowid` is None in index pages."""

    page: int
    rowid: int | None
    values: tuple[Value, ...]
    doubtful: bool = False
    """It or its overflow does not end where it should, or its text ends in a page of zeros, as a lost one leaves it."""


@dataclass(frozen=True)
class FreePages:
    """Pages on the list of free pages; not `sound` where the list contradicts itself or its length."""

    pages: frozenset[int]
    sound: bool


class PageFile:
    """A copy of a database, as numbered pages. The last one is filled up with zeros where the file ends early."""

    def __init__(self, path: Path, layout: Layout | None = None) -> None:
        """`layout`: where the header that tells it is lost; then nothing else is believed of it either."""
        self.layout = layout or layout_of_header(path)
        self._file = open(path, "rb")  # noqa: SIM115 - closed in __exit__
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size, self.usable = self.layout.size, self.layout.size - self.layout.reserved
        self.count = -(-len(self._map) // self.size)
        self.encoding = ENCODINGS[self.layout.encoding]

    def __enter__(self) -> PageFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._map.close()
        self._file.close()

    def page(self, number: int) -> bytes:
        if not 1 <= number <= self.count:
            raise Unreadable(f"page {number} lies outside the file")
        return self._map[(number - 1) * self.size : number * self.size].ljust(self.size, b"\0")

    def kind(self, number: int) -> int:
        """One of the four kinds of tree pages, or anything else that stands in its place."""
        if not 1 <= number <= self.count:
            raise Unreadable(f"page {number} lies outside the file")
        offset = (number - 1) * self.size + _start(number)
        return self._map[offset] if offset < len(self._map) else 0

    def free_pages(self) -> FreePages:
        found: set[int] = set()
        head = self.page(1)
        trunk, told = struct.unpack_from(">II", head, 32)
        sound = True
        while trunk:
            if trunk in found or not 2 <= trunk <= self.count:
                sound = False
                break
            found.add(trunk)
            page = self.page(trunk)
            trunk, count = struct.unpack_from(">II", page)
            if count > self.usable // 4 - 2:
                sound = False
                break
            leaves = struct.unpack_from(f">{count}I", page, 8)
            sound = sound and not found & set(leaves) and all(2 <= leaf <= self.count for leaf in leaves)
            found.update(leaf for leaf in leaves if 2 <= leaf <= self.count)
        return FreePages(frozenset(found), sound and len(found) == told)

    # -- inner pages -----------------------------------------------------------------------------------

    def children(self, number: int) -> list[tuple[int, int | None]]:
        """Pages below an inner one, each with the highest rowid it may hold (None: unbounded, or an index).

        As many as can be read; whoever follows them has to see where they lead.
        """
        page, start = self.page(number), _start(number)
        found: list[tuple[int, int | None]] = []
        for offset in self._cell_offsets(page, start, inner=True)[0]:
            if offset + 5 > self.size:
                continue
            below = struct.unpack_from(">I", page, offset)[0]
            key = None
            if page[start] == INNER_TABLE:
                try:
                    key = signed(varint(page, offset + 4)[0])
                except _BROKEN:
                    continue
            found.append((below, key))
        found.append((struct.unpack_from(">I", page, start + 8)[0], None))
        return found

    def has_cells(self, number: int) -> bool:
        start = _start(number)
        return bool(struct.unpack_from(">H", self.page(number), start + 3)[0])

    def is_consistent(self, number: int) -> bool:
        """Whether the cells of a tree page lie where its header says, beside each other, and fill what is not free."""
        page, start = self.page(number), _start(number)
        kind = page[start]
        offsets, whole = self._cell_offsets(page, start, inner=kind in INNER)
        if not whole or self._there(number) < self.size:
            return False
        first = start + (12 if kind in INNER else 8) + 2 * len(offsets)
        _, _, content, fragments = struct.unpack_from(">HHHB", page, start + 1)
        content = content or 65536
        if not first <= content <= self.usable:
            return False
        try:
            used = sorted((offset, offset + self._cell_bytes(page, offset, kind)) for offset in offsets)
            used = sorted([*used, *self._free_blocks(page, start)])
        except (Unreadable, *_BROKEN):
            return False
        end, gaps = content, 0
        for low, high in used:
            if low < end or high > self.usable:
                return False
            gaps += low - end
            end = high
        return bool(gaps + self.usable - end == fragments)

    def _free_blocks(self, page: bytes, start: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        offset = struct.unpack_from(">H", page, start + 1)[0]
        while offset:
            following, length = struct.unpack_from(">HH", page, offset)
            if length < 4 or (following and following < offset + length):
                raise Unreadable("free blocks out of order")
            found.append((offset, offset + length))
            offset = following
        return found

    def _cell_bytes(self, page: bytes, offset: int, kind: int) -> int:
        """Bytes that a cell takes on its page; never fewer than four."""
        begin = offset
        if kind in INNER:
            offset += 4
        length, used = varint(page, offset)
        offset += used
        if kind == INNER_TABLE:
            return max(4, offset - begin)
        if kind == LEAF_TABLE:
            offset += varint(page, offset)[1]
        local = self._local(length, kind)
        return max(4, offset - begin + local + (4 if local < length else 0))

    def _cell_offsets(self, page: bytes, start: int, inner: bool) -> tuple[tuple[int, ...], bool]:
        """Where the cells begin, and whether all of them can be where the header says."""
        count = struct.unpack_from(">H", page, start + 3)[0]
        first = start + (12 if inner else 8)
        fit = min(count, (self.usable - first) // 2)
        return struct.unpack_from(f">{fit}H", page, first), fit == count

    # -- records ---------------------------------------------------------------------------------------

    def cells(self, number: int) -> Iterator[Cell | None]:
        """The records of a page that holds some; None for each that cannot be read."""
        page, start = self.page(number), _start(number)
        kind = page[start]
        if kind not in LEAVES and kind != INNER_INDEX:
            return
        offsets, whole = self._cell_offsets(page, start, inner=kind == INNER_INDEX)
        begin = start + (12 if kind == INNER_INDEX else 8)
        content = struct.unpack_from(">H", page, start + 5)[0] or 65536
        told = begin + 2 * len(offsets)
        if not whole or told > content:
            # The number of cells is wrong: the list of them ends where the first of them begins.
            yield None
            told = 0
        lowest = self.size
        for end, offset in zip(range(begin + 2, begin + 2 * len(offsets) + 2, 2), offsets, strict=True):
            if end > lowest:
                return
            try:
                offset &= self.size - 1  # as SQLite does
                if offset < max(told, end):
                    raise Unreadable("a cell within the header")
                yield self._cell(number, page, offset, kind)
                lowest = min(lowest, offset)
            except (Unreadable, *_BROKEN):
                yield None

    def _cell(self, number: int, page: bytes, offset: int, kind: int) -> Cell:
        if kind == INNER_INDEX:
            offset += 4
        length, used = varint(page, offset)
        offset += used
        rowid: int | None = None
        if kind == LEAF_TABLE:
            raw, used = varint(page, offset)
            rowid = signed(raw)
            offset += used
        payload, end = self._payload(number, page, offset, length, kind)
        values, whole = self._record(payload)
        zeros = end is not None and not end.strip(b"\0") and isinstance(values[-1], (str, RawText))
        return Cell(number, rowid, values, not whole or zeros or (end is not None and any(end[:4])))

    def _local(self, length: int, kind: int) -> int:
        """Bytes of a record that lie on its own page."""
        usable = self.usable
        most = usable - 35 if kind == LEAF_TABLE else (usable - 12) * 64 // 255 - 23
        if length <= most:
            return length
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        return local if local <= most else least

    def _payload(self, number: int, page: bytes, offset: int, length: int, kind: int) -> tuple[bytes, bytes | None]:
        """Return the record, and the last page of its overflow where it has some."""
        local = self._local(length, kind)
        if offset + local > min(self.usable, self._there(number)):
            raise Unreadable("the record reaches beyond its page")
        found = page[offset : offset + local]
        if local == length:
            return found, None
        more, end = self._overflow(struct.unpack_from(">I", page, offset + local)[0], length - local)
        return found + more, end

    def _there(self, number: int) -> int:
        """Bytes of a page that the file really has: it may end early."""
        return min(self.size, len(self._map) - (number - 1) * self.size)

    def _overflow(self, number: int, length: int) -> tuple[bytes, bytes]:
        if length > len(self._map):
            raise Unreadable("a record longer than the file")
        parts: list[bytes] = []
        seen: set[int] = set()
        page = b""
        while length > 0:
            if number in seen:
                raise Unreadable("overflow pages in a circle")
            seen.add(number)
            page = self.page(number)
            part = page[4 : 4 + min(length, self.usable - 4)]
            if 4 + len(part) > self._there(number):
                raise Unreadable("the record reaches beyond the file")
            parts.append(part)
            length -= len(part)
            number = struct.unpack_from(">I", page)[0]
        return b"".join(parts), page

    def _record(self, payload: bytes) -> tuple[tuple[Value, ...], bool]:
        """Return the values, and whether they are all there is."""
        head, offset = varint(payload, 0)
        if not offset <= head <= len(payload):
            raise Unreadable("the record header does not fit")
        types: list[int] = []
        while offset < head:
            kind, used = varint(payload, offset)
            types.append(kind)
            offset += used
        values: list[Value] = []
        for kind in types:
            value, offset = self._value(payload, offset, kind)
            values.append(value)
        if not values:
            raise Unreadable("a record without values")
        return tuple(values), offset == len(payload)

    def _value(self, payload: bytes, offset: int, kind: int) -> tuple[Value, int]:
        if kind == 0:
            return None, offset
        if kind in (8, 9):
            return kind - 8, offset
        if kind in (10, 11):
            raise Unreadable("a reserved type")
        length = _INTEGER_BYTES[kind] if kind <= 6 else 8 if kind == 7 else (kind - 12) // 2
        raw = payload[offset : offset + length]
        if len(raw) != length:
            raise Unreadable("a value is cut short")
        after = offset + length
        if kind <= 6:
            return int.from_bytes(raw, "big", signed=True), after
        if kind == 7:
            number = struct.unpack(">d", raw)[0]
            return (None if number != number else number), after  # SQLite shows NULL for what is no number
        return (raw if kind % 2 == 0 else text_of(raw, self.encoding)), after


def text_of(raw: bytes, encoding: str) -> Value:
    """Return the text, or its bytes marked as such where they are none in this encoding."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return RawText(raw)


def layout_of_header(path: Path) -> Layout:
    """Return what the header of the file says. Raises Unreadable where it cannot be so."""
    with open(path, "rb") as source:
        header = source.read(100)
    told = int.from_bytes(header[16:18], "big")
    size = 65536 if told == 1 else told
    if len(header) < 100 or size not in SIZES:
        raise Unreadable("the header tells no size of a page")
    encoding = int.from_bytes(header[56:60], "big")
    reserved = header[20] if size - header[20] >= 480 else 0
    return Layout(size, reserved, encoding if encoding in ENCODINGS else 1)


def signed(raw: int) -> int:
    """A rowid, from the 64 bits of its varint."""
    return raw - (1 << 64) if raw >> 63 else raw


def _start(number: int) -> int:
    """Where the B-tree header begins: page 1 has the file header before it."""
    return 100 if number == 1 else 0


def varint(data: bytes, offset: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and how many it took."""
    value = 0
    for place in range(8):
        byte = data[offset + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | data[offset + 8], 9
