"""Reads a database file page by page, without SQLite, so that a damaged page hides only itself.

The format: https://sqlite.org/fileformat2.html. Works on a copy that nobody writes.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

Value = None | int | float | str | bytes

LEAF_TABLE, INNER_TABLE, LEAF_INDEX, INNER_INDEX = 0x0D, 0x05, 0x0A, 0x02
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
_ENCODINGS = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}


class Unreadable(Exception):
    """This page, cell or record does not follow the format."""


@dataclass(frozen=True)
class Cell:
    """One record of a leaf; `rowid` is None in index pages."""

    page: int
    rowid: int | None
    values: tuple[Value, ...]


class PageFile:
    """A copy of a database, as numbered pages."""

    def __init__(self, path: Path, size: int | None = None) -> None:
        """`size` of a page where the header that tells it is lost; then nothing else is believed of it either."""
        self._file = open(path, "rb")  # noqa: SIM115 - closed in __exit__
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        told = int.from_bytes(self._map[16:18], "big")
        self.size = size or (65536 if told == 1 else told)
        self.usable = self.size - (0 if size else self._map[20])
        self.count = len(self._map) // self.size
        self.encoding = "utf-8" if size else _ENCODINGS.get(int.from_bytes(self._map[56:60], "big"), "utf-8")

    def __enter__(self) -> PageFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._map.close()
        self._file.close()

    def page(self, number: int) -> bytes:
        if not 1 <= number <= self.count:
            raise Unreadable(f"page {number} lies outside the file")
        return self._map[(number - 1) * self.size : number * self.size]

    def kind(self, number: int) -> int:
        return self.page(number)[_start(number)]

    # -- trees -----------------------------------------------------------------------------------------

    def tree(self, root: int) -> Tree:
        """Every page reachable from the root, as far as the inner pages can be read."""
        leaves: list[int] = []
        bad: list[int] = []
        seen: set[int] = set()
        waiting = [root]
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            try:
                kind = self.kind(number)
                if kind in (INNER_TABLE, INNER_INDEX):
                    waiting += self._children(number)
                if kind in (LEAF_TABLE, LEAF_INDEX, INNER_INDEX):
                    leaves.append(number)  # inner index pages hold rows of their own
                elif kind != INNER_TABLE:
                    bad.append(number)
            except (Unreadable, IndexError, struct.error):
                bad.append(number)
        return Tree(tuple(sorted(leaves)), tuple(sorted(bad)), frozenset(seen))

    def _children(self, number: int) -> list[int]:
        page, start = self.page(number), _start(number)
        offsets = self._cell_offsets(page, start, inner=True)
        right = struct.unpack_from(">I", page, start + 8)[0]
        return [*(struct.unpack_from(">I", page, offset)[0] for offset in offsets), right]

    def _cell_offsets(self, page: bytes, start: int, inner: bool) -> tuple[int, ...]:
        count = struct.unpack_from(">H", page, start + 3)[0]
        first = start + (12 if inner else 8)
        if first + 2 * count > self.usable:
            raise Unreadable(f"{count} cells do not fit")
        return struct.unpack_from(f">{count}H", page, first)

    def free_pages(self) -> set[int]:
        """Pages on the list of free pages, as far as the list can be followed."""
        found: set[int] = set()
        trunk = struct.unpack_from(">I", self.page(1), 32)[0]
        while trunk and trunk not in found and trunk <= self.count:
            found.add(trunk)
            page = self.page(trunk)
            following, count = struct.unpack_from(">II", page)
            if count > self.size // 4 - 2:
                break
            found.update(struct.unpack_from(f">{count}I", page, 8))
            trunk = following
        return found

    # -- records ---------------------------------------------------------------------------------------

    def cells(self, number: int) -> Iterator[Cell | None]:
        """The records of a leaf page; None for each that cannot be read."""
        page, start = self.page(number), _start(number)
        kind = page[start]
        try:
            offsets = self._cell_offsets(page, start, inner=kind == INNER_INDEX)
        except (Unreadable, struct.error):
            yield None
            return
        for offset in offsets:
            try:
                yield self._cell(number, page, offset, kind)
            except (Unreadable, IndexError, struct.error, UnicodeDecodeError):
                yield None

    def _cell(self, number: int, page: bytes, offset: int, kind: int) -> Cell:
        if kind == INNER_INDEX:
            offset += 4
        length, used = _varint(page, offset)
        offset += used
        rowid: int | None = None
        if kind == LEAF_TABLE:
            raw, used = _varint(page, offset)
            rowid = raw - (1 << 64) if raw >> 63 else raw
            offset += used
        payload = self._payload(page, offset, length, kind)
        return Cell(number, rowid, self._record(payload))

    def _payload(self, page: bytes, offset: int, length: int, kind: int) -> bytes:
        usable = self.usable
        most = usable - 35 if kind == LEAF_TABLE else (usable - 12) * 64 // 255 - 23
        if length <= most:
            found = page[offset : offset + length]
        else:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (length - least) % (usable - 4)
            local = local if local <= most else least
            found = page[offset : offset + local] + self._overflow(
                struct.unpack_from(">I", page, offset + local)[0], length - local
            )
        if len(found) != length:
            raise Unreadable("the record is cut short")
        return found

    def _overflow(self, number: int, length: int) -> bytes:
        if length > len(self._map):
            raise Unreadable("a record longer than the file")
        parts: list[bytes] = []
        seen: set[int] = set()
        while length > 0:
            if number in seen:
                raise Unreadable("overflow pages in a circle")
            seen.add(number)
            page = self.page(number)
            part = page[4 : 4 + min(length, self.usable - 4)]
            parts.append(part)
            length -= len(part)
            number = struct.unpack_from(">I", page)[0]
        return b"".join(parts)

    def _record(self, payload: bytes) -> tuple[Value, ...]:
        head, offset = _varint(payload, 0)
        if not offset <= head <= len(payload):
            raise Unreadable("the record header does not fit")
        types: list[int] = []
        while offset < head:
            kind, used = _varint(payload, offset)
            types.append(kind)
            offset += used
        values: list[Value] = []
        for kind in types:
            value, offset = self._value(payload, offset, kind)
            values.append(value)
        if offset != len(payload):
            raise Unreadable("the record does not end where it should")
        return tuple(values)

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
            return struct.unpack(">d", raw)[0], after
        if kind % 2 == 0:
            return raw, after
        errors = "surrogateescape" if self.encoding == "utf-8" else "strict"
        return raw.decode(self.encoding, errors), after


@dataclass(frozen=True)
class Tree:
    """`leaves` hold records, `bad` cannot be read, `pages` are all that were visited."""

    leaves: tuple[int, ...]
    bad: tuple[int, ...]
    pages: frozenset[int]


def _start(number: int) -> int:
    """Where the B-tree header begins: page 1 has the file header before it."""
    return 100 if number == 1 else 0


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and how many it took."""
    value = 0
    for place in range(8):
        byte = data[offset + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | data[offset + 8], 9
