"""Structural checks with amcheck, which reads suspect pages without trusting them.

Where amcheck is not installed in the target, it is created inside a transaction that is rolled back:
nothing of it is ever seen by anybody else, nor left behind by a crash.
"""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import EngineError
from .failures import lost
from .server import Relation, Server
from .sql import Row, ask, canonical, configure, quoted, words_of

HARMLESS = {"55P03", "57014", "42501"}
"""Codes that mean 'could not look' instead of 'is damaged': lock, timeout, privilege."""


@dataclass(frozen=True)
class Part:
    """One thing to examine: a table's own pages (`index` None) or one b-tree of it."""

    table: str
    index: str | None
    oid: int
    bytes: int


@dataclass(frozen=True)
class Examined:
    """`fault`: what is wrong. `unknown`: why it could not be looked at."""

    part: Part
    fault: str | None = None
    unknown: str | None = None


class Structure(Server):
    """Examines tables and indexes."""

    def examine(self, tables: Sequence[str] | None, seconds: float, deep: bool) -> list[Examined]:
        """Small parts first, until `seconds` are over; the rest is told as unknown.

        `deep` also compares every b-tree with the rows of its table. A part whose examination ends the
        server counts as faulty. Raises nothing for what is damaged.
        """
        with self.session("looking for tables and indexes") as connection:
            relations = self.relations(connection, tables)
            waiting = sorted(
                parts_of(connection, relations), key=lambda part: (part.bytes, part.table, part.index or "")
            )
        until = time.monotonic() + seconds
        done: list[Examined] = []
        while waiting:
            try:
                with self._examiner() as (connection, schema):
                    while waiting:
                        done.append(self._examine(connection, schema, waiting[0], until, deep))
                        waiting.pop(0)
            except EngineError as error:
                if error.kind != "transient" or not waiting:
                    done += [Examined(part, unknown=error.words) for part in waiting]
                    break
                self.raise_if_stopping("examining", waiting[0].table)
                done.append(Examined(waiting.pop(0), fault=f"the server ended the session: {error.words}"))
                self.await_server()
        return done

    @contextmanager
    def _examiner(self) -> Iterator[tuple[Connection, str]]:
        """A session inside a transaction that is rolled back at the end, and where amcheck is in it."""
        with self.session("examining the structure of", settings={"client_min_messages": "error"}) as connection:
            ask(connection, "BEGIN")
            try:
                yield connection, extension(connection, "amcheck", self.tag.suffix)
            finally:
                with suppress(DBAPIError):
                    ask(connection, "ROLLBACK")

    def _examine(self, connection: Connection, schema: str, part: Part, until: float, deep: bool) -> Examined:
        left = until - time.monotonic()
        if left <= 0:
            return Examined(part, unknown="the time for looking was over")
        self.raise_if_stopping("examining", part.index or part.table)
        ask(connection, "SAVEPOINT part")
        configure(connection, {"statement_timeout": max(1, int(left * 1000))}, local=True)
        try:
            fault = self._fault(connection, schema, part, deep)
        except DBAPIError as error:
            if lost(error.orig):
                raise
            ask(connection, "ROLLBACK TO part")
            self.raise_if_stopping("examining", part.index or part.table)
            code = getattr(error.orig, "pgcode", None)
            if code in HARMLESS:
                return Examined(part, unknown=words_of(error))
            return Examined(part, fault=words_of(error))
        ask(connection, "RELEASE part")
        return Examined(part, fault=fault)

    def _fault(self, connection: Connection, schema: str, part: Part, deep: bool) -> str | None:
        if part.index:
            ask(connection, f"SELECT {schema}.bt_index_check(%(oid)s::regclass, %(deep)s)", oid=part.oid, deep=deep)
            return None
        if not self.ways.heap_check:
            return None  # verify_heapam does not exist yet; the fingerprint reads every row.
        rows: list[Row] = ask(
            connection,
            f"""SELECT blkno, offnum, attnum, msg
                FROM {schema}.verify_heapam(%(oid)s::regclass, check_toast => %(deep)s) LIMIT 20""",
            oid=part.oid,
            deep=deep,
        )
        return "; ".join(f"block {block}, item {item}: {words}" for block, item, _, words in rows[:3]) or None


def extension(connection: Connection, name: str, suffix: str) -> str:
    """The quoted schema of an extension, created in a schema of its own when it is not installed.

    To be called inside a transaction that is rolled back or drops it again. Raises the server's refusal.
    """
    rows = ask(
        connection,
        """SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
          WHERE e.extname = %(name)s""",
        name=name,
    )
    if rows:
        return quoted(str(rows[0][0]))
    schema = quoted(f"{suffix}_{name}")
    ask(connection, f"CREATE SCHEMA {schema}")
    ask(connection, f"CREATE EXTENSION {quoted(name)} SCHEMA {schema}")
    return schema


def parts_of(connection: Connection, relations: Sequence[Relation]) -> list[Part]:
    """The tables and their valid b-trees, those of out-of-line values included."""
    names = {relation.oid: relation.name for relation in relations}
    rows = ask(
        connection,
        """SELECT t.oid, NULL, NULL, t.oid, pg_relation_size(t.oid) FROM pg_class t WHERE t.oid = ANY(%(oids)s::oid[])
           UNION ALL
           SELECT t.oid, n.nspname, i.relname, i.oid, pg_relation_size(i.oid)
           FROM pg_class t JOIN pg_index x ON x.indrelid IN (t.oid, t.reltoastrelid)
           JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
           JOIN pg_am a ON a.oid = i.relam
           WHERE t.oid = ANY(%(oids)s::oid[]) AND a.amname = 'btree' AND x.indisvalid AND x.indisready""",
        oids=list(names),
    )
    return [
        Part(names[table], canonical(schema, index) if index else None, oid, size or 0)
        for table, schema, index, oid, size in rows
    ]
