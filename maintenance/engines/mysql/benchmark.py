"""Measuring: the same questions under the same conditions, with a cost that has no noise."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial

from sqlalchemy.exc import DBAPIError

from ..measuring import Meter
from ..parts import Benchmark, Rows
from ..values import Sample
from . import structure
from .connection import Session
from .names import full, quoted
from .operator_queries import query, reading, session_for_questions
from .repair.corruption import spared_tables
from .target import Server

TABLES = 4
CONTROL = "SELECT BENCHMARK(100000, CRC32('dbmaint'))"
"""Work that no maintenance changes: it reads no table."""
PURGE_SECONDS = 2.0
PURGE_IDLE_SECONDS = 1.0
"""Purge of old row versions reads pages too: 115,713 against 2,562 for the same query, seen while it ran.
One transaction may hold all of them, so only an empty history, or one that falls no more, will do."""


class ServerBenchmark(Benchmark):
    """Questions in transactions that cannot write."""

    def __init__(self, server: Server) -> None:
        self.server, self.stopping = server, server.stopping

    @property
    def cost_unit(self) -> str:
        """See Benchmark.cost_unit."""
        return cost_unit(self.server)

    def query(self, sql: str) -> Rows:
        """See Benchmark.query."""
        return query(self.server, sql)

    def measuring(self, query: str, seconds: float) -> AbstractContextManager[Meter]:
        """See Benchmark.measuring."""
        return measuring(self.server, seconds)

    def queries(self, tables: Sequence[str] | None) -> list[str]:
        """See Benchmark.queries: a full scan, and a scan of each of the first two indexes, of the largest tables."""
        with self.server.session("choosing benchmark queries for") as session:
            chosen = structure.chosen(structure.tables(session, self.server.schema), tables)
            spared = spared_tables(self.server)
            chosen = [table for table in chosen if table.name not in spared]
            measured = structure.sizes(self.server, session, chosen, self.server.schema)
            chosen.sort(key=lambda table: (-measured[table.name].bytes if table.name in measured else 0, table.name))
            queries: list[str] = []
            for table in chosen[:TABLES]:
                name = full(self.server.schema, table.name)
                queries.append(f"SELECT COUNT(*) FROM {name} USE INDEX ()")
                keys = [
                    index
                    for index in structure.indexes(session, self.server.schema, table.name)
                    if index.kind == "BTREE" and index.name != "PRIMARY" and index.columns[0] is not None
                ]
                for index in keys[:2]:
                    column = quoted(str(index.columns[0]))
                    queries.append(f"SELECT COUNT(DISTINCT {column}) FROM {name} FORCE INDEX ({quoted(index.name)})")
            return queries


@contextmanager
def measuring(server: Server, seconds: float) -> Iterator[Meter]:
    """See Benchmark.measuring. Cost is pages touched where the server tells them by query, else rows handled."""
    with session_for_questions(server, "measuring") as session:
        _wait_for_purge(server, session)
        name, units = server.capabilities.statement_limit
        session.ask(
            f"SET SESSION {name} = {max(seconds * units, 0.001):.3f}"
            if units == 1
            else f"SET SESSION {name} = {max(seconds * units, 1):.0f}"
        )
        yield Meter(partial(_counted, server, session), partial(_timed, server, session), CONTROL)


def _counted(server: Server, session: Session, query: str) -> Sample:
    with reading(session, query):
        rows = session.counted(query)  # warm-up
        unit, cost = cost_unit(server), _pages(server, session, query)
        if cost is None:
            unit, cost = "rows handled", _handled(session, query)
    return Sample(query, (), cost, unit, rows)


def _timed(server: Server, session: Session, query: str) -> Sample:
    """In a transaction that cannot write. `_counted` has refused what does more than read."""
    server.raise_if_stopping("measuring", server.schema)
    session.ask("START TRANSACTION READ ONLY")
    try:
        begun = time.perf_counter()
        session.counted(query)
        took = time.perf_counter() - begun
    finally:
        with suppress(DBAPIError):
            session.ask("ROLLBACK")
    return Sample(query, (took * 1000,), None, cost_unit(server))


def _wait_for_purge(server: Server, session: Session) -> None:
    """Until the history is empty, or has not fallen for a second, at most two; once, until there is work again.

    MySQL keeps some history for good, and all that commits on the server adds to it, our signs of life too: to wait
    before each query of a benchmark would lengthen the outage.
    """
    if server.purge_awaited:
        return
    begun = fell = time.monotonic()
    before = 0
    with suppress(DBAPIError):
        while time.monotonic() - begun < PURGE_SECONDS and time.monotonic() - fell < PURGE_IDLE_SECONDS:
            server.raise_if_stopping("measuring", server.schema)
            length = session.value(
                "SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'"
            )
            if not length:
                break
            if int(length) < before:
                fell = time.monotonic()
            before = int(length)
            time.sleep(0.05)
    server.purge_awaited = True


def _pages(server: Server, session: Session, query: str) -> int | None:
    """Sum of pages_accessed over the plan (MariaDB 10.6.15, 10.11.5 and later); None where it is not told."""
    if server.capabilities.pages_sql is None:
        return None
    try:
        told = json.loads(str(session.verbatim(f"{server.capabilities.pages_sql} {query}")[0][0]))
    except (DBAPIError, ValueError):
        return None
    found = list(_figures(told))
    return sum(found) if found else None


def _figures(part: object) -> list[int]:
    if isinstance(part, dict):
        own = [int(part["pages_accessed"])] if "pages_accessed" in part else []
        return own + [figure for value in part.values() for figure in _figures(value)]
    if isinstance(part, list):
        return [figure for value in part for figure in _figures(value)]
    return []


def _handled(session: Session, query: str) -> int:
    """Handler_read_* of this session: one value for one plan, whatever else the server does."""
    before = _handler_reads(session)
    session.counted(query)
    return _handler_reads(session) - before - _reading_status_itself(session)


def _handler_reads(session: Session) -> int:
    rows = session.ask("SHOW SESSION STATUS LIKE 'Handler_read%'")
    return sum(int(row[1]) for row in rows)


def _reading_status_itself(session: Session) -> int:
    first, second = _handler_reads(session), _handler_reads(session)
    return second - first


def cost_unit(server: Server) -> str:
    """Return what a query costs here: pages touched where the server tells them."""
    return "pages" if server.capabilities.pages_sql else "rows handled"
