"""Puts rows into a table byte for byte, text that is not valid included."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby

from .pages import RawText

Row = Sequence[object]


def insert_rows(connection: sqlite3.Connection, head: str, rows: Iterable[Row]) -> None:
    """Insert each row by `head`, the statement up to VALUES.

    The driver takes no text that is not valid: it is bound as the bytes it stands for, and made text by SQLite.
    """
    for places, alike in groupby(rows, _invalid):
        batch = list(alike)
        marks = ", ".join("CAST(? AS TEXT)" if place in places else "?" for place in range(len(batch[0])))
        connection.executemany(f"{head} VALUES ({marks})", [_bound(row, places) for row in batch] if places else batch)


def _invalid(row: Row) -> frozenset[int]:
    """Which values are text that is not valid: as its bytes, or read as lone surrogates."""
    return frozenset(
        place
        for place, value in enumerate(row)
        if isinstance(value, RawText)
        or (isinstance(value, str) and not value.isascii() and any("\udc80" <= letter <= "\udcff" for letter in value))
    )


def _bound(row: Row, places: frozenset[int]) -> Row:
    return [
        value.encode("utf-8", "surrogateescape") if place in places and isinstance(value, str) else value
        for place, value in enumerate(row)
    ]
