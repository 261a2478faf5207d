"""The tables that keep rows, and what people call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from .least_account import READER
from .own_schemas import NOT_OURS
from .sql import ask, canonical, quoted

USER_TABLES = f"""
    c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
    AND n.nspname !~ '^pg_' AND {NOT_OURS}
"""
"""What stores rows: ordinary tables, leaf partitions and materialized views, not what a salvage holds for a while."""


@dataclass(frozen=True)
class Relation:
    """One table that stores rows."""

    oid: int
    schema: str
    table: str
    bytes: int
    reader: str | None = None
    """In whose name it is read, where planning a query would run its owner's code; None: in ours."""

    is_view: bool = False
    """Materialized: its rows come from its query alone."""

    @property
    def name(self) -> str:
        return canonical(self.schema, self.table)


def relations(connection: Connection, tables: Sequence[str] | None = None) -> list[Relation]:
    """Return the tables with rows, largest first; only those of `tables` (canonical names) when given.

    The size of a table waits for its lock, so that of the others is not asked for: they may be in work.
    """
    rows = ask(
        connection,
        f"""SELECT c.oid, n.nspname, c.relname, {READER}, c.relkind = 'm'
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USER_TABLES}""",
    )
    wanted = None if tables is None else set(tables)
    chosen = [row for row in rows if wanted is None or canonical(row[1], row[2]) in wanted]
    measured = ask(
        connection,
        "SELECT oid, pg_total_relation_size(oid) FROM pg_class WHERE oid = ANY(%(oids)s::oid[])",
        oids=[row[0] for row in chosen],
    )
    bytes_of = {oid: int(bytes_ or 0) for oid, bytes_ in measured}
    found = [
        Relation(oid, schema, table, bytes_of.get(oid, 0), reader, bool(is_view))
        for oid, schema, table, reader, is_view in chosen
    ]
    return sorted(found, key=lambda relation: (-relation.bytes, relation.name))


def spellings(connection: Connection) -> dict[str, list[str]]:
    """Return what people may call a table -> canonical names. Bare names only where they are unique."""
    known: dict[str, list[str]] = {}
    bare: dict[str, list[list[str]]] = {}
    for relation in relations(connection):
        known[relation.name] = [relation.name]
        known.setdefault(f"{relation.schema}.{relation.table}", [relation.name])
        bare.setdefault(relation.table, []).append([relation.name])
    parents = ask(
        connection,
        """SELECT n.nspname, c.relname, ln.nspname, l.relname
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           CROSS JOIN pg_partition_tree(c.oid) p
           JOIN pg_class l ON l.oid = p.relid AND l.relkind = 'r' JOIN pg_namespace ln ON ln.oid = l.relnamespace
           WHERE c.relkind = 'p' AND p.isleaf ORDER BY 1, 2, 3, 4""",
    )
    leaves: dict[tuple[str, str], list[str]] = {}
    for schema, table, leaf_schema, leaf in parents:
        leaves.setdefault((schema, table), []).append(canonical(leaf_schema, leaf))
    for (schema, table), names in leaves.items():
        known[canonical(schema, table)] = names
        known.setdefault(f"{schema}.{table}", names)
        bare.setdefault(table, []).append(names)
    for name, choices in bare.items():
        if len(choices) == 1:
            known.setdefault(name, choices[0])
            known.setdefault(quoted(name), choices[0])
    return known
