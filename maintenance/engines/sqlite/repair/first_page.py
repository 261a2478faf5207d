"""Writes a lost first page again, from the pages of the schema that lie elsewhere in the file.

The first page holds the header and the root of the schema table. A schema longer than a page lies on
pages of its own, which still say what every table is called and where its root is; the root is then
made again over them. A shorter schema is gone with the page.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ...errors import Damaged
from ...messages import msg
from ..names import JOURNALS
from ..sessions import MAGIC
from .pages import INNER_INDEX, INNER_TABLE, LEAF_INDEX, LEAF_TABLE, Cell, PageFile, Unreadable

KINDS = frozenset(("table", "index", "view", "trigger"))
SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
HEAD = 100
_FIRST_CELL = HEAD + 12


@dataclass(frozen=True)
class SchemaLeaf:
    """A page with rows of the schema table, and the rowids it holds."""

    page: int
    lowest: int
    highest: int


def write_first_page(path: Path) -> int:
    """On a copy that nobody else uses; returns how many tables the schema names. Raises Damaged with the reason."""
    for ending in JOURNALS:
        beside = path.with_name(path.name + ending)
        if beside.exists() and beside.stat().st_size and ending != "-shm":
            raise _refused(path, msg("its journal {ending} holds changes that fit the lost page only", ending=ending))
    size = page_size_of(path)
    if size is None:
        raise _refused(path, msg("no page of the file follows the format"))
    with PageFile(path, size) as source:
        leaves, tables = _schema_leaves(source)
        count = source.count
    if not leaves:
        raise _refused(path, msg("the names and places of the tables were on it too, and are nowhere else in the file"))
    if any(before.highest >= after.lowest for before, after in pairwise(leaves)):
        raise _refused(path, msg("there are older pages of the schema too, and nothing tells which ones are right"))
    page = _first_page(size, count, leaves, path)
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, page, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return tables


def _refused(path: Path, why: str) -> Damaged:
    words = msg(
        "the first page is lost and cannot be written again: {words}; restore the file from a backup", words=why
    )
    return Damaged("writing the first page of", path.name, words)


def page_size_of(path: Path) -> int | None:
    """The size by which most pages begin like pages of a tree; None when none does."""
    found: dict[int, int] = {}
    for size in SIZES:
        if path.stat().st_size >= 2 * size:
            with PageFile(path, size) as source:
                found[size] = sum(_looks_right(source, number) for number in range(2, source.count + 1))
    best = max(found, key=lambda size: found[size], default=None)
    return best if best is not None and found[best] else None


def _looks_right(source: PageFile, number: int) -> bool:
    page = source.page(number)
    kind, _, cells, content, fragments = struct.unpack_from(">BHHHB", page)
    if kind not in (INNER_INDEX, INNER_TABLE, LEAF_INDEX, LEAF_TABLE):
        return False
    first = (12 if kind in (INNER_INDEX, INNER_TABLE) else 8) + 2 * cells
    return bool(cells) and first <= (content or 65536) <= source.size and fragments <= 60


def _schema_leaves(source: PageFile) -> tuple[list[SchemaLeaf], int]:
    """In the order of their rowids, with the number of tables they name."""
    leaves, tables = [], 0
    for number in range(2, source.count + 1):
        if source.kind(number) != LEAF_TABLE:
            continue
        try:
            cells = list(source.cells(number))
        except Unreadable:
            continue
        rows = [cell for cell in cells if cell is not None and _of_schema(cell, source.count)]
        if rows and len(rows) == len(cells):
            rowids = [row.rowid for row in rows if row.rowid is not None]
            leaves.append(SchemaLeaf(number, min(rowids), max(rowids)))
            tables += sum(row.values[0] == "table" for row in rows)
    return sorted(leaves, key=lambda leaf: leaf.lowest), tables


def _of_schema(cell: Cell, pages: int) -> bool:
    """type, name, table, root page, text: https://sqlite.org/schematab.html."""
    if len(cell.values) != 5 or cell.rowid is None:
        return False
    kind, name, table, root, text = cell.values
    return (
        kind in KINDS
        and isinstance(name, str)
        and isinstance(table, str)
        and isinstance(root, int)
        and 0 <= root <= pages
        and (text is None or (isinstance(text, str) and text.upper().startswith("CREATE")))
    )


def _first_page(size: int, count: int, leaves: list[SchemaLeaf], path: Path) -> bytes:
    """https://sqlite.org/fileformat2.html, 1.3 and 1.6. An inner page over the leaves; no free pages."""
    *left, right = leaves
    page = bytearray(size)
    page[:16] = MAGIC
    struct.pack_into(">HBBBBBB", page, 16, 1 if size == 65536 else size, 1, 1, 0, 64, 32, 32)
    struct.pack_into(">II", page, 24, 1, count)
    struct.pack_into(">II", page, 40, 1, 4)  # schema cookie, schema format
    struct.pack_into(">I", page, 56, 1)  # UTF-8
    struct.pack_into(">II", page, 92, 1, 3_040_000)
    content = size
    for place, leaf in enumerate(left):
        cell = struct.pack(">I", leaf.page) + _varint(leaf.highest)
        content -= len(cell)
        if content < _FIRST_CELL + 2 * len(left):
            raise _refused(path, msg("its schema lies on {count} pages, too many for one root", count=len(leaves)))
        page[content : content + len(cell)] = cell
        struct.pack_into(">H", page, _FIRST_CELL + 2 * place, content)
    struct.pack_into(">BHHHB", page, HEAD, INNER_TABLE, 0, len(left), content % 65536, 0)
    struct.pack_into(">I", page, HEAD + 8, right.page)
    return bytes(page)


def _varint(value: int) -> bytes:
    """Up to eight bytes of seven bits each; rowids of a schema are small."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))
