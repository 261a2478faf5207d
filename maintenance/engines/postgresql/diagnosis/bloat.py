"""Where pgstattuple is installed: what the estimates of empty space say is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance.engines.values import TableFacts, Thresholds

from ..driver_errors import lost
from ..sql import Row, ask
from ..structure import installed
from ..target import TargetDatabase

MOST = 5
"""Tables that are measured at most, and as many whose indexes are."""
SETTINGS = {"statement_timeout": "10s", "lock_timeout": "2s", "default_transaction_read_only": "on"}

TABLE = "SELECT approx_free_percent, dead_tuple_percent FROM {schema}.pgstattuple_approx(%(table)s::regclass)"
INDEXES = """
SELECT sum(s.index_size)::float8, sum(s.index_size * greatest(0, 1 - s.avg_leaf_density / i.ff))::float8,
  max(s.leaf_fragmentation)
FROM (SELECT c.oid, coalesce((SELECT (regexp_match(o, 'fillfactor=([0-9]+)'))[1]::int FROM unnest(c.reloptions) o
        WHERE o LIKE 'fillfactor=%%'), 90) AS ff
      FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam
      WHERE x.indrelid = %(table)s::regclass AND x.indisvalid AND a.amname = 'btree') i,
  LATERAL {schema}.pgstatindex(i.oid::regclass) s WHERE s.avg_leaf_density <> 'NaN' HAVING count(*) > 0
"""
"""Bytes of a table's b-trees, how many of them are empty against the fill factor, and the largest share of leaf pages
that do not follow each other on disk: https://www.postgresql.org/docs/current/pgstattuple.html"""


def measured(target: TargetDatabase, facts: list[TableFacts], thresholds: Thresholds) -> list[TableFacts]:
    """Return the facts with the shares measured of what is estimated as bloated, or cannot be judged: largest first.

    Reads only pages that are not wholly visible, of indexes every page, and trusts none of them.
    """

    def doubtful(share: Callable[[TableFacts], object], bytes_: Callable[[TableFacts], int]) -> list[TableFacts]:
        return [
            fact
            for fact in sorted(facts, key=lambda fact: -bytes_(fact))
            if bytes_(fact) >= thresholds.minimum_bytes and not fact.damaged and at_least(share(fact), thresholds)
        ][:MOST]

    tables = doubtful(lambda fact: fact.bloat_share, lambda fact: fact.bytes)
    indexed = doubtful(lambda fact: fact.notes["index_bloat_share"], index_bytes)
    with target.session("measuring", settings=SETTINGS) as connection:
        schema = installed(connection, "pgstattuple")
        if schema is None:
            return facts
        spaces = {fact.name: answer(connection, TABLE, schema, fact.name) for fact in tables}
        inside = {fact.name: answer(connection, INDEXES, schema, fact.name) for fact in indexed}
    return [with_measures(fact, spaces.get(fact.name), inside.get(fact.name)) for fact in facts]


def at_least(share: object, thresholds: Thresholds) -> bool:
    return not isinstance(share, float) or share >= thresholds.bloat_share


def index_bytes(fact: TableFacts) -> int:
    value = fact.notes["index_bytes"]
    return value if isinstance(value, int) else 0


def answer(connection: Connection, sql: str, schema: str, table: str) -> Row | None:
    """Return None where it could not be measured."""
    try:
        rows: Sequence[Row] = ask(connection, sql.replace("{schema}", schema), table=table)
    except DBAPIError as error:
        if lost(error.orig):
            raise
        return None
    return rows[0] if rows else None


def with_measures(fact: TableFacts, space: Row | None, inside: Row | None) -> TableFacts:
    notes, share = dict(fact.notes), fact.bloat_share
    if space is not None:
        free, dead = space
        share = min(1.0, (float(free) + float(dead)) / 100)
        notes["measured"] = True
    if inside is not None:
        whole, empty, out_of_order = inside
        notes["index_bloat_share"] = float(empty) / float(whole)
        notes["index_fragmentation"] = float(out_of_order) / 100
    return replace(fact, bloat_share=share, notes=notes)
