"""Checks: structure, constraints and sequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..errors import EngineError, Interrupted
from ..messages import msg
from ..parts import Verifier
from ..values import Check, Fingerprint
from .driver_errors import lost
from .fingerprints import PINNED, Fingerprints
from .least_account import CALLING, HAS_CODE, OWNER, READER, found_by, lend, reading, usual_path
from .relations import USER_TABLES, relations
from .sequences import OWNED_SEQUENCES, sequence_behind
from .sql import Row, ask, canonical, configure, words_of
from .structure import Structure
from .target import TargetDatabase
from .tls import tls_rules

CHECK_SECONDS = 3600.0


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
    reader: str | None

    @property
    def table(self) -> str:
        return canonical(self.schema, self.relation)

    @property
    def name(self) -> str:
        return canonical(self.index_schema, self.index)


class PostgresVerifier(Verifier):
    """Fingerprints, definitions and checks."""

    def __init__(self, target: TargetDatabase, structure: Structure, fingerprints: Fingerprints) -> None:
        self.target, self.structure, self.fingerprints = target, structure, fingerprints

    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        """See Verifier.fingerprint."""
        return self.fingerprints.read(tables, side)

    def recount(self, tables: Sequence[str] | None) -> dict[str, Fingerprint]:
        """See Verifier.recount."""
        return self.fingerprints.recount(tables)

    def definitions(self, side: str | None = None) -> dict[str, str]:
        """See Verifier.definitions."""
        return self.fingerprints.definitions(side)

    def tls(self) -> dict[str, list[str]]:
        """See Verifier.tls."""
        return tls_rules(self.target)

    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        """See Verifier.check. amcheck compares every index with its table; then constraints, uniqueness and sequences
        are asked of the rows.

        Constraints of a table whose own pages are faulty are not asked: reading those pages may end the server.
        """
        structure, faulty = self._structure(tables, thorough)
        constraints = self._constraints(tables, faulty) if thorough else []
        return structure + constraints + self._sequences(tables)

    def check_again(self, tables: Sequence[str] | None) -> list[Check]:
        """See Verifier.check_again. Constraints follow from the rows.

        An index of a table that was vacuumed now, after whatever else was done to it, is examined page by page and its
        entries are counted; where that cannot be, and of any other table, each key is compared with its row.
        """
        with self.target.session("looking for tables") as connection:
            names = [relation.name for relation in relations(connection, tables)]
        counts, uncounted = self._count_entries([name for name in names if name in self.structure.cleaned])
        light = [name for name in names if name in self.structure.cleaned and name not in uncounted]
        deep = [name for name in names if name not in light]
        found = self._structure(light, False)[0] if light else []
        found += self._structure(deep, True)[0] if deep else []
        return found + counts + self._sequences(tables)

    def check_early(self, tables: Sequence[str] | None) -> list[Check]:
        """See Verifier.check_early."""
        structure, faulty = self._structure(tables, False)
        return structure + self._constraints(tables, faulty)

    def check_rest(self, tables: Sequence[str] | None) -> list[Check]:
        """See Verifier.check_rest."""
        return self._sequences(tables)

    def _structure(self, tables: Sequence[str] | None, deep: bool) -> tuple[list[Check], set[str]]:
        checks: list[Check] = []
        faulty: set[str] = set()
        unknown: list[str] = []
        for result in self.structure.examine(tables, CHECK_SECONDS, deep, max(1, self.target.limits.jobs)):
            what = "index structure" if result.part.index else "table structure"
            if result.unknown:
                unknown.append(result.part.index or result.part.table)
                continue
            if result.fault and not result.part.index:
                faulty.add(result.part.table)
            object = result.part.index or result.part.table
            checks.append(Check(what, object, result.fault is None, result.fault or "", table=result.part.table))
        checks += self._read_through(unknown) if deep else []
        return checks, faulty

    def _read_through(self, names: Sequence[str]) -> list[Check]:
        """Where amcheck may not be used: read every entry of an index in order, and compare the count."""
        return self._count_through(lambda index: index.name in names)[0] if names else []

    def _count_entries(self, tables: Sequence[str]) -> tuple[list[Check], set[str]]:
        """Also the tables of those indexes that cannot be counted."""
        return self._count_through(lambda index: index.table in tables) if tables else ([], set())

    def _count_through(self, wanted: Callable[[Readable], bool]) -> tuple[list[Check], set[str]]:
        """Return entries of indexes, read in their order, beside the rows; and tables with one that is not read so."""
        with self.target.session("looking for indexes") as connection:
            readable = [Readable(*row) for row in ask(connection, READABLE_INDEXES)]
        groups: dict[tuple[str, str], list[Readable]] = {}
        for index in readable:
            if wanted(index):
                groups.setdefault((index.table, index.condition), []).append(index)
        checks = self.target.shared(list(groups.values()), self._count_share, max(1, self.target.limits.jobs))
        return [check for _, check in checks if check], {index.table for index, check in checks if check is None}

    def _count_share(self, groups: Sequence[list[Readable]]) -> list[tuple[Readable, Check | None]]:
        return [pair for group in groups for pair in self._count_group(group)]

    def _count_group(self, group: Sequence[Readable]) -> list[tuple[Readable, Check | None]]:
        """Of indexes over the same rows; None where counting would prove nothing."""
        base = f"FROM ONLY {group[0].table} WHERE {group[0].condition}"
        try:
            with self.target.session("reading", group[0].name, settings=THROUGH_INDEX) as connection:
                if group[0].reader is not None:
                    lend(connection, group[0].reader)
                path = usual_path(connection)
                entries = [(index, entries_of(connection, index, base, path)) for index in group]
                configure(
                    connection, {"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_seqscan": "on"}
                )
                there = counted(connection, f"SELECT count(*) {base}", group[0].reader, path)
        except Interrupted:
            raise
        except EngineError as error:
            if len(group) > 1:
                return [pair for index in group for pair in self._count_group([index])]
            return [(group[0], Check("index can be read", group[0].name, False, error.words, table=group[0].table))]
        return [
            (index, None)
            if count is None
            else (
                index,
                Check(
                    "index can be read",
                    index.name,
                    count == there,
                    msg("{entries} of {rows} rows by the index", entries=count, rows=there),
                    table=index.table,
                ),
            )
            for index, count in entries
        ]

    def _constraints(self, tables: Sequence[str] | None, faulty: set[str]) -> list[Check]:
        """Each of the sessions asks its part of them."""
        with self.target.session("checking constraints", settings=PINNED) as connection:
            rows = ask(connection, CONSTRAINTS)
        asked = [(row, canonical(row[1], row[2])) for row in rows]
        wanted = [(row, name) for row, name in asked if (tables is None or name in tables) and name not in faulty]

        def client(share: Sequence[tuple[Row, str]]) -> list[Check]:
            with self.target.session("checking constraints", settings=PINNED) as connection:
                path = usual_path(connection)
                found: list[Check] = []
                for (what, _, _, name, statement, role), object in share:
                    self.target.raise_if_stopping("checking", object)
                    found.append(self._none(connection, what, object, name, statement, role, path))
                return found

        return self.target.shared(wanted, client, max(1, self.target.limits.jobs))

    def _none(
        self,
        connection: Connection,
        what: str,
        object: str,
        name: str,
        statement: str,
        role: str | None,
        path: str,
    ) -> Check:
        """A statement that must count nothing."""
        try:
            if role is not None:
                lend(connection, role)
            # Statements name everything in full, but a function that one calls may count on the usual path.
            [(wrong,)] = found_by(path, lambda way: reading(connection, statement, role, "wrong bigint", way))
        except DBAPIError as error:
            self.target.raise_if_stopping("checking", object)
            if lost(error.orig):
                raise
            return Check(what, object, False, f"{name}: {words_of(error)}", of_rows=True)
        detail = msg("{name}: {count} rows do not keep it", name=name, count=wrong) if wrong else name
        return Check(what, object, not wrong, detail, of_rows=True)

    def _sequences(self, tables: Sequence[str] | None) -> list[Check]:
        checks: list[Check] = []
        with self.target.session("checking sequences") as connection:
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
                        detail = msg(
                            "{sequence} stands at {last}, highest is {highest}",
                            sequence=detail,
                            last=behind[5],
                            highest=behind[6],
                        )
                    checks.append(Check("sequence", object, behind is None, detail))
        return checks


def counted(connection: Connection, statement: str, role: str | None, path: str) -> int:
    [(count,)] = found_by(path, lambda way: reading(connection, statement, role, "rows bigint", way))
    return int(count)


def entries_of(connection: Connection, index: Readable, base: str, path: str) -> int | None:
    """Return entries of the index, read in its order. None where the planner found another way."""
    through = f"SELECT count(*) FROM (SELECT 1 {base} ORDER BY {index.keys} OFFSET 0) x"
    explained = found_by(path, lambda way: reading(connection, f"EXPLAIN {through}", index.reader, "line text", way))
    plan = " ".join(str(line) for (line,) in explained)
    if not re.search(rf"Index (Only )?Scan (Backward )?using {re.escape(index.explained)} ", plan) or "Sort" in plan:
        return None
    return counted(connection, through, index.reader, path)


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
  coalesce(pg_get_expr(x.indpred, x.indrelid), 'true'), {READER}
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace ni ON ni.oid = i.relnamespace
JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = i.relam
WHERE a.amname = 'btree' AND x.indisvalid AND {USER_TABLES}
"""

OF_ROW = """
(SELECT string_agg(format('p.%I%s OPERATOR(%I.%s) f.%I%s', pa.attname, t.left, t.schema, o.oprname, fa.attname, t.right)
   || coalesce((SELECT format(' COLLATE %I.%I', cn.nspname, l.collname) FROM pg_collation l
     JOIN pg_namespace cn ON cn.oid = l.collnamespace WHERE l.oid = pa.attcollation), ''), ' AND ')
 FROM unnest(k.conkey, k.confkey, k.conpfeqop) AS n(f, p, op)
 JOIN pg_attribute fa ON fa.attrelid = k.conrelid AND fa.attnum = n.f
 JOIN pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = n.p
 JOIN pg_operator o ON o.oid = n.op,
 LATERAL (SELECT (SELECT nspname FROM pg_namespace WHERE oid = o.oprnamespace) AS schema,
   (SELECT '::' || format_type(oid, NULL) FROM pg_type WHERE oid = o.oprleft AND typtype <> 'p') AS left,
   (SELECT '::' || format_type(oid, NULL) FROM pg_type WHERE oid = o.oprright AND typtype <> 'p') AS right) t)
"""
"""How the server itself compares keys: by the operators of the constraint, and in the order of the column that is
referred to (ri_GenerateQual in its ri_triggers.c)."""

READER_OF_BOTH = f"""
(SELECT CASE WHEN f.owner IS NULL OR p.owner IS NULL THEN coalesce(f.owner, p.owner)
    WHEN has_table_privilege(f.owner::name, k.confrelid, 'SELECT') THEN f.owner ELSE p.owner END
  FROM (SELECT CASE WHEN bool_or({HAS_CODE})
          THEN (SELECT {OWNER} FROM pg_class c WHERE c.oid = k.conrelid) END AS owner
        FROM pg_class c WHERE c.oid = k.conrelid) f,
       (SELECT CASE WHEN bool_or({HAS_CODE})
          THEN (SELECT {OWNER} FROM pg_class c WHERE c.oid = k.confrelid) END AS owner
        FROM pg_class c WHERE c.oid = k.confrelid OR c.oid IN (SELECT relid FROM pg_partition_tree(k.confrelid))) p)
"""

CONSTRAINTS = f"""
WITH c AS (SELECT c.oid, c.relname, n.nspname, format('%I.%I', n.nspname, c.relname) AS name, {READER} AS reader,
             {OWNER} AS owner
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USER_TABLES})
SELECT 'foreign key', c.nspname, c.relname, k.conname::text,
  format('SELECT count(*) FROM ONLY %s f WHERE %s AND NOT EXISTS (SELECT 1 FROM %s p WHERE %s)', c.name,
    (SELECT string_agg(format('f.%I IS NOT NULL', a.attname), ' AND ') FROM unnest(k.conkey) n
     JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n),
    (SELECT format('%s%I.%I', CASE p.relkind WHEN 'r' THEN 'ONLY ' END, pn.nspname, p.relname) FROM pg_class p
      JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE p.oid = k.confrelid), {OF_ROW}),
  {READER_OF_BOTH}
FROM pg_constraint k JOIN c ON c.oid = k.conrelid
WHERE k.contype = 'f' AND k.convalidated AND NOT coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)
  AND NOT EXISTS (SELECT 1 FROM pg_constraint parent JOIN pg_class pc ON pc.oid = parent.conrelid
                  WHERE parent.oid = k.conparentid AND parent.conrelid = k.conrelid)
UNION ALL
SELECT 'check', c.nspname, c.relname, k.conname::text,
  format('SELECT count(*) FROM ONLY %s WHERE NOT (%s)', c.name, pg_get_expr(k.conbin, k.conrelid)),
  CASE WHEN ('pg_constraint'::regclass, k.oid) IN ({CALLING}) THEN c.owner ELSE c.reader END
FROM pg_constraint k JOIN c ON c.oid = k.conrelid WHERE k.contype = 'c' AND k.convalidated
UNION ALL
SELECT 'not null', c.nspname, c.relname, string_agg(a.attname, ', ' ORDER BY a.attnum),
  format('SELECT count(*) FROM ONLY %s WHERE %s', c.name, string_agg(format('%I IS NULL', a.attname), ' OR ')),
  min(c.reader)
FROM pg_attribute a JOIN c ON c.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
GROUP BY c.nspname, c.relname, c.name
UNION ALL
SELECT 'unique', c.nspname, c.relname, i.relname::text,
  format('SELECT count(*) FROM (SELECT 1 FROM ONLY %s WHERE %s AND (%s) GROUP BY %s HAVING count(*) > 1) x', c.name,
    (SELECT string_agg(format('%s IS NOT NULL', key), ' AND ') FROM unnest(keys) key),
    coalesce(pg_get_expr(x.indpred, x.indrelid), 'true'),
    (SELECT string_agg(key, ', ') FROM unnest(keys) key)), c.reader
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN c ON c.oid = x.indrelid,
  LATERAL (SELECT array_agg(pg_get_indexdef(i.oid, n, false) || coalesce((
      SELECT format(' COLLATE %I.%I', ln.nspname, l.collname) FROM pg_collation l
      JOIN pg_namespace ln ON ln.oid = l.collnamespace WHERE l.oid = x.indcollation[n - 1]), '') ORDER BY n) AS keys
    FROM generate_series(1, x.indnkeyatts) n) k
WHERE x.indisunique AND x.indisvalid
"""
"""Statements that count the rows which contradict a constraint, read from the tables and not by their indexes; and in
whose name, None in ours. Not of keys with PERIOD."""
