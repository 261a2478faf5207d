"""The operator's queries, and how much work the engine's own choice of queries is."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..errors import Damaged
from ..measuring import Meter
from ..messages import msg
from ..parts import Benchmark, Rows
from ..values import Sample
from .driver_errors import from_driver
from .names import Table, quoted, tables_in
from .target import DatabaseFile

_IO = Path("/proc/thread-self/io")
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
COUNT_STEPS, BEAT_STEPS = 100, 10_000
LARGEST = 3
CONTROL = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 40000) SELECT count(*) FROM n"
"""Work that no maintenance changes: it reads no table."""
LARGEST_BYTES = 32 << 20
"""Of one value that a question makes or reads."""
COST_UNIT = "pages read" if _IO.exists() else "VM steps"
UNKNOWN = 1 << 62
"""Rows of a damaged table: it comes first, so that its repair shows."""


def _authorize(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


@contextmanager
def reading_only(connection: sqlite3.Connection, sql: str) -> Iterator[None]:
    """Nothing but SELECT: no write, no PRAGMA (it could end our lock), no ATTACH (it could make a file).

    No value grows beyond LARGEST_BYTES, and SQLite's words, which may quote rows, are left out of errors.
    """
    connection.execute("PRAGMA query_only = ON")
    largest = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_BYTES)
    connection.set_authorizer(_authorize)
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        told = type(from_driver(error, "asking", sql[:80]))
        raise told("asking", sql[:80], msg("SQLite refused it: {error}", error=name)) from None
    finally:
        connection.set_authorizer(None)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, largest)
        connection.execute("PRAGMA query_only = OFF")


def _rows(connection: sqlite3.Connection, table: Table) -> int:
    try:
        return int(connection.execute(f"SELECT count(*) FROM {quoted(table.name)} NOT INDEXED").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if from_driver(error, "counting", table.name).kind != "integrity":
            raise
        return UNKNOWN


def _queries_for(connection: sqlite3.Connection, table: Table) -> list[str]:
    name = quoted(table.name)
    columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({name})")]
    found = [f"SELECT count(*), count({quoted(columns[-1])}) FROM {name} NOT INDEXED"]
    indexed = _first_indexed(connection, table)
    if indexed is not None:
        key = quoted(indexed)
        found.append(f"SELECT {key}, count(*) FROM {name} GROUP BY {key} ORDER BY 2 DESC, 1 LIMIT 20")
    for key in connection.execute(f"PRAGMA foreign_key_list({name})").fetchall():
        parent, child_column, parent_column = str(key[2]), str(key[3]), key[4]
        if parent_column is not None:
            found.append(
                f"SELECT count(*) FROM {name} AS child JOIN {quoted(parent)} AS parent"
                f" ON parent.{quoted(str(parent_column))} = child.{quoted(child_column)}"
            )
            break
    return found


def _first_indexed(connection: sqlite3.Connection, table: Table) -> str | None:
    for index in connection.execute(f"PRAGMA index_list({quoted(table.name)})").fetchall():
        partial = bool(index[4])
        column = connection.execute(f"PRAGMA index_info({quoted(str(index[1]))})").fetchone()
        if not partial and column is not None and column[2] is not None:
            return str(column[2])
    return None


def _warmed(file: DatabaseFile, connection: sqlite3.Connection, seconds: float, sql: str) -> Sample:
    """Count the work."""
    _end_after(file, connection, seconds)
    rows, cost = _counted(file, connection, sql)
    return Sample(sql, (), cost, COST_UNIT, rows=rows)


def _timed(file: DatabaseFile, connection: sqlite3.Connection, seconds: float, sql: str) -> Sample:
    _end_after(file, connection, seconds)
    with reading_only(connection, sql):
        begun = time.perf_counter()
        for _ in connection.execute(sql):
            pass
        took = time.perf_counter() - begun
    return Sample(sql, (took * 1000,), None, COST_UNIT)


def _end_after(file: DatabaseFile, connection: sqlite3.Connection, seconds: float) -> None:
    """End the next statement after `seconds`, or when stopping is set. A thread for each would disturb its time."""
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: file.stopping.is_set() or time.monotonic() > deadline, BEAT_STEPS)


def _counted(file: DatabaseFile, connection: sqlite3.Connection, sql: str) -> tuple[int, int]:
    """Rows, and pages read with a cache of ten pages that is empty at the start.

    So small a cache makes the figure the pages the plan asks for, and the same in every run; a plan that
    visits the same pages again and again shows. Where the system does not count reads: steps of the
    virtual machine.
    """
    page_size = int(connection.execute("PRAGMA page_size").fetchone()[0])
    cache = int(connection.execute("PRAGMA cache_size").fetchone()[0])
    try:
        connection.execute("PRAGMA cache_size = 10")
        connection.execute("PRAGMA shrink_memory")
        with reading_only(connection, sql):
            if not _IO.exists():
                return _steps(file, connection, sql)
            before = _bytes_read()
            rows = sum(1 for _ in connection.execute(sql))
            return rows, (_bytes_read() - before) // page_size
    finally:
        connection.execute(f"PRAGMA cache_size = {cache:d}")


def _bytes_read() -> int:
    """What this thread has read by system calls so far (proc(5), rchar)."""
    return int(_IO.read_text().split()[1])


def _steps(file: DatabaseFile, connection: sqlite3.Connection, sql: str) -> tuple[int, int]:
    count = 0

    def beat() -> bool:
        nonlocal count
        count += 1
        return file.stopping.is_set()

    connection.set_progress_handler(beat, COUNT_STEPS)
    return sum(1 for _ in connection.execute(sql)), count * COUNT_STEPS


class FileBenchmark(Benchmark):
    """The operator's statements, on a connection that can only read."""

    def __init__(self, file: DatabaseFile) -> None:
        self.file, self.stopping = file, file.stopping

    @property
    def cost_unit(self) -> str:
        """See Benchmark.cost_unit."""
        return COST_UNIT

    def query(self, sql: str) -> Rows:
        """See Benchmark.query. Only the first row is read."""
        with self.file.working("asking", sql[:80]) as connection, reading_only(connection, sql):
            return connection.execute(sql).fetchmany(1)

    @contextmanager
    def asking(self) -> Iterator[Callable[[str], Rows]]:
        """Ask to the last row, and drop what is read."""

        def whole(sql: str) -> Rows:
            with self.file.working("asking", sql[:80]) as connection, reading_only(connection, sql):
                for _ in connection.execute(sql):
                    pass
            return []

        yield whole

    def queries(self, tables: Sequence[str] | None) -> list[str]:
        """Return for the largest tables: all rows, all rows in groups of the first index, and each with its parent."""
        try:
            with self.file.working("choosing queries for", self.file.name) as connection:
                known = tables_in(connection)
                chosen = [table for name, table in known.items() if tables is None or name in tables]
                sized = [(_rows(connection, table), table) for table in chosen]
                largest = sorted(sized, key=lambda pair: (-pair[0], pair[1].name))[:LARGEST]
                return [sql for rows, table in largest if rows for sql in _queries_for(connection, table)]
        except Damaged:
            return []  # what cannot be measured is repaired all the same

    @contextmanager
    def measuring(self, query: str, seconds: float) -> Iterator[Meter]:
        """See Benchmark.measuring."""
        with self.file.working("measuring", query[:80]) as connection:
            yield Meter(
                partial(_warmed, self.file, connection, seconds),
                partial(_timed, self.file, connection, seconds),
                CONTROL,
            )
