"""Tables of the report, in two shapes: a table for people, lines of fixed width where there are many rows.

A table row costs the layout several milliseconds and a line less than one, so a run over a thousand
tables is told in lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from unicodedata import east_asian_width

GAP = "  "


@dataclass(frozen=True)
class Column:
    heading: str
    kind: str = ""
    """Class of the cells: 'number', 'name' (may break anywhere), or nothing."""
    width: int | None = None
    """Share of the page in percent; None for what is left."""


@dataclass(frozen=True)
class Sheet:
    """`marks` holds, row by row, a class for rows that need a look; '' for the others."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    marks: Sequence[str] = field(default=())
    dense: bool = False

    @property
    def marked(self) -> list[tuple[str, list[tuple[Column, str]]]]:
        """Rows as the template walks them: class, then each cell with its column."""
        marks = self.marks or [""] * len(self.rows)
        return [(m, list(zip(self.columns, row, strict=True))) for m, row in zip(marks, self.rows, strict=True)]

    @property
    def lines(self) -> list[str]:
        """Heading and rows; names come last in a line, because only they may be longer than it."""
        order = sorted(range(len(self.columns)), key=lambda i: self.columns[i].kind == "name")
        all_rows = [[column.heading for column in self.columns], *self.rows]
        widths = [max(width(row[i]) for row in all_rows) for i in range(len(self.columns))]
        return [
            GAP.join(padded(row[i], widths[i], self.columns[i].kind) for i in order).rstrip() for row in all_rows
        ]


def width(text: str) -> int:
    """Columns of a fixed-width font: a Chinese character or kana takes two."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, wanted: int, kind: str) -> str:
    space = " " * (wanted - width(text))
    if kind == "name":
        return text
    return space + text if kind == "number" else text + space
