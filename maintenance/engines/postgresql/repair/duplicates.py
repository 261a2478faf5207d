"""Equal keys under a unique index: which ones, how many, and how a person looks at them.

Nobody but a person can tell which of two rows is the right one, so nothing is deleted here.
"""

from __future__ import annotations

from sqlalchemy import Connection

from ..least_account import ask_as
from ..relations import Relation
from ..sql import ask, canonical

SHOWN = 5

UNIQUE_INDEXES = """
SELECT n.nspname, i.relname, coalesce(pg_get_expr(x.indpred, x.indrelid), 'true'),
  ARRAY(SELECT pg_get_indexdef(i.oid, k, false) FROM generate_series(1, x.indnkeyatts) k)
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE x.indrelid = %(oid)s AND x.indisunique ORDER BY 1, 2
"""


def duplicates(connection: Connection, relation: Relation) -> list[str]:
    """Return a sentence for each unique index that the rows contradict. The session must not read by indexes
    (PINNED)."""
    found: list[str] = []
    for schema, index, condition, keys in ask(connection, UNIQUE_INDEXES, oid=relation.oid):
        columns = ", ".join(keys)
        there = " AND ".join(f"{key} IS NOT NULL" for key in keys)
        groups = f"""SELECT count(*) AS n, array_agg(ctid::text ORDER BY ctid) AS places,
                       concat_ws(', ', {", ".join(f"min(quote_literal(format('%s', {key})))" for key in keys)}) AS keys
                     FROM ONLY {relation.name} WHERE {there} AND ({condition}) GROUP BY {columns} HAVING count(*) > 1"""
        rows = ask_as(
            connection,
            relation.reader,
            "keys text, n bigint, places text[], groups bigint, rows numeric",
            f"SELECT keys, n, places, count(*) OVER (), sum(n) OVER () FROM ({groups}) g ORDER BY keys LIMIT {SHOWN}",
        )
        if rows:
            first = "; ".join(f"({columns}) = ({key}) in {count} rows" for key, count, *_ in rows)
            places = ", ".join(f"'{place}'" for place in rows[0][2][:SHOWN])
            found.append(
                f"{canonical(schema, index)}: {rows[0][3]} keys stand in {rows[0][4]} rows, e.g. {first}. Nothing was"
                f" deleted. Look at them with SELECT ctid, * FROM {relation.name} WHERE ctid IN ({places}); delete"
                " what is wrong by its ctid, then repair again"
            )
    return found
