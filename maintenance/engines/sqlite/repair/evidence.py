"""What the indexes of a table know of its rows: the second witness beside the pages of the table itself.

Each index is read page by page. It is believed only where its own pages are whole, and where it agrees with most rows.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ..names import quoted
from .pages import Cell, PageFile, RawText, Value
from .shape import Shape
from .trees import Tree

BATCH = 5000
MIXED = 1 << 63


@dataclass(frozen=True)
class IndexShape:
    """Which values of a record of the table stand where in a record of the index.

    `places`: for each value of an index record its place in a record of the table; None for the rowid, -1 for an
    expression.
    """

    name: str
    root: int
    partial: bool
    places: tuple[int | None, ...]


@dataclass
class Witness:
    """One index. `whole`: all of its pages were read; `agreeing` and `contradicting` rows were counted."""

    shape: IndexShape
    table: str
    whole: bool
    agreeing: int = 0
    contradicting: int = 0
    trusted: bool = False
    entries: int = 0


@dataclass
class Testimony:
    """What the trusted indexes say of one row."""

    agreeing: int = 0
    contradicting: int = 0
    unknown: int = 0

    @property
    def for_it(self) -> bool:
        return self.agreeing > self.contradicting

    @property
    def against_it(self) -> bool:
        return self.contradicting > self.agreeing


@dataclass
class Witnesses:
    """All indexes of one table, their entries in scratch tables."""

    rows: sqlite3.Connection
    shape: Shape
    indexes: list[Witness] = field(default_factory=list)

    @property
    def trusted(self) -> list[Witness]:
        return [index for index in self.indexes if index.trusted]

    @property
    def complete(self) -> list[Witness]:
        """Those that should know every row."""
        return [index for index in self.trusted if not index.shape.partial]

    def testimony(self, cell: Cell, key: int) -> Testimony:
        told = Testimony()
        for index in self.trusted:
            self._ask(index, cell, key, told)
        return told

    def try_out(self, own: Iterable[tuple[Cell, int]], elsewhere: Iterable[tuple[Cell, int]]) -> None:
        """Settle which indexes are to be trusted: those that agree with most rows of the table that they know.

        One that agrees with none of them, because they are gone or of another table, has to agree with so many
        `elsewhere` that they are most of its entries.
        """
        self._count(own, self.indexes)
        for index in self.indexes:
            index.trusted = index.whole and index.agreeing > 9 * index.contradicting
        apart = [index for index in self.indexes if index.whole and not index.agreeing]
        if apart:
            self._count(elsewhere, apart)
        for index in apart:
            index.trusted = 2 * index.agreeing >= index.entries

    def _count(self, cells: Iterable[tuple[Cell, int]], indexes: Sequence[Witness]) -> None:
        for cell, key in cells:
            for index in indexes:
                told = Testimony()
                self._ask(index, cell, key, told)
                index.agreeing += told.agreeing
                index.contradicting += told.contradicting

    def _ask(self, index: Witness, cell: Cell, key: int, told: Testimony) -> None:
        known = self.rows.execute(f"SELECT digest FROM {index.table} WHERE id = ?", (key,)).fetchone()
        if known is None:
            told.unknown += not index.shape.partial
        elif known[0] == entry_of(cell, index.shape, self.shape):
            told.agreeing += 1
        else:
            told.contradicting += 1


def read_witness(
    source: PageFile, rows: sqlite3.Connection, table: str, shape: Shape, index: IndexShape, tree: Tree, disputed: bool
) -> Witness:
    """Collect the entries of an index into the scratch table of this name. `disputed`: its pages are claimed twice."""
    rows.execute(f"DROP TABLE IF EXISTS {table}")
    rows.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, digest INTEGER)")
    witness = Witness(index, table, whole=not tree.bad and not disputed)
    entries = _entries(source, shape, index, tree, witness)
    while batch := list(islice(entries, BATCH)):
        rows.executemany(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", batch)
        witness.entries += len(batch)
    return witness


def _entries(
    source: PageFile, shape: Shape, index: IndexShape, tree: Tree, witness: Witness
) -> Iterator[tuple[int, int]]:
    for leaf in tree.leaves:
        witness.whole = witness.whole and source.is_consistent(leaf.page)
        for cell in source.cells(leaf.page):
            key = None if cell is None or cell.doubtful else _key_of_entry(cell, shape, index)
            if cell is None or key is None:
                witness.whole = False
                continue
            yield (
                key,
                digest([cell.values[n] for n, place in enumerate(index.places) if place is not None and place >= 0]),
            )


def _key_of_entry(cell: Cell, shape: Shape, index: IndexShape) -> int | None:
    if len(cell.values) != len(index.places):
        return None
    if not shape.without_rowid:
        rowid = cell.values[-1]
        return rowid if isinstance(rowid, int) else None
    places = {place: n for n, place in enumerate(index.places)}
    if any(place not in places for place in range(len(shape.key))):
        return None
    return digest([cell.values[places[place]] for place in range(len(shape.key))])


def entry_of(cell: Cell, index: IndexShape, shape: Shape) -> int:
    """The digest that a right entry for this row would have."""
    return digest([_value(cell, place, shape) for place in index.places if place is not None and place >= 0])


def _value(cell: Cell, place: int, shape: Shape) -> Value:
    if place == shape.alias_place:
        return cell.rowid
    if place < len(cell.values):
        return cell.values[place]
    return shape.default_at(place)


def key_of(cell: Cell, shape: Shape) -> int | None:
    """What tells the row from all others: its rowid, or a digest of its primary key."""
    if not shape.without_rowid:
        return cell.rowid
    if cell.rowid is not None or len(cell.values) < len(shape.key):
        return None
    return digest(cell.values[: len(shape.key)])


def digest(values: Sequence[Value]) -> int:
    """64 bits of what stands there. A whole number is the same as integer and as real."""
    hashed = hashlib.blake2b(digest_size=8)
    for value in values:
        if isinstance(value, float) and value.is_integer() and abs(value) < MIXED:
            value = int(value)
        if isinstance(value, str):
            value = RawText(value.encode("utf-8", "surrogateescape"))
        hashed.update(f"{type(value).__name__}:{value!r};".encode())
    return int.from_bytes(hashed.digest(), "big", signed=True)


def index_shapes(model: sqlite3.Connection, table: str, shape: Shape, roots: dict[str, int]) -> list[IndexShape]:
    """`roots`: name of an index, folded -> its root. Those of the key of a table WITHOUT ROWID are the table itself."""
    found = []
    for _, name, _, origin, partial in model.execute(f"PRAGMA index_list({quoted(table)})").fetchall():
        if shape.without_rowid and origin == "pk":
            continue
        columns = model.execute(f"PRAGMA index_xinfo({quoted(str(name))})").fetchall()
        places = tuple(None if c[1] == -1 else -1 if c[1] < 0 else shape.place_of_column(c[1]) for c in columns)
        root = roots.get(str(name).lower())
        if root:
            found.append(IndexShape(str(name), root, bool(partial), places))
    return found
