"""Proof that nothing was lost: fingerprints of rows, structure, constraints, sequences, definitions."""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from ..errors import EngineError, Interrupted, Transient, Unable, Unreachable
from ..values import Check, Fingerprint, Limits, Tag
from ..words import say
from .definitions import DEFINITIONS
from .failures import lost
from .sequences import OWNED_SEQUENCES, sequence_behind
from .server import USER_TABLES, Server
from .sql import Row, ask, canonical, configure, words_of
from .structure import Structure

PINNED: dict[str, object] = {
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "extra_float_digits": 1,
    "bytea_output": "hex",
    "IntervalStyle": "postgres",
    "lc_monetary": "C",
    "row_security": "off",  # An error instead of rows silently left out.
    "search_path": "",
    "enable_indexscan": "off",  # Rows are read from the table, whatever its indexes say.
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}
"""Everything that the text of a row depends on."""

LARGE_OBJECTS = "large objects"
CHECK_SECONDS = 3600.0
OLDEST_RUNNING = "SELECT (txid_snapshot_xmin(txid_current_snapshot()) % 4294967296)::text"
"""Every transaction before it had ended when the snapshot was taken; as `xid`, without the epoch."""


@dataclass(frozen=True)
class Seen:
    """What a reading found, the oldest transaction that it may not have seen, and how everything was defined."""

    print: Fingerprint
    oldest: str = ""
    definitions: Mapping[str, str] | None = None

    def holds_for(self, definitions: Mapping[str, str]) -> bool:
        return self.print.readable and bool(self.oldest) and self.definitions == definitions


@dataclass(frozen=True)
class Readable:
    """A valid b-tree that a query can read in its order."""

    schema: str
    relation: str
    index_schema: str
    index: str
    explained: str
    """How a plan calls it."""
    keys: str
    condition: str

    @property
    def table(self) -> str:
        return canonical(self.schema, self.relation)

    @property
    def name(self) -> str:
        return canonical(self.index_schema, self.index)


class Proof(Structure, Server):
    """Fingerprints, checks and the catalog's digest."""

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url, tag, limits)
        self._seen: dict[str, Seen] = {}

    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        """A table whose reading ends the server (that happens with damaged values) is told with the server's words.

        The tables that were being read beside it are read again, one at a time.
        """
        return self.fingerprints(tables, side)

    def fingerprints(
        self,
        tables: Sequence[str] | None,
        side: str | None = None,
        snapshot: str | None = None,
        definitions: Mapping[str, str] | None = None,
    ) -> dict[str, Fingerprint]:
        """As `fingerprint`, of the rows that an exported snapshot sees when one is given.

        With the `definitions` that were in force before, what was read is remembered for `recount`.
        """
        side = self.standing(side)
        with self.session("looking for tables", database=side) as connection:
            known = [relation.name for relation in self.relations(connection)]
            blobs = self._has_large_objects(connection)
        wanted = known if tables is None else [name for name in tables if name != LARGE_OBJECTS]
        found = {name: Fingerprint(None, None, "there is no such table") for name in wanted if name not in known}
        names = [name for name in wanted if name in known]
        if blobs and (tables is None or LARGE_OBJECTS in tables):
            names.append(LARGE_OBJECTS)
        alone = len(names) == 1
        with ThreadPoolExecutor(max(1, self.limits.jobs)) as pool:
            results = dict(
                zip(names, pool.map(lambda name: self._one(name, side, snapshot, alone), names), strict=True)
            )
        for name in [name for name, result in results.items() if result is None]:
            self.await_server()
            again = None if snapshot else self._one(name, side, snapshot, True)
            if again is None and not snapshot:
                self.await_server()
            results[name] = again or Seen(
                Fingerprint(None, None, "the server ended the session while the table was read")
            )
        if definitions is not None:
            self._seen.update({name: replace(seen, definitions=definitions) for name, seen in results.items() if seen})
        return {**found, **{name: seen.print for name, seen in results.items() if seen}}

    def recount(self, tables: Sequence[str] | None) -> dict[str, Fingerprint]:
        """A table keeps the fingerprint that this object read before where no row came, went or changed since.

        That is so when the rows are as many and none has a version of a transaction that the earlier reading may
        not have seen, as long as everything is defined as before it; anything else is read again.
        """
        now = self.catalog()
        with self.session("looking for tables") as connection:
            known = [relation.name for relation in self.relations(connection)]
        wanted = known if tables is None else list(tables)
        held = [name for name in wanted if name in known and name in self._seen and self._seen[name].holds_for(now)]
        same = dict(self.shared(held, self._unchanged, max(1, self.limits.jobs)))
        rest = [name for name in wanted if not same.get(name)]
        read = self.fingerprints([*rest, LARGE_OBJECTS] if tables is None else rest, definitions=now)
        recounted = {name: replace(self._seen[name].print, recounted=True) for name in wanted if same.get(name)}
        return {**{name: recounted[name] for name in wanted if name in recounted}, **read}

    def _unchanged(self, names: Sequence[str]) -> list[tuple[str, bool]]:
        found: list[tuple[str, bool]] = []
        try:
            with self.session("counting", settings={**PINNED, "max_parallel_workers_per_gather": 0}) as connection:
                for name in names:
                    self.raise_if_stopping("counting", name)
                    seen = self._seen[name]
                    [(rows, new)] = ask(
                        connection,
                        f"""SELECT count(*), count(*) FILTER (WHERE age(dbmaint_row.xmin) <= horizon)
                            FROM (SELECT age(%(oldest)s::xid) AS horizon OFFSET 0) h, ONLY {name} AS dbmaint_row""",
                        oldest=seen.oldest,
                    )
                    found.append((name, new == 0 and rows == seen.print.rows))
        except EngineError:
            # Whatever it is, the reading of every row meets it too, and knows what it means.
            self.raise_if_stopping("counting", names[len(found)])
        return found

    def _one(self, name: str, side: str | None, snapshot: str | None, alone: bool) -> Seen | None:
        """None when the session was lost."""
        settings = {**PINNED, "max_parallel_workers_per_gather": self.limits.jobs if alone else 0}
        try:
            with self.session("reading", name, database=side, settings=settings) as connection:
                ask(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                if snapshot:
                    [(literal,)] = ask(connection, "SELECT quote_literal(%(snapshot)s)", snapshot=snapshot)
                    ask(connection, "ROLLBACK")
                    ask(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    ask(connection, f"SET TRANSACTION SNAPSHOT {literal}")
                found = large_objects_of(connection) if name == LARGE_OBJECTS else fingerprint_of(connection, name)
                [(oldest,)] = ask(connection, OLDEST_RUNNING)
                ask(connection, "ROLLBACK")
                return Seen(found, str(oldest))
        except Interrupted:
            raise
        except (Transient, Unreachable) as error:
            if isinstance(error, Unreachable) or re.search(
                "closed|terminat|recovery|starting up|connection", error.words
            ):
                return None
            return Seen(Fingerprint(None, None, error.words))
        except EngineError as error:
            return Seen(Fingerprint(None, None, error.words))

    def _has_large_objects(self, connection: Connection) -> bool:
        return bool(ask(connection, "SELECT EXISTS (SELECT 1 FROM pg_largeobject_metadata)")[0][0])

    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        """amcheck with every index compared to its table; then constraints, uniqueness and sequences from the rows.

        Constraints of a table whose own pages are faulty are not asked: reading those pages may end the server.
        """
        structure, faulty = self._structure(tables, thorough)
        constraints = self._constraints(tables, faulty) if thorough else []
        return structure + constraints + self._sequences(tables)

    def check_again(self, tables: Sequence[str] | None) -> list[Check]:
        """Constraints follow from the rows. An index of a table that was vacuumed now, after whatever else was done to
        it, is examined page by page and its entries are counted; where that cannot be, and of any other table, each
        key is compared with its row."""
        with self.session("looking for tables") as connection:
            names = [relation.name for relation in self.relations(connection, tables)]
        counts, uncounted = self._count_entries([name for name in names if name in self.cleaned])
        light = [name for name in names if name in self.cleaned and name not in uncounted]
        deep = [name for name in names if name not in light]
        found = self._structure(light, False)[0] if light else []
        found += self._structure(deep, True)[0] if deep else []
        return found + counts + self._sequences(tables)

    def check_early(self, tables: Sequence[str] | None) -> list[Check]:
        structure, faulty = self._structure(tables, False)
        return structure + self._constraints(tables, faulty)

    def check_rest(self, tables: Sequence[str] | None) -> list[Check]:
        return self._sequences(tables)

    def _structure(self, tables: Sequence[str] | None, deep: bool) -> tuple[list[Check], set[str]]:
        checks: list[Check] = []
        faulty: set[str] = set()
        unknown: list[str] = []
        for result in self.examine(tables, CHECK_SECONDS, deep, max(1, self.limits.jobs)):
            what = "index structure" if result.part.index else "table structure"
            if result.unknown:
                unknown.append(result.part.index or result.part.table)
                continue
            if result.fault and not result.part.index:
                faulty.add(result.part.table)
            checks.append(Check(what, result.part.index or result.part.table, result.fault is None, result.fault or ""))
        checks += self._read_through(unknown) if deep else []
        return checks, faulty

    def _read_through(self, names: Sequence[str]) -> list[Check]:
        """Where amcheck may not be used: read every entry of an index in order, and compare the count."""
        return self._count_through(lambda index: index.name in names)[0] if names else []

    def _count_entries(self, tables: Sequence[str]) -> tuple[list[Check], set[str]]:
        """Also the tables of those indexes that cannot be counted."""
        return self._count_through(lambda index: index.table in tables) if tables else ([], set())

    def _count_through(self, wanted: Callable[[Readable], bool]) -> tuple[list[Check], set[str]]:
        """Entries of indexes, read in their order, beside the rows; and tables with one that is not read so."""
        with self.session("looking for indexes") as connection:
            readable = [Readable(*row) for row in ask(connection, READABLE_INDEXES)]
        groups: dict[tuple[str, str], list[Readable]] = {}
        for index in readable:
            if wanted(index):
                groups.setdefault((index.table, index.condition), []).append(index)
        checks = self.shared(list(groups.values()), self._count_share, max(1, self.limits.jobs))
        return [check for _, check in checks if check], {index.table for index, check in checks if check is None}

    def _count_share(self, groups: Sequence[list[Readable]]) -> list[tuple[Readable, Check | None]]:
        return [pair for group in groups for pair in self._count_group(group)]

    def _count_group(self, group: Sequence[Readable]) -> list[tuple[Readable, Check | None]]:
        """Of indexes over the same rows; None where counting would prove nothing."""
        base = f"FROM ONLY {group[0].table} WHERE {group[0].condition}"
        try:
            with self.session("reading", group[0].name, settings=THROUGH_INDEX) as connection:
                entries = [(index, entries_of(connection, index, base)) for index in group]
                configure(
                    connection, {"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_seqscan": "on"}
                )
                [(there,)] = reading(connection, f"SELECT count(*) {base}")
        except Interrupted:
            raise
        except EngineError as error:
            if len(group) > 1:
                return [pair for index in group for pair in self._count_group([index])]
            return [(group[0], Check("index can be read", group[0].name, False, error.words))]
        return [
            (index, None)
            if count is None
            else (
                index,
                Check(
                    "index can be read",
                    index.name,
                    count == there,
                    say("{entries} of {rows} rows by the index", entries=count, rows=there),
                ),
            )
            for index, count in entries
        ]

    def _constraints(self, tables: Sequence[str] | None, faulty: set[str]) -> list[Check]:
        """Each of the sessions asks its part of them."""
        with self.session("checking constraints", settings=PINNED) as connection:
            rows = ask(connection, CONSTRAINTS)
        asked = [(row, canonical(row[1], row[2])) for row in rows]
        wanted = [(row, name) for row, name in asked if (tables is None or name in tables) and name not in faulty]

        def client(share: Sequence[tuple[Row, str]]) -> list[Check]:
            with self.session("checking constraints", settings=PINNED) as connection:
                # The statements name everything in full; functions in CHECK constraints may need the usual path.
                ask(connection, "RESET search_path")
                found: list[Check] = []
                for (what, _, _, name, statement), object in share:
                    self.raise_if_stopping("checking", object)
                    found.append(self._none(connection, what, object, name, statement))
                return found

        return self.shared(wanted, client, max(1, self.limits.jobs))

    def _none(self, connection: Connection, what: str, object: str, name: str, statement: str) -> Check:
        """A statement that must count nothing."""
        try:
            [(wrong,)] = reading(connection, statement)
        except DBAPIError as error:
            self.raise_if_stopping("checking", object)
            if lost(error.orig):
                raise
            return Check(what, object, False, f"{name}: {words_of(error)}", of_rows=True)
        detail = say("{name}: {count} rows do not keep it", name=name, count=wrong) if wrong else name
        return Check(what, object, not wrong, detail, of_rows=True)

    def _sequences(self, tables: Sequence[str] | None) -> list[Check]:
        checks: list[Check] = []
        with self.session("checking sequences", settings={"search_path": "", "row_security": "off"}) as connection:
            for row in ask(connection, OWNED_SEQUENCES):
                object = canonical(row[0], row[1])
                if tables is not None and object not in tables:
                    continue
                try:
                    behind = sequence_behind(connection, row)
                except DBAPIError as error:
                    if lost(error.orig):
                        raise
                    checks.append(Check("sequence", object, False, words_of(error)))
                else:
                    detail = canonical(row[3], row[4])
                    if behind:
                        detail = say(
                            "{sequence} stands at {last}, highest is {highest}",
                            sequence=detail,
                            last=behind[5],
                            highest=behind[6],
                        )
                    checks.append(Check("sequence", object, behind is None, detail))
        return checks

    def catalog(self, side: str | None = None) -> dict[str, str]:
        side = self.standing(side)
        with self.session("reading definitions", database=side, settings={"search_path": ""}) as connection:
            return {str(object): str(digest) for object, digest in ask(connection, DEFINITIONS)}

    def query(self, sql: str) -> list[Row]:
        """One statement in a transaction that cannot write; raises Unable for several."""
        with self.asking() as question:
            return question(sql)

    @contextmanager
    def asking(self) -> Iterator[Callable[[str], list[Row]]]:
        with self.session("asking", settings={"client_min_messages": "error"}) as connection:
            yield lambda sql: reading(connection, single(sql))


def reading(connection: Connection, statement: str) -> list[Row]:
    """Runs it in a transaction that cannot write, whatever functions it calls: owners of tables wrote those."""
    # After the first query the transaction cannot be made writable any more.
    ask(connection, "BEGIN READ ONLY; SELECT 1")
    try:
        return ask(connection, statement)
    finally:
        if not connection.invalidated:
            ask(connection, "ROLLBACK")


def single(sql: str) -> str:
    """The statement without its semicolon. Several could end our read-only transaction and write: Unable.

    Where backslashes, dollars or comments may quote too, only the server's own scanner knows where a text ends:
    there a semicolon in a text is refused as well.
    """
    statement = sql.strip().rstrip("; \t\r\n")
    plain = statement if re.search(r"[\\$]|--|/\*", statement) else re.sub(r"'[^']*'|\"[^\"]*\"", "", statement)
    if ";" in plain:
        raise Unable("asking", sql[:80], "only one statement is allowed")
    return statement


def entries_of(connection: Connection, index: Readable, base: str) -> int | None:
    """Entries of the index, read in its order. None where the planner found another way."""
    through = f"SELECT count(*) FROM (SELECT 1 {base} ORDER BY {index.keys} OFFSET 0) x"
    plan = " ".join(str(line) for (line,) in reading(connection, f"EXPLAIN {through}"))
    if not re.search(rf"Index (Only )?Scan (Backward )?using {re.escape(index.explained)} ", plan) or "Sort" in plan:
        return None
    return int(reading(connection, through)[0][0])


def fingerprint_of(connection: Connection, name: str) -> Fingerprint:
    """`sum`, not `bit_xor`: that one does not see pairs of equal rows. The text form holds for every type; made by
    `record_out`, because a cast to text may be the owner's own."""
    [(rows, digest)] = ask(
        connection,
        f"""SELECT count(*), coalesce(sum(hashtextextended(record_out(dbmaint_row.*)::text, 0)::numeric), 0)::text
            FROM ONLY {name} AS dbmaint_row""",
    )
    return Fingerprint(int(rows), str(digest))


def large_objects_of(connection: Connection) -> Fingerprint:
    """Rows are the objects. To be asked in a transaction: an object is open no longer than that."""
    [(objects, superuser)] = ask(
        connection,
        """SELECT (SELECT count(*) FROM pg_largeobject_metadata),
             has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')""",
    )
    pages = "pg_largeobject" if superuser else PAGES_OF_OWN_OBJECTS
    [(digest,)] = ask(
        connection,
        f"""SELECT coalesce(sum(hashtextextended(loid::text || ':' || pageno::text || ':' || data::text,
               0)::numeric), 0)::text
           FROM {pages}""",
    )
    return Fingerprint(int(objects), str(digest))


def differing(baseline: Mapping[str, Fingerprint], other: Mapping[str, Fingerprint]) -> list[str]:
    """Tables of the baseline that are not proved equal in `other`."""
    return [name for name, mark in baseline.items() if name not in other or not mark.readable or other[name] != mark]


PAGES_OF_OWN_OBJECTS = """
(SELECT oid AS loid, pageno, lo_get(oid, pageno * 2048, 2048) AS data FROM (
   SELECT oid, lo_lseek64(fd, 0, 2) AS bytes, lo_close(fd) FROM (
     SELECT oid, lo_open(oid, 262144) AS fd FROM pg_largeobject_metadata) opened) measured,
   generate_series(0, (bytes + 2047) / 2048 - 1) pageno) pages
"""
"""What a superuser reads from pg_largeobject, for an owner of the objects: 262144 means reading, 2 from the end."""

THROUGH_INDEX: dict[str, object] = {
    **PINNED,
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "max_parallel_workers_per_gather": 0,
}

READABLE_INDEXES = f"""
SELECT n.nspname, c.relname, ni.nspname, i.relname, quote_ident(i.relname),
  (SELECT string_agg(pg_get_indexdef(i.oid, k, false) || CASE WHEN x.indoption[k - 1] & 1 = 1 THEN ' DESC' ELSE '' END
     || CASE WHEN x.indoption[k - 1] & 2 = 2 THEN ' NULLS FIRST' ELSE ' NULLS LAST' END, ', ' ORDER BY k)
   FROM generate_series(1, x.indnkeyatts) k),
  coalesce(pg_get_expr(x.indpred, x.indrelid), 'true')
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace ni ON ni.oid = i.relnamespace
JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = i.relam
WHERE a.amname = 'btree' AND x.indisvalid AND {USER_TABLES}
"""

CONSTRAINTS = f"""
WITH c AS (SELECT c.oid, c.relname, n.nspname, format('%I.%I', n.nspname, c.relname) AS name
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USER_TABLES})
SELECT 'foreign key', c.nspname, c.relname, k.conname::text,
  format('SELECT count(*) FROM ONLY %s f WHERE %s AND NOT EXISTS (SELECT 1 FROM %s p WHERE %s)', c.name,
    (SELECT string_agg(format('f.%I IS NOT NULL', a.attname), ' AND ') FROM unnest(k.conkey) n
     JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n),
    (SELECT format('%I.%I', pn.nspname, p.relname) FROM pg_class p JOIN pg_namespace pn ON pn.oid = p.relnamespace
      WHERE p.oid = k.confrelid),
    (SELECT string_agg(format('p.%I = f.%I', pa.attname, fa.attname), ' AND ') FROM unnest(k.conkey,
      k.confkey) AS n(f, p)
     JOIN pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = n.f
     JOIN pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = n.p))
FROM pg_constraint k JOIN c ON c.oid = k.conrelid
WHERE k.contype = 'f' AND k.convalidated
  AND NOT EXISTS (SELECT 1 FROM pg_constraint parent JOIN pg_class pc ON pc.oid = parent.conrelid
                  WHERE parent.oid = k.conparentid AND parent.conrelid = k.conrelid)
UNION ALL
SELECT 'check', c.nspname, c.relname, k.conname::text,
  format('SELECT count(*) FROM ONLY %s WHERE NOT (%s)', c.name, pg_get_expr(k.conbin, k.conrelid))
FROM pg_constraint k JOIN c ON c.oid = k.conrelid WHERE k.contype = 'c' AND k.convalidated
UNION ALL
SELECT 'not null', c.nspname, c.relname, string_agg(a.attname, ', ' ORDER BY a.attnum),
  format('SELECT count(*) FROM ONLY %s WHERE %s', c.name, string_agg(format('%I IS NULL', a.attname), ' OR '))
FROM pg_attribute a JOIN c ON c.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
GROUP BY c.nspname, c.relname, c.name
UNION ALL
SELECT 'unique', c.nspname, c.relname, i.relname::text,
  format('SELECT count(*) FROM (SELECT 1 FROM ONLY %s WHERE %s AND (%s) GROUP BY %s HAVING count(*) > 1) x', c.name,
    (SELECT string_agg(format('%s IS NOT NULL', pg_get_indexdef(i.oid, k, false)), ' AND ') FROM generate_series(1,
      x.indnkeyatts) k),
    coalesce(pg_get_expr(x.indpred, x.indrelid), 'true'),
    (SELECT string_agg(pg_get_indexdef(i.oid, k, false), ', ') FROM generate_series(1, x.indnkeyatts) k))
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN c ON c.oid = x.indrelid WHERE x.indisunique
  AND x.indisvalid
"""
"""Statements that count the rows which contradict a constraint, read from the tables and not by their indexes."""
