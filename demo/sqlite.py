"""A demo database file that is sick in three ways: gaps, a plan gone bad, and a damaged index.

`build` makes the file; `python -m demo.sqlite FILE` does the same from a shell.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

PAGE = 4096
PRODUCTS, VISITS = 400, 60_000
KEPT = VISITS * 2 // 5
"""Visits left after the clean-up that tore the gaps."""

SCHEMA = (
    "CREATE TABLE products (id INTEGER PRIMARY KEY, code TEXT UNIQUE, name TEXT NOT NULL, price REAL NOT NULL)",
    """CREATE TABLE visits (id INTEGER PRIMARY KEY, product_id INTEGER NOT NULL REFERENCES products (id),
       region INTEGER NOT NULL, visitor INTEGER NOT NULL, status TEXT NOT NULL, note TEXT)""",
    "CREATE INDEX visits_region ON visits (region)",
    "CREATE INDEX visits_visitor ON visits (visitor)",
    "CREATE INDEX visits_status ON visits (status)",
)

BENCHMARK_QUERIES = (
    # Every visit of one region is one of a few thousand, of one visitor one of a few: the planner must know.
    "SELECT count(*), sum(length(note)) FROM visits WHERE region = 1 AND visitor BETWEEN 100 AND 110",
    "SELECT count(*), count(note) FROM visits NOT INDEXED",
    "SELECT status, count(*) FROM visits GROUP BY status ORDER BY status",
)
"""For the setting of the demo database. The last fails until its index is repaired."""


def build(path: Path, damaged: bool = True) -> Path:
    """Makes the file anew; an older one of this name is replaced."""
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        _fill(connection)
        _tear_gaps(connection)
        _mislead_the_planner(connection)
        connection.execute("COMMIT")
        leaf = _middle_leaf(connection, "visits_status")
    if damaged:
        _overwrite(path, leaf)
    return path


def _fill(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA:
        connection.execute(statement)
    connection.executemany(
        "INSERT INTO products VALUES (?, ?, ?, ?)",
        ((n, f"P{n:05d}", f"商品 {n}", n * 1.1) for n in range(1, PRODUCTS + 1)),
    )
    connection.executemany(
        "INSERT INTO visits VALUES (?, ?, ?, ?, ?, ?)",
        (
            (n, 1 + n % PRODUCTS, n % 4, n * 7919 % 30_000, ("new", "open", "paid", "sent")[n % 4], f"visit {n} " * 8)
            for n in range(1, VISITS + 1)
        ),
    )


def _tear_gaps(connection: sqlite3.Connection) -> None:
    """Deletes rows from every page, so that hardly a page becomes free: the file does not shrink by itself."""
    connection.execute("DELETE FROM visits WHERE id % 5 < 3")


def _mislead_the_planner(connection: sqlite3.Connection) -> None:
    """Leaves the statistics of another time, when a region had few visits and a visitor had many."""
    connection.execute("ANALYZE")
    connection.execute("DELETE FROM sqlite_stat1 WHERE tbl = 'visits'")
    connection.executemany(
        "INSERT INTO sqlite_stat1 VALUES ('visits', ?, ?)",
        (("visits_region", "9000 2"), ("visits_visitor", "9000 4500"), ("visits_status", "9000 2250")),
    )


def _middle_leaf(connection: sqlite3.Connection, index: str) -> int:
    """Needs a build of SQLite that lists pages (https://sqlite.org/dbstat.html), as Debian's and Ubuntu's does."""
    leaves = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (index,)
    ).fetchall()
    return int(leaves[len(leaves) // 2][0])


def _overwrite(path: Path, page: int) -> None:
    """What a failing disk does to one page."""
    with open(path, "r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xff" * PAGE)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
