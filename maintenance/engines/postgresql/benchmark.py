"""Benchmark: the same queries under the same settings, times with the blocks that they touch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from psycopg2.errors import lookup
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import EngineError, Interrupted, Unable
from ..measuring import Meter
from ..messages import msg
from ..parts import Benchmark
from ..values import Sample
from .driver_errors import from_driver
from .least_account import asker, found_by, lend, readable, reading, usual_path
from .relations import relations
from .sql import Row, ask, quoted
from .target import TargetDatabase

QUIET: dict[str, object] = {
    "row_security": "on",
    "lock_timeout": "2s",
    "max_parallel_workers_per_gather": 0,
    "jit": "off",
}
QUESTIONS: dict[str, object] = {"client_min_messages": "error", "row_security": "on"}
"""In the name of a role that policies may hold for."""

LARGEST = 3
CONTROL = "SELECT sum(n) FROM generate_series(1, 50000) AS n"
"""Work that no maintenance changes: it reads no table."""


class PostgresBenchmark(Benchmark):
    """Asks and measures, in the name of a role that cannot reach the server's host."""

    cost_unit = "blocks"

    def __init__(self, target: TargetDatabase) -> None:
        self.target, self.stopping = target, target.stopping

    def query(self, sql: str) -> list[Row]:
        """See Benchmark.query. Return true, false, a number or nothing. Raises Unable for anything else.

        Neither rows nor the server's words come out, which people without rights on the data would read.
        """
        with self.target.session("asking", settings=QUESTIONS) as connection:
            role, path = self._asker(connection), usual_path(connection)
            names = lend(connection, role)

            def answer(way: str) -> list[Row]:
                binds = {"statement": single(sql), "path": way}
                return reading(connection, f"SELECT pg_temp.{names['answer']}(%(statement)s, %(path)s)", binds=binds)

            try:
                rows = found_by(path, answer)
            except DBAPIError as error:
                raise self._without_words(error, sql) from error
        return answered(rows[0][0], sql)

    @contextmanager
    def asking(self) -> Iterator[Callable[[str], list[Row]]]:
        """See Benchmark.asking. Questions run to their end in the account of `query`; what they return is dropped."""
        with self.target.session("asking", settings=QUESTIONS) as connection:
            role, path = self._asker(connection), usual_path(connection)
            lend(connection, role)

            def question(sql: str) -> list[Row]:
                statement = f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF) {single(sql)}"
                try:
                    found_by(path, lambda way: reading(connection, statement, role, "line text", way))
                except DBAPIError as error:
                    raise self._without_words(error, sql) from error
                return []

            yield question

    def _asker(self, connection: Connection) -> str:
        """Return the role in whose name questions of people are asked. Raises Unable where none is poor enough."""
        role = asker(connection, self.target.capabilities.read_all_data)
        if role is None:
            raise Unable(
                "asking",
                self.target.name,
                msg(
                    "the account could reach files and programs of the server's host; give the database an owner that "
                    "is no superuser"
                ),
            )
        return role

    def _without_words(self, error: DBAPIError, sql: str) -> EngineError:
        cause = error.orig or error
        code = getattr(cause, "pgcode", None)
        told = from_driver(cause, "asking", sql[:80], stopping=self.target.stopping.is_set(), connecting=False)
        if code is None or isinstance(told, Interrupted):
            return told
        return type(told)("asking", sql[:80], msg("the server refused it: {error}", error=name_of(code)))

    def queries(self, tables: Sequence[str] | None) -> list[str]:
        """For the three largest tables: a full read, and for a few of their indexes a range or equal values.

        Made from the catalog alone: bounds are sub-selects, so the text is the same before and after, and making
        it touches no suspect row. None where no role is poor enough to ask: that stops no maintenance.
        """
        queries: list[str] = []
        with self.target.session("choosing queries") as connection:
            role = asker(connection, self.target.capabilities.read_all_data)
            if role is None:
                return []
            chosen = relations(connection, tables)
            open_ = readable(connection, role, [relation.oid for relation in chosen])
            for relation in [relation for relation in chosen if relation.oid in open_][:LARGEST]:
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

    @contextmanager
    def measuring(self, query: str, seconds: float) -> Iterator[Meter]:
        """See Benchmark.measuring."""
        settings = {**QUIET, "statement_timeout": f"{seconds * 1000:.0f}ms"}
        with self.target.session("measuring", query[:80], settings=settings) as connection:
            role = self._asker(connection)
            lend(connection, role)
            timed = partial(self._timed, connection, role, usual_path(connection))
            yield Meter(timed, timed, CONTROL)

    def _timed(self, connection: Connection, role: str, path: str, query: str) -> Sample:
        statement = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {single(query)}"
        self.target.raise_if_stopping("measuring", query[:80])
        try:
            [(plans,)] = found_by(path, lambda way: reading(connection, statement, role, "plans json", way))
        except DBAPIError as error:
            raise self._without_words(error, query) from error
        top = plans[0]["Plan"]
        cost = int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])
        rows = round(float(top["Actual Rows"]) * float(top.get("Actual Loops", 1)))
        return Sample(query, (float(plans[0]["Execution Time"]),), cost, self.cost_unit, rows)


def name_of(code: str) -> str:
    """Of the server's own errors. One that somebody made up may carry anything."""
    try:
        return f"{lookup(code).__name__} ({code})"
    except KeyError:
        return "UserDefinedError"


def answered(text: str | None, sql: str) -> list[Row]:
    """Return the first value of a row in its text form, e.g. `(t,12)`. Raises Unable where it is neither truth nor
    number."""
    first = re.match(r"\((?:(t)|(f)|(-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?))?[,)]", text or "()")
    if first is None:
        raise Unable("asking", sql[:80], msg("it answers neither true or false nor a number"))
    true, false, number = first.groups()
    if number:
        return [(float(number) if re.search("[.e]", number) else int(number),)]
    return [(True,)] if true else [(False,)] if false else [(None,)] if text else []


def single(sql: str) -> str:
    """Return the statement without its semicolon. Several could end our read-only transaction and write: Unable.

    Where backslashes, dollars or comments may quote too, only the server's own scanner knows where a text ends:
    there a semicolon in a text is refused as well.

    Raises Unable.
    """
    statement = sql.strip().rstrip("; \t\r\n")
    plain = statement if re.search(r"[\\$]|--|/\*", statement) else re.sub(r"'[^']*'|\"[^\"]*\"", "", statement)
    if ";" in plain:
        raise Unable("asking", sql[:80], msg("only one statement is allowed"))
    return statement


def index_query(table: str, column: str, numeric: bool) -> str:
    if numeric:
        tenth = f"(SELECT min({column}) + (max({column}) - min({column})) / 10 FROM {table})"
        return f"SELECT count(*) FROM {table} WHERE {column} BETWEEN (SELECT min({column}) FROM {table}) AND {tenth}"
    return f"SELECT count(*) FROM {table} WHERE {column} = (SELECT min({column}) FROM {table})"


LEADING_COLUMNS = """
SELECT DISTINCT a.attname, t.typcategory = 'N' FROM pg_index x
JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0] JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
WHERE x.indrelid = %(oid)s AND x.indpred IS NULL AND m.amname = 'btree' AND t.typcategory IN ('N',
  'S', 'D')
ORDER BY a.attname LIMIT 3
"""
