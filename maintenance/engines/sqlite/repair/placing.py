"""Decides to which table the rows of each page belong.

A page that a tree leads to may be one of another table: misdirected writes and wrong pointers leave such. What the
indexes know, the types of the schema and the rowids that the inner pages allow tell them apart. What stays in doubt is
put into no table: it is kept beside them.
"""

from __future__ import annotations

import marshal
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from .evidence import Witnesses, key_of
from .pages import LEAF_TABLE, Cell, PageFile, RawText, Unreadable, Value
from .pointer_map import PointerMap
from .shape import Shape, fits, is_usual, likeness, row_of
from .trees import Leaf, Tree

SAMPLED = 200
"""Pages by which an index is tried out."""


@dataclass
class DamagedTable:
    """A table that has to be put together again, and what was seen of it."""

    name: str
    shape: Shape
    tree: Tree
    witnesses: Witnesses
    scratch: str
    """Name of the scratch table that takes its rows."""
    suspected: bool = False
    """SQLite finds nothing wrong with it, but rows that look like its own lie on pages that nothing leads to."""
    usual: bool = True
    """Whether its rows are such as the types of its columns let expect."""
    gaps: list[Leaf] = field(default_factory=list)
    """Where the tree leads to pages that are gone or not its own, and which rowids are missing there."""
    lost_pages: list[int] = field(default_factory=list)
    """Pages of the tree that are gone, or hold what belongs elsewhere."""
    unread: int = 0
    """Records that do not follow the format, and pages whose header contradicts what is on them."""
    contradicting: int = 0
    """Rows kept although an index says otherwise."""
    aside: int = 0
    """Rows on its pages that are in no table now, but beside them."""
    stray: int = 0
    """Rows from pages that nothing led to."""

    @property
    def misses_pages(self) -> bool:
        return bool(self.lost_pages or self.unread or self.suspected)


class Beside:
    """The rows that belong to no table for certain."""

    def __init__(self, rows: sqlite3.Connection) -> None:
        self.rows = rows
        self.widest = 0
        self.known: Callable[[Cell], bool] = lambda cell: False
        """Whether a row is in a table already: then nobody misses it here."""
        rows.execute("DROP TABLE IF EXISTS beside")
        rows.execute("CREATE TABLE beside (root, page, nfield, id, row BLOB)")

    def put(self, cell: Cell, root: int | None) -> None:
        if self.known(cell):
            return
        self.widest = max(self.widest, len(cell.values))
        values = (root, cell.page, len(cell.values), cell.rowid, packed(cell.values))
        self.rows.execute("INSERT INTO beside VALUES (?, ?, ?, ?, ?)", values)

    @property
    def count(self) -> int:
        return int(self.rows.execute("SELECT count(*) FROM beside").fetchone()[0])


def packed(values: Sequence[Value]) -> bytes:
    """One value for a row, whatever the number of its columns."""
    return marshal.dumps([(bytes(v),) if isinstance(v, RawText) else v for v in values])


def unpacked(row: bytes) -> list[Value]:
    return [RawText(v[0]) if isinstance(v, tuple) else v for v in marshal.loads(row)]  # noqa: S302 - our own scratch file


def try_indexes(source: PageFile, table: DamagedTable, elsewhere: Iterable[int]) -> None:
    """Settle which indexes of the table are to be believed, by rows spread over its pages, and those `elsewhere`."""
    own = (leaf.page for leaf in sample(table.tree))
    table.witnesses.try_out(_fitting(source, table.shape, own), _fitting(source, table.shape, elsewhere))
    contradicted = any(index.whole and index.entries and not index.agreeing for index in table.witnesses.indexes)
    table.usual = contradicted or is_plausible(source, table.shape, table.tree)


def is_plausible(source: PageFile, shape: Shape, tree: Tree) -> bool:
    """Whether most rows of a tree, of some spread over it, are such as the types of the columns let expect."""
    return looks_usual(sampled(source, tree), shape)


def sampled(source: PageFile, tree: Tree) -> list[Cell]:
    """Return the rows of some pages, spread over the tree."""
    return [cell for leaf in sample(tree) for cell in source.cells(leaf.page) if cell is not None]


def sample(tree: Tree) -> Iterator[Leaf]:
    """Return leaves spread over the tree."""
    return islice(tree.leaves, 0, None, max(1, len(tree.leaves) // SAMPLED))


def pages_of_others(source: PageFile, shape: Shape, tree: Tree) -> list[int]:
    """Return the pages of a tree most of whose rows do not fit the table: misdirected writes leave such."""
    return [leaf.page for leaf in tree.leaves if _is_of_another(list(source.cells(leaf.page)), shape)]


def _is_of_another(cells: Sequence[Cell | None], shape: Shape) -> bool:
    rows = [cell for cell in cells if cell is not None]
    return 2 * sum(not fits(cell, shape) for cell in rows) > len(rows)


def looks_usual(cells: Sequence[Cell], shape: Shape) -> bool:
    """Whether most rows are such as the types of the columns let expect."""
    return 2 * sum(fits(cell, shape) and is_usual(cell, shape) for cell in cells) >= len(cells)


def _fitting(source: PageFile, shape: Shape, pages: Iterable[int]) -> Iterator[tuple[Cell, int]]:
    for page in pages:
        for cell in source.cells(page):
            key = key_of(cell, shape) if cell is not None and fits(cell, shape) else None
            if cell is not None and key is not None:
                yield cell, key


def take_own(
    source: PageFile,
    rows: sqlite3.Connection,
    table: DamagedTable,
    rivals: Sequence[DamagedTable],
    beside: Beside,
    settled: Mapping[int, DamagedTable | None],
) -> list[int]:
    """Take the rows of the pages that the tree of the table leads to; return the pages that are not its own.

    `settled`: of which table the pages are that several trees lead to, None where that cannot be told.
    """
    rows.execute(f"DROP TABLE IF EXISTS {table.scratch}")
    rows.execute(f"CREATE TABLE {table.scratch} (id INTEGER PRIMARY KEY, rowid_ INTEGER, page INTEGER, row BLOB)")
    foreign: list[int] = []
    table.lost_pages += table.tree.bad
    table.gaps += table.tree.gaps
    table.unread += sum(not source.is_consistent(page) for page in table.tree.inner)
    for leaf in table.tree.leaves:
        cells = list(source.cells(leaf.page))
        if _is_foreign(cells, table, rivals, leaf, settled.get(leaf.page, table)):
            foreign.append(leaf.page)
            table.gaps.append(leaf)
            table.lost_pages.append(leaf.page)
            continue
        whole = source.is_consistent(leaf.page)
        if not whole:
            table.unread += 1
        for cell, in_order in zip(cells, _in_order(cells, leaf, table.shape), strict=True):
            if cell is None:
                table.unread += 1
            else:
                inside = cell.rowid is None or leaf.holds(cell.rowid)
                _take(rows, table, cell, beside, certain=whole and in_order, inside=inside)
    return foreign


def _is_foreign(
    cells: Sequence[Cell | None],
    table: DamagedTable,
    rivals: Sequence[DamagedTable],
    leaf: Leaf,
    owner: DamagedTable | None,
) -> bool:
    """Whether most of what is on a page speaks against its being one of this table."""
    disputed = owner is not table
    readable = [cell for cell in cells if cell is not None]
    if not readable:
        return False
    known, denied = _told(readable, table)
    if known or denied:
        return denied > known
    mine = _share(readable, table)
    if any(2 * _share(readable, rival) > 1 + mine for rival in rivals):
        return True
    if mine < 0.5 and (table.usual or 2 * sum(fits(cell, table.shape) for cell in readable) < len(readable)):
        return True
    if table.shape.without_rowid:
        return disputed
    inside = sum(cell.rowid is not None and leaf.holds(cell.rowid) for cell in readable)
    return disputed or 2 * inside < len(readable)


def settle(
    source: PageFile, tables: Sequence[DamagedTable], disputed: Iterable[int], pointer_map: PointerMap
) -> dict[int, DamagedTable | None]:
    """Return for each page that several trees lead to the one table that it is of, None where that cannot be told.

    The pointer map tells, or the rowids: an inner page says which of them may lie below, and mostly the highest.
    """
    settled: dict[int, DamagedTable | None] = {}
    for page in disputed:
        claims = [(table, leaf) for table in tables for leaf in table.tree.leaves if leaf.page == page]
        root = pointer_map.root_above(page)
        named = [table for table, _ in claims if table.tree.root == root]
        if not named:
            fitting = [(_ends_met(source, page, leaf), table) for table, leaf in claims]
            most = max((ends for ends, _ in fitting), default=-1)
            named = [table for ends, table in fitting if ends == most >= 0]
        settled[page] = named[0] if len(named) == 1 else None
    return settled


def _ends_met(source: PageFile, page: int, leaf: Leaf) -> int:
    """How many of the two ends of the range of a leaf its rows reach; -1 where one lies outside."""
    rowids = [cell.rowid for cell in source.cells(page) if cell is not None and cell.rowid is not None]
    if not rowids or not all(leaf.holds(rowid) for rowid in rowids):
        return -1
    return (leaf.low is not None and rowids[0] == leaf.low + 1) + (leaf.high is not None and rowids[-1] == leaf.high)


def _share(cells: Sequence[Cell], table: DamagedTable) -> float:
    """The share of rows that are as such a table usually has them."""
    return sum(fits(cell, table.shape) and is_usual(cell, table.shape) for cell in cells) / len(cells)


def _told(cells: Iterable[Cell], table: DamagedTable) -> tuple[int, int]:
    """Return how many of the rows the indexes know as they are, and how many they know otherwise."""
    known = denied = 0
    for cell in cells:
        key = key_of(cell, table.shape)
        if key is not None:
            told = table.witnesses.testimony(cell, key)
            known += told.for_it
            denied += told.against_it
    return known, denied


def _in_order(cells: Sequence[Cell | None], leaf: Leaf, shape: Shape) -> list[bool]:
    """For each cell whether its rowid lies where it may, above all before it and below all after it."""
    if shape.without_rowid:
        return [True] * len(cells)
    rowids = [cell.rowid for cell in cells if cell is not None and cell.rowid is not None]
    below = list(_running(rowids, max))
    above = list(_running(rowids[::-1], min))[::-1]
    good: list[bool] = []
    place = 0
    for cell in cells:
        if cell is None or cell.rowid is None:
            good.append(False)
            continue
        before = place == 0 or below[place - 1] < cell.rowid
        after = place == len(rowids) - 1 or cell.rowid < above[place + 1]
        good.append(leaf.holds(cell.rowid) and (before or after))
        place += 1
    return good


def _running(numbers: Sequence[int], better: object) -> Iterator[int]:
    best: int | None = None
    for number in numbers:
        best = number if best is None else better(best, number)  # type: ignore[operator]
        yield best


def _take(
    rows: sqlite3.Connection,
    table: DamagedTable,
    cell: Cell,
    beside: Beside,
    certain: bool,
    inside: bool = True,
) -> None:
    """Put one row into its table; beside it where something speaks against it, or another row has its key.

    `inside`: the inner pages allow its rowid where it lies. Where they do not, only an index can speak for it.
    """
    key = key_of(cell, table.shape)
    if key is None or len(cell.values) > table.shape.record_length or not cell.values:
        table.aside += 1
        beside.put(cell, None)
        return
    told = table.witnesses.testimony(cell, key)
    likely = told.agreeing or (inside and not table.witnesses.complete and fits(cell, table.shape))
    if cell.doubtful or (not certain and (told.against_it or not likely)):
        table.aside += 1
        beside.put(cell, None)
        return
    row = packed(cell.values)
    known = rows.execute(f"SELECT page, row FROM {table.scratch} WHERE id = ?", (key,)).fetchone()
    if known is not None:
        if known[1] == row:
            return
        other = Cell(known[0], cell.rowid, tuple(unpacked(known[1])))
        table.aside += 1
        if not told.for_it or table.witnesses.testimony(other, key).for_it:
            beside.put(cell, None)
            return
        beside.put(other, None)
        rows.execute(f"DELETE FROM {table.scratch} WHERE id = ?", (key,))
    table.contradicting += bool(told.contradicting)
    rows.execute(f"INSERT INTO {table.scratch} VALUES (?, ?, ?, ?)", (key, cell.rowid, cell.page, row))


def place_strays(
    source: PageFile,
    rows: sqlite3.Connection,
    pages: Sequence[int],
    tables: Sequence[DamagedTable],
    beside: Beside,
    doubtful: frozenset[int] | set[int],
    told: Mapping[int, int],
    keys_too: bool,
) -> None:
    """Give the rows of each page to the one table that they fit best; of `doubtful` pages only what an index knows.

    Doubtful are pages that may hold deleted rows. `told`: page -> root of the tree that a pointer map says leads to it.
    `keys_too`: rows may lie on pages of an index, as those of a table
    WITHOUT ROWID do whose definition is lost.
    """
    roots = {table.tree.root: table for table in tables}
    for number in pages:
        try:
            kind = source.kind(number)
            cells = list(source.cells(number))
        except Unreadable:
            continue
        readable = [cell for cell in cells if cell is not None]
        if not readable:
            continue
        whole = source.is_consistent(number) and len(readable) == len(cells)
        owner = roots.get(told.get(number, 0))
        if owner is not None and likeness(cells, owner.shape):
            best: DamagedTable | None = owner
        else:
            best = _best(readable, tables, whole, number in doubtful)
        if best is not None:
            for cell in readable:
                before = best.aside
                _take(rows, best, cell, beside, certain=whole)
                best.stray += best.aside == before
        elif kind == LEAF_TABLE or keys_too:
            for cell in readable:
                beside.put(cell, None)


def suspects(source: PageFile, strays: Iterable[int], shapes: dict[str, Shape]) -> set[str]:
    """Return the tables that rows on pages that nothing leads to look like."""
    found: set[str] = set()
    for page in strays:
        cells = list(source.cells(page))
        found |= {name for name, shape in shapes.items() if name not in found and likeness(cells, shape) == 2}
    return found


def _best(cells: Sequence[Cell], tables: Sequence[DamagedTable], whole: bool, doubtful: bool) -> DamagedTable | None:
    scores = [(_score(cells, table, whole), table) for table in tables if table.misses_pages]
    top = max((score for score, _ in scores), default=0)
    if not top or (doubtful and top < 3):
        return None
    best = [table for score, table in scores if score == top]
    if len(best) > 1:
        best = [table for table in best if _fills_a_gap(cells, table)]
    return best[0] if len(best) == 1 else None


def _fills_a_gap(cells: Sequence[Cell], table: DamagedTable) -> bool:
    """Whether the tree misses rows with just such rowids somewhere, as far as that is known.

    Keys of a table WITHOUT ROWID tell nothing, nor do inner pages that cannot be read or may be of another table.
    """
    if table.shape.without_rowid or table.suspected or table.unread:
        return True
    return any(all(cell.rowid is not None and gap.holds(cell.rowid) for cell in cells) for gap in table.gaps)


def _score(cells: Sequence[Cell], table: DamagedTable, whole: bool) -> int:
    """3: an index knows the rows; 2: as such a table usually has them; 1: they could be of it; 0: no."""
    like = likeness(cells, table.shape)
    if not like:
        return 0
    if like == 1 and table.usual:
        return 0
    known, denied = _told(cells, table)
    if denied > known:
        return 0
    if 2 * known >= len(cells):
        return 3
    return like if whole and not (table.suspected and table.witnesses.complete) else 0


def rows_of(rows: sqlite3.Connection, table: DamagedTable) -> Iterator[tuple[Cell, tuple[Value, ...]]]:
    """Return what was taken, as the record it was and as an INSERT names it."""
    for rowid, page, row in rows.execute(f"SELECT rowid_, page, row FROM {table.scratch} ORDER BY id"):
        cell = Cell(page, rowid, tuple(unpacked(row)))
        yield cell, row_of(cell, table.shape)
