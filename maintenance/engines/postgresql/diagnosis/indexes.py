"""Indexes that are broken, superfluous or missing."""

from __future__ import annotations

from maintenance.engines.messages import msg, size
from maintenance.engines.values import Finding

from ..sql import Row, canonical, quoted
from .question import Question


def _invalid(row: Row) -> Finding:
    schema, index, table_schema, table = row
    return Finding(
        "invalid_index",
        "high",
        canonical(table_schema, table),
        msg("Index {index} is not valid", index=canonical(schema, index)),
        msg("A concurrent build was broken off; queries do not use the index but writes pay for it"),
    )


def _duplicate(row: Row) -> Finding:
    schema, table, indexes, spare = row
    return Finding(
        "duplicate_index",
        "low",
        canonical(schema, table),
        msg("Indexes {indexes} are the same; {size} could be saved", indexes=", ".join(indexes), size=size(int(spare))),
        msg("Drop all but the one that a constraint needs"),
    )


def _unused(row: Row) -> Finding:
    schema, table, index, spare, since = row
    return Finding(
        "unused_index",
        "low",
        canonical(schema, table),
        msg(
            "Index {index} ({size}) was not read since {since}",
            index=quoted(index),
            size=size(int(spare)),
            since=str(since),
        ),
        msg("Ask the owner whether it is still needed; replicas count their own reads"),
    )


def _foreign_key(row: Row) -> Finding:
    schema, table, constraint = row
    return Finding(
        "foreign_key_without_index",
        "low",
        canonical(schema, table),
        msg("No index serves foreign key {constraint}", constraint=quoted(constraint)),
        msg("Deleting from the referenced table reads this table from end to end"),
    )


QUESTIONS = (
    Question(
        "invalid indexes",
        """SELECT n.nspname, i.relname, tn.nspname, t.relname
           FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
           JOIN pg_class t ON x.indrelid IN (t.oid, t.reltoastrelid) AND t.relkind <> 't'
           JOIN pg_namespace tn ON tn.oid = t.relnamespace
           WHERE i.relkind = 'i' AND NOT (x.indisvalid AND x.indisready AND x.indislive)""",
        _invalid,
    ),
    Question(
        "duplicate indexes",
        """SELECT n.nspname, t.relname, array_agg(i.relname::text ORDER BY i.relname),
                  sum(pg_relation_size(i.oid)) - max(pg_relation_size(i.oid))
           FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
           JOIN pg_namespace n ON n.oid = t.relnamespace
           WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND i.relkind = 'i' AND x.indisvalid
           GROUP BY n.nspname, t.relname, x.indrelid, i.relam, x.indkey::text, x.indclass::text, x.indcollation::text,
                    x.indoption::text, pg_get_expr(x.indexprs, x.indrelid), pg_get_expr(x.indpred, x.indrelid)
           HAVING count(*) > 1""",
        _duplicate,
    ),
    # Only with statistics at least a week old; after a crash they all start at zero.
    Question(
        "unused indexes",
        """SELECT s.schemaname, s.relname, s.indexrelname, pg_relation_size(s.indexrelid),
                  greatest(d.stats_reset, pg_postmaster_start_time())
           FROM pg_stat_user_indexes s JOIN pg_index x USING (indexrelid)
           JOIN pg_stat_database d ON d.datname = current_database()
           WHERE s.idx_scan = 0 AND NOT x.indisunique AND pg_relation_size(s.indexrelid) > 1000000
             AND greatest(d.stats_reset, pg_postmaster_start_time()) < now() - interval '7 days'
             AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = x.indexrelid)
           ORDER BY 4 DESC LIMIT 10""",
        _unused,
    ),
    Question(
        "foreign keys without index",
        """SELECT n.nspname, t.relname, c.conname
           FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
           WHERE c.contype = 'f' AND c.conparentid = 0 AND pg_relation_size(t.oid) > 1000000
             AND NOT EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = c.conrelid AND x.indisvalid
               AND x.indpred IS NULL
               AND (x.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)
           ORDER BY 1, 2, 3 LIMIT 10""",
        _foreign_key,
    ),
)
