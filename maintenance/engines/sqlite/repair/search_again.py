"""Makes full-text indexes again of whose tables rows were lost: they would lead to rows that are there no more."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator

from ...messages import msg
from ...values import Loss
from ..names import canonical, tables_in
from ..search_indexes import SearchIndex, agrees_with_rows, damage_of, make_again, search_indexes_in


def make_search_again(work: sqlite3.Connection, lost: Collection[str]) -> list[Loss]:
    """Return what is another table now, without a row of the application's lost. `lost`: tables that lost rows.

    An index that keeps no rows to make it from stays as it is, and is told.
    """
    return [loss for index in search_indexes_in(work) for loss in _again(work, index, lost)]


def _again(work: sqlite3.Connection, index: SearchIndex, lost: Collection[str]) -> Iterator[Loss]:
    behind = [table.name for table in tables_in(work).values() if index.is_behind(table.name)]
    content = (index.content or "").lower()
    if not any(name.lower() == content or name in behind for name in lost):
        return
    detail = msg("the search index {name} was made again from its rows", name=index.name)
    try:
        if index.can_be_made_again and agrees_with_rows(work, index):
            return
        if index.can_be_made_again:
            make_again(work, index)
        elif damage_of(work, index):
            detail = msg(
                "the search index {name} contradicts itself, and nothing is there to make it from", name=index.name
            )
        else:
            return
    except sqlite3.Error as error:
        detail = msg("the search index {name} cannot be made again: {words}", name=index.name, words=str(error))
    for name in behind:
        if name not in lost:
            yield Loss(canonical(name), 0, (), detail)
