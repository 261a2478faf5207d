"""Reads the schema of a file from its pages, also where SQLite cannot read it (https://sqlite.org/schematab.html)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .pages import LEAF_TABLE, Cell, PageFile, RawText, Value
from .trees import walk

KINDS = frozenset(("table", "index", "view", "trigger"))
STATISTICS = "sqlite_stat"


@dataclass(frozen=True)
class Entry:
    """One row of the schema. `sql` is None for the index of a constraint."""

    kind: str
    name: str
    table: str
    root: int
    sql: str | None

    @property
    def is_virtual(self) -> bool:
        return self.kind == "table" and self.root == 0

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name.lower()


@dataclass(frozen=True)
class SchemaFound:
    """`whole` when the tree of the schema could be read from end to end."""

    entries: tuple[Entry, ...]
    whole: bool
    pages: frozenset[int]


def read_schema(source: PageFile) -> SchemaFound:
    """Return every entry once: those of the tree first, then those on pages that nothing leads to any more."""
    tree = walk(source, 1, of_table=True)
    pages = {leaf.page for leaf in tree.leaves} | set(tree.inner)
    rows = [cell for leaf in tree.leaves for cell in source.cells(leaf.page)]
    found = _entries(rows, source.count)
    whole = not tree.bad and len(found) == len(rows) and all(source.is_consistent(page) for page in pages)
    if not whole:
        for number in range(2, source.count + 1):
            if number not in pages and source.kind(number) == LEAF_TABLE:
                rows = list(source.cells(number))
                more = _entries(rows, source.count)
                if more and 2 * len(more) >= len(rows):
                    pages.add(number)
                    found += more
    unique: dict[tuple[str, str], Entry] = {}
    for entry in found:
        unique.setdefault(entry.key, entry)
    return SchemaFound(tuple(unique.values()), whole, frozenset(pages))


def _entries(rows: Iterable[Cell | None], pages: int) -> list[Entry]:
    return [entry for cell in rows if cell is not None for entry in _entry(cell, pages)]


def _entry(cell: Cell, pages: int) -> Iterator[Entry]:
    if len(cell.values) != 5 or cell.rowid is None:
        return
    kind, name, table, root, sql = (_text(value) for value in cell.values)
    if not (isinstance(kind, str) and kind in KINDS and isinstance(name, str) and isinstance(table, str)):
        return
    if not (sql is None or (isinstance(sql, str) and sql.lstrip()[:6].upper() == "CREATE")):
        return
    root = root if isinstance(root, int) and root >= 0 else 0 if root is None else pages + 1
    yield Entry(kind, name, table, root, sql)


def _text(value: Value) -> Value:
    """Text that is not valid as lone surrogates, as connections of ours read it."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, RawText) else value
