"""Reads what is left of a damaged file: its schema, its trees, and the rows of the tables that are not sound."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain

from ...errors import Damaged
from ...messages import Message, msg
from ...values import Loss
from ..connection import scratch
from ..file_header import MAGIC
from ..names import canonical
from ..target import DatabaseFile
from .evidence import Witnesses, index_shapes, read_witness
from .model import Model, model_of
from .pages import LEAVES, PENDING_BYTE, Cell, PageFile, Value
from .placing import (
    Beside,
    DamagedTable,
    is_plausible,
    looks_usual,
    pages_of_others,
    place_strays,
    settle,
    take_own,
    try_indexes,
)
from .pointer_map import PointerMap, is_place_of_map, read_pointer_map
from .schema_pages import KINDS, STATISTICS, Entry, SchemaFound, read_schema
from .trees import Leaf, Tree, walk

SHOWN = 10
"""Lost rows named in the report sentence."""


@dataclass
class Remains:
    """What can be seen of a damaged file."""

    file: DatabaseFile
    source: PageFile
    rows: sqlite3.Connection
    schema: SchemaFound
    model: Model
    header: bytes
    """The 100 bytes at the beginning; zeros where they are not believed."""
    trees: dict[str, Tree] = field(default_factory=dict)
    """Folded name of a table or index -> its tree."""
    claims: dict[int, int] = field(default_factory=dict)
    """Page -> how many trees lead to it."""
    names: frozenset[Value] = frozenset()
    """What rows of the statistics may name: tables, indexes, or no index."""
    pointer_map: PointerMap = field(default_factory=lambda: PointerMap({}))


@contextmanager
def rows_file(file: DatabaseFile) -> Iterator[sqlite3.Connection]:
    """A scratch database for rows on their way; an earlier one is dropped, nothing in it is needed."""
    path = file.sides.rows
    with closing(scratch(path)) as rows:
        try:
            yield rows
        finally:
            path.unlink(missing_ok=True)


def look_at(file: DatabaseFile, source: PageFile, rows: sqlite3.Connection) -> Remains:
    schema = _with_entries_of(file, read_schema(source))
    head = source.page(1)[:100]
    believed = head[:16] == MAGIC and int.from_bytes(head[16:18], "big") % 65535 == source.size % 65535
    remains = Remains(file, source, rows, schema, model_of(schema.entries), head if believed else bytes(100))
    remains.names = frozenset((None, *(entry.name for entry in schema.entries)))
    for entry in schema.entries:
        if entry.root > 1:
            tree = walk(source, entry.root, of_table=_is_table_tree(remains.model, entry))
            remains.trees[entry.name.lower()] = tree
            _settle_statistics(remains, entry, tree)
            for page in tree.pages:
                remains.claims[page] = remains.claims.get(page, 0) + 1
    for page in schema.pages:
        remains.claims[page] = remains.claims.get(page, 0) + 1
    if any(remains.header[52:56]):
        owners = {page: tree.root for tree in remains.trees.values() for page in tree.pages}
        single = {page: root for page, root in owners.items() if remains.claims[page] == 1}
        remains.pointer_map = read_pointer_map(source, single)
    return remains


def _with_entries_of(file: DatabaseFile, schema: SchemaFound) -> SchemaFound:
    """Add what SQLite shows of the schema on pages that contradict themselves: it may be less strict."""
    if schema.whole or file.raw is not None:
        return schema
    known = {entry.key for entry in schema.entries}
    try:
        with file.working("reading the schema of", file.name) as connection:
            rows = connection.execute("SELECT type, name, tbl_name, coalesce(rootpage, 0), sql FROM sqlite_master")
            listed = [Entry(*row) for row in rows if all(isinstance(value, str) for value in row[:3])]
    except Damaged:
        return schema
    more = [entry for entry in listed if entry.kind in KINDS and entry.key not in known]
    return replace(schema, entries=(*schema.entries, *more))


def _settle_statistics(remains: Remains, entry: Entry, tree: Tree) -> None:
    """Take out of a tree the pages that are none of it: rows of a table where the statistics lie, and the reverse.

    The statistics are left behind; a table whose pages a misdirected write put there would go with them.
    """
    is_of_statistics = entry.name.lower().startswith(STATISTICS)
    known = remains.model.tables.get(entry.name.lower())
    if not is_of_statistics and (known is None or not remains.model.with_statistics):
        return
    kept: list[Leaf] = []
    for leaf in tree.leaves:
        cells = [cell for cell in remains.source.cells(leaf.page) if cell is not None]
        if known is None:
            belongs = not cells or any(_is_statistic(remains, cell) for cell in cells)
        else:
            belongs = not _are_statistics(remains, cells) or looks_usual(cells, remains.model.shape(known))
        if belongs:
            kept.append(leaf)
        elif not is_of_statistics:
            tree.gaps.append(leaf)
    if is_of_statistics and len(kept) < len(tree.leaves):
        tree.inner.clear()
    tree.leaves[:] = kept


def _are_statistics(remains: Remains, cells: Sequence[Cell | None]) -> bool:
    return bool(cells) and all(cell is not None and _is_statistic(remains, cell) for cell in cells)


def _is_statistic(remains: Remains, cell: Cell) -> bool:
    """https://sqlite.org/fileformat2.html#the_sqlite_stat1_table: a table, an index or NULL, and a number."""
    return (
        len(cell.values) in (3, 4, 6)
        and isinstance(cell.values[0], str)
        and {cell.values[0], cell.values[1]} <= remains.names
        and str(cell.values[2])[:1].isdigit()
    )


def _is_table_tree(model: Model, entry: Entry) -> bool:
    if entry.kind != "table":
        return False
    known = model.tables.get(entry.name.lower())
    return known is None or not model.shape(known).without_rowid


def looks_sound(remains: Remains, entry: Entry) -> bool:
    """Whether a table and the indexes of its constraints are whole, their pages nobody else's, and the rows its own."""
    names = [entry.name, *remains.model.constraint_indexes(entry)]
    roots = [entry.root, *(remains.model.constraint_roots.get(name.lower(), 0) for name in names[1:])]
    if not all(root > 1 and is_whole(remains, name) for root, name in zip(roots, names, strict=True)):
        return False
    shape, tree = remains.model.shape(entry), remains.trees[entry.name.lower()]
    return is_plausible(remains.source, shape, tree) and not pages_of_others(remains.source, shape, tree)


def is_whole(remains: Remains, name: str) -> bool:
    """Whether the tree of this table or index can be read from end to end, and nothing else leads to its pages."""
    tree = remains.trees.get(name.lower())
    if tree is None or tree.bad:
        return False
    return all(remains.claims[page] == 1 and remains.source.is_consistent(page) for page in tree.pages)


def gather(remains: Remains, sound: set[str], beside: Beside, suspected: set[str]) -> list[DamagedTable]:
    source, rows, model = remains.source, remains.rows, remains.model
    damaged = [_damaged(remains, entry, n) for n, (name, entry) in enumerate(model.tables.items()) if name not in sound]
    rows.execute("BEGIN")
    strays = unclaimed(remains)
    disputed = {page for page, count in remains.claims.items() if count > 1}
    foreign: set[int] = set()
    for table in damaged:
        table.suspected = table.name.lower() in suspected
        remains.file.raise_if_stopping("reading", table.name)
        others = (leaf.page for other in damaged if other is not table for leaf in other.tree.leaves)
        try_indexes(source, table, chain(strays, others))
    settled = settle(source, damaged, disputed, remains.pointer_map)
    for table in damaged:
        remains.file.raise_if_stopping("reading", table.name)
        rivals = [other for other in damaged if other is not table]
        foreign.update(take_own(source, rows, table, rivals, beside, settled))
    unparsed = any(entry.kind == "table" for entry in model.unparsed)
    unknown = unparsed or not remains.schema.whole
    doubtful = set(strays) if unknown or not _knows_free(remains) else set()
    place_strays(
        source,
        rows,
        sorted({*strays, *foreign}),
        damaged,
        beside,
        doubtful,
        {page: root for page in strays if (root := remains.pointer_map.root_above(page)) is not None},
        keys_too=unknown or any(table.shape.without_rowid for table in damaged),
    )
    rows.execute("COMMIT")
    return damaged


def unclaimed(remains: Remains) -> list[int]:
    """Pages that no tree leads to, of tables whose definition is lost too, and none that is known to be free."""
    source, model = remains.source, remains.model
    claimed = set(remains.schema.pages)
    unknown = {entry.name.lower() for entry in model.unparsed if entry.kind == "table"}
    for name, tree in remains.trees.items():
        if name not in unknown:
            claimed |= tree.pages
    free = source.free_pages().pages if _knows_free(remains) else frozenset[int]()
    found = [
        number
        for number in range(2, source.count + 1)
        if number not in claimed
        and number not in free
        and not remains.pointer_map.is_free(number)
        and not _is_map(remains, number)
    ]
    # Statistics are collected again, wherever they lie.
    return [
        number for number in found if not (model.with_statistics and _are_statistics(remains, [*source.cells(number)]))
    ]


def _knows_free(remains: Remains) -> bool:
    """Whether the list of free pages can be believed."""
    return any(remains.header) and remains.source.free_pages().sound


def _is_map(remains: Remains, number: int) -> bool:
    """Pages that say what leads to others, in files with auto_vacuum; and the one with the lock bytes."""
    source = remains.source
    if number == PENDING_BYTE // source.size + 1:
        return True
    if not any(remains.header[52:56]) or not is_place_of_map(source, number):
        return False
    return not (source.kind(number) in LEAVES and source.is_consistent(number))


def _damaged(remains: Remains, entry: Entry, number: int) -> DamagedTable:
    shape = remains.model.shape(entry)
    tree = remains.trees.get(entry.name.lower(), Tree(gaps=[Leaf(entry.root, None, None)]))
    roots = dict(remains.model.constraint_roots)
    roots |= {index.name.lower(): index.root for index in remains.model.indexes.get(entry.name.lower(), ())}
    witnesses = Witnesses(remains.rows, shape)
    for place, index in enumerate(index_shapes(remains.model.connection, entry.name, shape, roots)):
        of_index = remains.trees.get(index.name.lower(), Tree(gaps=[Leaf(index.root, None, None)]))
        disputed = any(remains.claims[page] > 1 for page in of_index.pages)
        name = f"known_{number}_{place}"
        witnesses.indexes.append(read_witness(remains.source, remains.rows, name, shape, index, of_index, disputed))
    return DamagedTable(entry.name, shape, tree, witnesses, f"found_{number}")


def loss_of(remains: Remains, table: DamagedTable) -> Loss | None:
    """None only where an index proves that every row is there, and nothing speaks against it."""
    rows, name = remains.rows, canonical(table.name)
    pages = tuple(sorted({page for page in table.lost_pages if page}))
    kept = int(rows.execute(f"SELECT count(*) FROM {table.scratch}").fetchone()[0])
    complete = table.witnesses.complete
    if not complete:
        if not pages and not table.unread and not table.aside and not table.suspected:
            return None
        detail = msg(
            "{kept:,} rows were found, {cells} records could not be read, no intact index tells how many there were. "
            "{stray} rows come from pages that belonged to no table any more and may have been deleted before; "
            "{unclear} more were left out because they may belong to another damaged table.",
            kept=kept,
            cells=table.unread,
            stray=table.stray,
            unclear=table.aside,
        )
        return Loss(name, None, pages, detail)
    known = " UNION ".join(f"SELECT id FROM {index.table}" for index in complete)
    expected = int(rows.execute(f"SELECT count(*) FROM ({known})").fetchone()[0])
    missing = f"SELECT id FROM ({known}) EXCEPT SELECT id FROM {table.scratch}"
    lost = int(rows.execute(f"SELECT count(*) FROM ({missing})").fetchone()[0])
    alone = int(
        rows.execute(
            f"SELECT count(*) FROM (SELECT id FROM {table.scratch} EXCEPT SELECT * FROM ({known}))"
        ).fetchone()[0]
    )
    if (alone and (pages or lost)) or table.contradicting:
        return Loss(name, None, pages, _doubt(lost, alone, table.contradicting))
    if lost:
        first = [] if table.shape.without_rowid else rows.execute(f"{missing} ORDER BY 1 LIMIT {SHOWN}").fetchall()
        return Loss(name, lost, pages, _said(lost, expected, [int(row[0]) for row in first]))
    if table.aside:
        return Loss(
            name,
            0,
            pages,
            msg(
                "{count:,} rows that the indexes do not know or the constraints do not allow are in the table no more",
                count=table.aside,
            ),
        )
    return None


def _doubt(lost: int, alone: int, contradicting: int) -> Message:
    return msg(
        "{lost:,} rows that an intact index knows cannot be read; {alone:,} rows that were found are in no index and "
        "{contradicting:,} contradict one, so that the indexes do not prove that every row was found. They are kept.",
        lost=lost,
        alone=alone,
        contradicting=contradicting,
    )


def _said(lost: int, expected: int, first: list[int]) -> Message:
    if not first:
        return msg(
            "{lost:,} of {expected:,} rows that an intact index knows cannot be read.", lost=lost, expected=expected
        )
    return msg(
        "{lost:,} of {expected:,} rows that an intact index knows cannot be read, the first with rowid {first}.",
        lost=lost,
        expected=expected,
        first=", ".join(str(number) for number in first),
    )
