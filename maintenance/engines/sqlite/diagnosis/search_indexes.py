"""What full-text and spatial indexes say of their own health."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from ...errors import ResourceShortage
from ...messages import msg
from ...values import Finding
from ..connection import connect
from ..search_indexes import TEXT, SearchIndex, damage_of, search_indexes_in
from ..target import DatabaseFile

REBUILT, LEFT = "search_index_damaged", "search_index_lost"
"""Findings of an index that can be made again from its rows, and of one that keeps none."""


def search_index_findings(file: DatabaseFile, connection: sqlite3.Connection) -> list[Finding]:
    """Ask every index of its own health. The check of full-text indexes is a write that changes nothing: on a copy."""
    indexes = search_indexes_in(connection)
    if file.held is not None or not any(index.module in TEXT for index in indexes):
        return _findings(connection, indexes)
    try:
        copy = file.copy_to_look_at()
    except ResourceShortage:
        return []
    with closing(connect(copy)) as own:
        return _findings(own, indexes)


def _findings(connection: sqlite3.Connection, indexes: list[SearchIndex]) -> list[Finding]:
    return [_finding(index, words) for index in indexes if (words := damage_of(connection, index))]


def _finding(index: SearchIndex, words: str) -> Finding:
    hint = msg("Searches fail or miss rows. It can be made again from the rows by its own command 'rebuild'.")
    if not index.can_be_made_again:
        hint = msg(
            "Searches fail or miss rows. Only the application can fill it again: it keeps no rows to make it from."
        )
    return Finding(
        REBUILT if index.can_be_made_again else LEFT,
        "high",
        index.canonical,
        msg("The index {name} contradicts itself: {words}", name=index.name, words=words),
        hint,
    )
