"""Benchmark: the same queries under the same settings, times with the blocks that they touch."""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..parts import Measure
from ..values import Sample
from .least_account import asker, lend, readable, usual_path
from .relations import Server
from .sql import ask, quoted
from .verification import Proof, found_by, reading, single

QUIET: dict[str, object] = {
    "row_security": "on",
    "statement_timeout": "60s",
    "lock_timeout": "2s",
    "max_parallel_workers_per_gather": 0,
    "jit": "off",
}
LARGEST = 3


class Benchmark(Proof, Server):
    """Asks and measures."""

    def queries(self, tables: Sequence[str] | None) -> list[str]:
        """For the three largest tables: a full read, and for a few of their indexes a range or equal values.

        Made from the catalog alone: bounds are sub-selects, so the text is the same before and after, and making
        it touches no suspect row. None where no role is poor enough to ask: that stops no maintenance.
        """
        queries: list[str] = []
        with self.session("choosing queries") as connection:
            role = asker(connection, self.ways.read_all_data)
            if role is None:
                return []
            relations = self.relations(connection, tables)
            open_ = readable(connection, role, [relation.oid for relation in relations])
            for relation in [relation for relation in relations if relation.oid in open_][:LARGEST]:
                columns = ask(
                    connection,
                    """SELECT attname FROM pg_attribute
                       WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped ORDER BY attnum DESC LIMIT 1""",
                    oid=relation.oid,
                )
                if columns:
                    queries.append(f"SELECT count(*), count({quoted(columns[0][0])}) FROM {relation.name}")
                for column, numeric in ask(connection, LEADING_COLUMNS, oid=relation.oid):
                    queries.append(index_query(relation.name, quoted(column), bool(numeric)))
        return queries

    cost_unit = "blocks"

    @contextmanager
    def measuring(self, query: str) -> Iterator[Measure]:
        """See Benchmark.measuring."""
        with self.session("measuring", query[:80], settings=QUIET) as connection:
            role = self._asker(connection)
            lend(connection, role)
            yield partial(self._timed, connection, role, usual_path(connection))

    def _timed(self, connection: Connection, role: str, path: str, query: str, repeats: int) -> Sample:
        times: list[float] = []
        cost: int | None = None
        rows: int | None = None
        statement = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {single(query)}"
        for turn in range(repeats + 1):
            self.raise_if_stopping("measuring", query[:80])
            try:
                [(plans,)] = found_by(path, lambda way: reading(connection, statement, role, "plans json", way))
            except DBAPIError as error:
                raise self._without_words(error, query) from error
            if turn == 0:
                continue  # Warms up.
            top = plans[0]["Plan"]
            times.append(float(plans[0]["Execution Time"]))
            cost = int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])
            rows = round(float(top["Actual Rows"]) * float(top.get("Actual Loops", 1)))
        return Sample(query, tuple(times), cost, self.cost_unit, rows)


def index_query(table: str, column: str, numeric: bool) -> str:
    if numeric:
        tenth = f"(SELECT min({column}) + (max({column}) - min({column})) / 10 FROM {table})"
        return f"SELECT count(*) FROM {table} WHERE {column} BETWEEN (SELECT min({column}) FROM {table}) AND {tenth}"
    return f"SELECT count(*) FROM {table} WHERE {column} = (SELECT min({column}) FROM {table})"


LEADING_COLUMNS = """
SELECT DISTINCT a.attname, t.typcategory = 'N' FROM pg_index x
JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0] JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
WHERE x.indrelid = %(oid)s AND x.indisvalid AND x.indpred IS NULL AND m.amname = 'btree' AND t.typcategory IN ('N',
  'S', 'D')
ORDER BY a.attname LIMIT 3
"""
