"""Tables of the report, in two shapes: a table for people, lines of fixed width where there are many rows.

A table row costs the layout several milliseconds and a line less than one, so a run over a thousand
tables is told in lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from unicodedata import east_asian_width

GAP = "  "
BETWEEN = "  |  "
LETTERS = 128
"""Letters of the fixed-width font that fit in a line of the page (see report.css)."""


@dataclass(frozen=True)
class Column:
    heading: str
    kind: str = ""
    """'number', 'name' (may break anywhere), 'below' (long text in a row of its own), or nothing."""
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
    def upper(self) -> list[Column]:
        """The columns of the table proper."""
        return [column for column in self.columns if column.kind != "below"]

    @property
    def marked(self) -> list[tuple[str, list[tuple[Column, str]], list[str]]]:
        """Rows as the template walks them: class, each cell with its column, and what stands below."""
        marks = self.marks or [""] * len(self.rows)
        cells = [list(zip(self.columns, row, strict=True)) for row in self.rows]
        return [
            (mark, [c for c in row if c[0].kind != "below"], [text for column, text in row if column.kind == "below"])
            for mark, row in zip(marks, cells, strict=True)
        ]

    @property
    def lines(self) -> list[str]:
        """Heading and rows, several rows a line where they are short.

        Names come last in a row, because only they may be longer than a line.
        """
        order = sorted(range(len(self.columns)), key=lambda i: LAST.get(self.columns[i].kind, 0))
        everything = [[column.heading for column in self.columns], *self.rows]
        widths = [max(width(row[i]) for row in everything) for i in range(len(self.columns))]
        told = [GAP.join(padded(row[i], widths[i], self.columns[i].kind) for i in order).rstrip() for row in everything]
        return side_by_side(told)

    @property
    def wide(self) -> bool:
        """Chinese characters or kana are in it: only a font that has both keeps the columns straight."""
        return any(width(text) != len(text) for row in self.rows for text in row)

    @property
    def block(self) -> str:
        """All lines as one text where none is too long for the page: cheaper than a paragraph each."""
        lines = self.lines
        return "\n".join(lines[1:]) if max(map(width, lines)) <= LETTERS else ""


LAST = {"name": 1, "below": 2}


def side_by_side(lines: Sequence[str]) -> list[str]:
    """Puts as many rows into a line as fit, the heading over each column of rows."""
    longest = max(map(width, lines))
    across = max(1, (LETTERS + len(BETWEEN)) // (longest + len(BETWEEN)))
    heading, rows = lines[0], lines[1:]
    groups = [[heading] * min(across, len(rows))] + [rows[i : i + across] for i in range(0, len(rows), across)]
    return [BETWEEN.join(padded(text, longest, "") for text in group).rstrip() for group in groups]


def width(text: str) -> int:
    """Columns of a fixed-width font: a Chinese character or kana takes two."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, wanted: int, kind: str) -> str:
    space = " " * (wanted - width(text))
    return space + text if kind == "number" else text + space
