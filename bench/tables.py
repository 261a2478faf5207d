"""Tables on the terminal, and as Markdown for documents."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .figures import Row

HEADINGS = ("", "median", "least … most", "at most", "")
DIGITS = {"s": 2, "×": 2, "MB": 0, "ms": 0, "rows": 0}


def number(value: float, unit: str) -> str:
    return f"{value:,.{DIGITS[unit]}f} {unit}"


def cells(row: Row) -> tuple[str, ...]:
    """The texts of one row, in the order of HEADINGS."""
    measured = row.measured
    holds = {None: "", True: "holds", False: "MISSED"}[row.holds]
    limit = "" if row.limit is None else number(row.limit, row.unit)
    digits = DIGITS[row.unit]
    between = f"{measured.least:,.{digits}f} … {measured.most:,.{digits}f}"
    return row.name, number(measured.median, row.unit), between, limit, holds


def show(title: str, rows: Sequence[Row], console: Console) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in HEADINGS[1:4] and heading else "left")
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)


def markdown(title: str, rows: Sequence[Row]) -> str:
    lines = [f"### {title}", "", "| | median | least … most | at most | |", "|---|---:|---:|---:|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row))} |" for row in rows), ""])
