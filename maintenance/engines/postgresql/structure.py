"""Structural checks with amcheck, which reads suspect pages without trusting them.

Where amcheck is not installed in the target, its functions are created inside a transaction that is rolled back:
nothing of them is ever seen by anybody else, nor left behind by a crash. A superuser creates them in the temporary
schema of each session, so that several may look at once; the extension itself only one session can create.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import EngineError
from ..messages import msg
from .driver_errors import lost
from .least_account import UNKNOWN_NAMES
from .relations import Relation, relations
from .sql import ask, canonical, configure, is_superuser, quoted, words_of
from .target import TargetDatabase

GROUP_BYTES, GROUP_PARTS = 16_000_000, 500
HARMLESS = {"55P03", "57014", "42501", "0A000", *UNKNOWN_NAMES}
"""Codes that mean 'could not look' instead of 'is damaged': lock, timeout, privilege, rows kept in another way than the
server's own (table access methods), an extension of before, or a function of an index that counts on the usual path of
names."""
ENDLESS = {"57014", "42501"}
"""Of these, the ones that would meet every half of a group as well."""

AMCHECK_INDEX = """
CREATE FUNCTION pg_temp.bt_index_check(index regclass, heapallindexed boolean) RETURNS void
AS '$libdir/amcheck', 'bt_index_check' LANGUAGE C STRICT
"""
AMCHECK_GIN = """
CREATE FUNCTION pg_temp.gin_index_check(index regclass) RETURNS void
AS '$libdir/amcheck', 'gin_index_check' LANGUAGE C STRICT
"""
AMCHECK_HEAP = """
CREATE FUNCTION pg_temp.verify_heapam(relation regclass, on_error_stop boolean DEFAULT false,
  check_toast boolean DEFAULT false, skip text DEFAULT 'none', startblock bigint DEFAULT NULL,
  endblock bigint DEFAULT NULL, blkno OUT bigint, offnum OUT integer, attnum OUT integer, msg OUT text)
RETURNS SETOF record AS '$libdir/amcheck', 'verify_heapam' LANGUAGE C
"""
"""As the extension's own scripts declare them; always called with the very types, so that no other function of that
name beside an installed extension fits better: https://www.postgresql.org/docs/current/amcheck.html"""


@dataclass(frozen=True)
class Part:
    """One thing to examine: a table's own pages or those of its long values (`index` None), or one index of it."""

    table: str
    index: str | None
    oid: int
    bytes: int
    method: str = ""
    """Of the index."""


@dataclass(frozen=True)
class Examined:
    """`fault`: what is wrong. `unknown`: why it could not be looked at."""

    part: Part
    fault: str | None = None
    unknown: str | None = None


class Structure:
    """Examines tables and indexes."""

    def __init__(self, target: TargetDatabase) -> None:
        self.target = target
        self.cleaned: set[str] = set()
        """Tables that this object has vacuumed, so that their indexes can be counted without their rows."""

    def examine(self, tables: Sequence[str] | None, seconds: float, deep: bool, jobs: int = 1) -> list[Examined]:
        """Small parts first, until `seconds` are over; the rest is told as unknown.

        `deep` also compares every b-tree with the rows of its table. A part whose examination ends the
        server counts as faulty. Raises nothing for what is damaged. `jobs` sessions look at once where they can.
        """
        with self.target.session("looking for tables and indexes") as connection:
            chosen = relations(connection, tables)
        return self.examine_these(chosen, seconds, deep, jobs)

    def examine_these(
        self, chosen: Sequence[Relation], seconds: float, deep: bool = False, jobs: int = 1, options: str = ""
    ) -> list[Examined]:
        """As `examine`, in sessions with these `options`."""
        with self.target.session("looking for tables and indexes", options=options) as connection:
            waiting = sorted(
                parts_of(connection, chosen, self.target.capabilities.examined_indexes),
                key=lambda part: (part.bytes, part.table, part.index or ""),
            )
            if not is_superuser(connection) and not installed(connection, "amcheck"):
                jobs = 1
        until = time.monotonic() + seconds
        done: list[Examined] = []
        groups = [[part] for part in waiting] if deep else together(waiting)
        if jobs > 1 and len(groups) > 1:
            looked = self.target.shared(groups, lambda share: self._examine_share(share, until, deep), jobs)
            done = [result for _, results in looked for result in results or ()]
            # One of those in work may have ended the server, and all sessions with it: which, is seen one by one.
            groups = [group for group, results in looked if results is None]
            if groups:
                self.target.await_server()
        return done + self._examine_one_by_one(groups, until, deep, options)

    def _examine_share(
        self, share: Sequence[list[Part]], until: float, deep: bool
    ) -> list[tuple[list[Part], list[Examined] | None]]:
        """Return each group with what was found; None from where the session could not go on."""
        found: list[tuple[list[Part], list[Examined] | None]] = []
        try:
            with self._examiner() as (connection, schema):
                for group in share:
                    found.append((group, self._examine(connection, schema, group, until, deep)))
        except EngineError:
            self.target.raise_if_stopping("examining", share[len(found)][0].table)
        return found + [(group, None) for group in share[len(found) :]]

    def _examine_one_by_one(
        self, groups: list[list[Part]], until: float, deep: bool, options: str = ""
    ) -> list[Examined]:
        done: list[Examined] = []
        while groups:
            try:
                with self._examiner(options) as (connection, schema):
                    while groups:
                        done += self._examine(connection, schema, groups[0], until, deep)
                        groups.pop(0)
            except EngineError as error:
                if error.kind != "transient" or not groups:
                    done += [Examined(part, unknown=error.words) for group in groups for part in group]
                    break
                group = groups.pop(0)
                self.target.raise_if_stopping("examining", group[0].table)
                if len(group) > 1:
                    groups[:0] = [[part] for part in group]
                else:
                    done.append(
                        Examined(group[0], fault=msg("the server ended the session: {words}", words=error.words))
                    )
                self.target.await_server()
        return done

    def invisible(self, tables: Sequence[str] | None, seconds: float) -> dict[str, int]:
        """Return table -> rows that not everybody can see although their page is marked so: index-only scans show them.

        Small tables first until `seconds` are over; nothing where pg_visibility is not to be had.
        """
        found: dict[str, int] = {}
        until = time.monotonic() + seconds
        with self.target.session("looking for tables") as connection:
            chosen = sorted(relations(connection, tables), key=lambda relation: relation.bytes)
        quiet = {"client_min_messages": "error"}
        with self.target.session("looking at the visibility map of", settings=quiet) as connection:
            ask(connection, "BEGIN")
            try:
                schema = extension(connection, "pg_visibility", self.target.tag.suffix)
                for group in together([Part(x.name, None, x.oid, x.bytes) for x in chosen]):
                    configure(
                        connection, {"statement_timeout": max(1, int((until - time.monotonic()) * 1000))}, local=True
                    )
                    rows = ask(
                        connection,
                        f"""SELECT o, count(*) FROM unnest(%(oids)s::oid[]) o,
                              LATERAL {schema}.pg_check_visible(o::regclass) GROUP BY o""",
                        oids=[part.oid for part in group],
                    )
                    names = {part.oid: part.table for part in group}
                    found.update({names[int(oid)]: int(count) for oid, count in rows})
            except DBAPIError as error:
                # Not to be had, no time left, or a page that other checks tell of.
                if lost(error.orig):
                    raise
            finally:
                with suppress(DBAPIError):
                    ask(connection, "ROLLBACK")
        return found

    @contextmanager
    def _examiner(self, options: str = "") -> Iterator[tuple[Connection, str]]:
        """Yield a session inside a transaction that is rolled back at the end, and where amcheck is in it."""
        quiet = {"client_min_messages": "error"}
        with self.target.session("examining the structure of", settings=quiet, options=options) as connection:
            ask(connection, "BEGIN")
            try:
                yield connection, self._amcheck(connection)
            finally:
                with suppress(DBAPIError):
                    ask(connection, "ROLLBACK")

    def _amcheck(self, connection: Connection) -> str:
        """Return the quoted schema of its functions, to be called inside a transaction that is rolled back."""
        if installed(connection, "amcheck") or not is_superuser(connection):
            return extension(connection, "amcheck", self.target.tag.suffix)
        ask(connection, AMCHECK_INDEX)
        if self.target.capabilities.heap_check:
            ask(connection, AMCHECK_HEAP)
        if "gin" in self.target.capabilities.examined_indexes:
            ask(connection, AMCHECK_GIN)
        return "pg_temp"

    def _examine(
        self, connection: Connection, schema: str, group: Sequence[Part], until: float, deep: bool
    ) -> list[Examined]:
        """One statement for a whole group; where something in it is faulty, for each half."""
        left = until - time.monotonic()
        if left <= 0:
            return [Examined(part, unknown="the time for looking was over") for part in group]
        self.target.raise_if_stopping("examining", group[0].index or group[0].table)
        ask(connection, "SAVEPOINT part")
        configure(connection, {"statement_timeout": max(1, int(left * 1000))}, local=True)
        try:
            faults = self._faults(connection, schema, group, deep)
        except DBAPIError as error:
            if lost(error.orig):
                raise
            ask(connection, "ROLLBACK TO part")
            self.target.raise_if_stopping("examining", group[0].index or group[0].table)
            if len(group) > 1 and getattr(error.orig, "pgcode", None) not in ENDLESS:
                middle = len(group) // 2
                return [
                    result
                    for half in (group[:middle], group[middle:])
                    for result in self._examine(connection, schema, half, until, deep)
                ]
            if getattr(error.orig, "pgcode", None) in HARMLESS:
                return [Examined(part, unknown=words_of(error)) for part in group]
            return [Examined(part, fault=words_of(error)) for part in group]
        ask(connection, "RELEASE part")
        return [Examined(part, fault=faults.get(part.oid)) for part in group]

    def _faults(self, connection: Connection, schema: str, group: Sequence[Part], deep: bool) -> dict[int, str]:
        """Return what is wrong with which relation. An index raises instead."""
        indexes = [part.oid for part in group if part.method == "btree"]
        others = [part.oid for part in group if part.method == "gin"]
        tables = [part.oid for part in group if not part.index]
        if indexes:
            ask(
                connection,
                f"SELECT {schema}.bt_index_check(o::regclass, %(deep)s) FROM unnest(%(oids)s::oid[]) o",
                oids=indexes,
                deep=deep,
            )
        if others:
            ask(
                connection,
                f"SELECT {schema}.gin_index_check(o::regclass) FROM unnest(%(oids)s::oid[]) o",
                oids=others,
            )
        # Before version 14 the fingerprint alone reads every row.
        if not tables or not self.target.capabilities.heap_check:
            return {}
        rows = ask(
            connection,
            f"""SELECT o, string_agg(format('block %%s, item %%s: %%s', v.blkno, v.offnum, v.msg), '; ' ORDER BY v.n)
                FROM unnest(%(oids)s::oid[]) o, LATERAL (SELECT *, row_number() OVER () AS n FROM (
                  SELECT blkno, offnum, msg FROM {schema}.verify_heapam(o::regclass, false, %(deep)s, 'none'::text,
                    NULL::bigint, NULL::bigint) LIMIT 3) few) v GROUP BY o""",
            oids=tables,
            deep=deep,
        )
        return {int(oid): str(words) for oid, words in rows}


def together(parts: Sequence[Part], most: int = GROUP_PARTS, fill: int = GROUP_BYTES) -> list[list[Part]]:
    """Return groups of small parts, so that many small tables do not take a statement each."""
    groups: list[list[Part]] = []
    filled = 0
    for part in parts:
        if not groups or filled + part.bytes > fill or len(groups[-1]) >= most:
            groups.append([])
            filled = 0
        groups[-1].append(part)
        filled += part.bytes
    return groups


def installed(connection: Connection, name: str) -> str | None:
    """Return the quoted schema of an extension; None where it is not installed."""
    rows = ask(
        connection,
        """SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
          WHERE e.extname = %(name)s""",
        name=name,
    )
    return quoted(str(rows[0][0])) if rows else None


def extension(connection: Connection, name: str, suffix: str) -> str:
    """Return the quoted schema of an extension, created in a schema of its own when it is not installed.

    To be called inside a transaction that is rolled back or drops it again. Raises the server's refusal.
    """
    if there := installed(connection, name):
        return there
    schema = quoted(f"{suffix}_{name}")
    ask(connection, f"CREATE SCHEMA {schema}")
    ask(connection, f"CREATE EXTENSION {quoted(name)} SCHEMA {schema}")
    return schema


def drop_extension(connection: Connection, name: str, suffix: str) -> None:
    """Drop the extension that `extension()` made, before the transaction commits."""
    schema = f"{suffix}_{name}"
    if ask(connection, "SELECT 1 FROM pg_namespace WHERE nspname = %(schema)s", schema=schema):
        ask(connection, f"DROP EXTENSION IF EXISTS {quoted(name)}")
        ask(connection, f"DROP SCHEMA {quoted(schema)}")


def parts_of(connection: Connection, chosen: Sequence[Relation], methods: Sequence[str]) -> list[Part]:
    """Return the tables, where their long values lie (TOAST), and the valid indexes of these methods of both."""
    names = {relation.oid: relation.name for relation in chosen}
    rows = ask(
        connection,
        """SELECT t.oid, NULL, NULL, t.oid, pg_relation_size(t.oid), ''
           FROM pg_class t WHERE t.oid = ANY(%(oids)s::oid[])
           UNION ALL
           SELECT t.oid, NULL, NULL, t.reltoastrelid, pg_relation_size(t.reltoastrelid), ''
           FROM pg_class t WHERE t.oid = ANY(%(oids)s::oid[]) AND t.reltoastrelid <> 0
           UNION ALL
           SELECT t.oid, n.nspname, i.relname, i.oid, pg_relation_size(i.oid), a.amname
           FROM pg_class t JOIN pg_index x ON x.indrelid IN (t.oid, t.reltoastrelid)
           JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
           JOIN pg_am a ON a.oid = i.relam
           WHERE t.oid = ANY(%(oids)s::oid[]) AND a.amname = ANY(%(methods)s) AND x.indisvalid AND x.indisready""",
        oids=list(names),
        methods=list(methods),
    )
    return [
        Part(names[table], canonical(schema, index) if index else None, oid, size or 0, method)
        for table, schema, index, oid, size, method in rows
    ]
