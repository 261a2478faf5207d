"""Tables whose pages hold rows of another one: a misdirected write left them there, and SQLite itself reads on.

Only asked where something else is damaged: it needs a copy of the file, which is read page by page.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ...errors import Damaged, ResourceShortage
from ...messages import Message, msg
from ..backup import image_copy
from ..names import Table
from ..repair.pages import PageFile, Unreadable
from ..repair.placing import sample
from ..repair.shape import Shape, shape_of
from ..repair.trees import walk
from ..target import DatabaseFile

SHOWN = 10


def strangers(file: DatabaseFile, connection: sqlite3.Connection, tables: Sequence[Table]) -> dict[str, Message]:
    """Return canonical names of the tables with pages most of whose rows cannot be theirs."""
    found: dict[str, Message] = {}
    try:
        copy = image_copy(file) if file.held is not None else file.copy_to_look_at()
        with PageFile(copy) as source:
            for table in tables:
                shape = shape_of(connection, table)
                tree = walk(source, table.root, of_table=not shape.without_rowid)
                strange = [leaf.page for leaf in sample(tree) if _is_strange(source, leaf.page, shape)]
                if strange:
                    pages = ", ".join(str(page) for page in strange[:SHOWN])
                    found[table.canonical] = msg("rows of another table lie in its pages {pages}", pages=pages)
    except (Damaged, ResourceShortage, Unreadable, sqlite3.Error):
        pass  # what else is damaged is told anyhow
    return found


def _is_strange(source: PageFile, page: int, shape: Shape) -> bool:
    rows = [cell for cell in source.cells(page) if cell is not None]
    return 2 * sum(shape.excludes(cell) for cell in rows) > len(rows)
