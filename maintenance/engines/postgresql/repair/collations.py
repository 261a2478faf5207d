"""Collations whose rules changed under their indexes, mostly with the operating system: text sorts otherwise now.

What is ordered by such a collation is built anew, and only then the new version is recorded: from then on the
server warns nobody any more. Partitions by ranges of text are left to people, as rows may lie in the wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from maintenance.engines.errors import Unable
from maintenance.engines.messages import msg
from maintenance.engines.values import Action, Finding, Performed

from ..capabilities import Capabilities
from ..definitions import OURS
from ..sql import ask, canonical, quoted
from ..target import TargetDatabase

OF_THE_DATABASE = 100
"""Number of the collation `default`, which is the database's own. Only from version 15 on it has a version."""


@dataclass(frozen=True)
class Changed:
    """A collation with another version than when its indexes were built. `schema` is None for the database's own."""

    oid: int
    schema: str | None
    name: str
    recorded: str
    actual: str
    owned: bool
    ranges: Sequence[str]
    """Tables that are partitioned by ranges of it."""

    @property
    def object(self) -> str:
        return canonical(self.schema, self.name) if self.schema else self.name


def changed_sql(capabilities: Capabilities) -> str:
    ranges = f"""ARRAY(SELECT format('%I.%I', n.nspname, c.relname) FROM pg_partitioned_table p
      JOIN pg_class c ON c.oid = p.partrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE p.partstrat = 'r' AND x.oid = ANY(p.partcollation::oid[]) AND {OURS} ORDER BY 1)"""
    named = """SELECT c.oid, n.nspname, c.collname, c.collversion, pg_collation_actual_version(c.oid) AS actual,
        pg_has_role(c.collowner, 'USAGE') AS owned
      FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
      WHERE c.collversion IS NOT NULL AND EXISTS (SELECT 1 FROM pg_depend d
        WHERE d.refclassid = 'pg_collation'::regclass AND d.refobjid = c.oid)"""
    database = f"""SELECT {OF_THE_DATABASE}, NULL, datname, datcollversion, pg_database_collation_actual_version(oid),
        pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()"""
    every = f"{named} UNION ALL {database}" if capabilities.database_collation_version else named
    return f"SELECT x.*, {ranges} FROM ({every}) x WHERE x.collversion <> x.actual"


DEPENDENT = f"""
SELECT t.oid, n.nspname, i.relname
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
JOIN pg_class t ON t.oid = x.indrelid
WHERE i.relkind = 'i' AND {OURS} AND (x.indcollation::oid[] && %(changed)s::oid[]
  OR EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid
    AND d.refclassid = 'pg_collation'::regclass AND d.refobjid = ANY(%(changed)s::oid[]))
  OR {OF_THE_DATABASE} = ANY(%(changed)s::oid[]) AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL))
ORDER BY 1, 2, 3
"""
"""Indexes ordered by one of these. What an expression compares by the database's own is not recorded anywhere."""


def dependent(connection: Connection, collations: list[Changed]) -> list[tuple[int, str]]:
    """Return (oid of the table or materialized view, index)."""
    if not collations:
        return []
    rows = ask(connection, DEPENDENT, changed=[collation.oid for collation in collations])
    return [(int(table), canonical(schema, index)) for table, schema, index in rows]


def mismatch(found: Changed) -> Finding:
    if found.ranges:
        hint = msg(
            "Rows of {tables} may lie in the wrong partition: move them, reindex, then refresh the version by hand",
            tables=", ".join(found.ranges),
        )
    elif not found.owned:
        hint = msg("A repair builds the indexes anew; recording the new version is for the owner of the collation")
    else:
        hint = msg("The operating system sorts differently now: a repair builds these indexes anew, then records it")
    return Finding(
        "collation_mismatch",
        "high",
        "",
        msg(
            "Collation of {name} was {recorded} when indexes were built and is {actual} now",
            name=found.name,
            recorded=found.recorded,
            actual=found.actual,
            collation=found.object,
            refresh=found.owned and not found.ranges,
        ),
        hint,
    )


class Collations:
    """Records new versions, after the indexes of tables were built anew."""

    def __init__(self, target: TargetDatabase) -> None:
        self.target = target

    def changed(self, connection: Connection) -> list[Changed]:
        """Return the collations whose rules are no longer those that indexes were built by."""
        return [Changed(*row) for row in ask(connection, changed_sql(self.target.capabilities))]

    def refresh(self, action: Action) -> Performed:
        """Record the new version. Raises Unable where it still differs then."""
        with self.target.session("recording the version of", action.object) as connection:
            before = [found for found in self.changed(connection) if self._is(found, action.object)]
            for found in before:
                if found.schema is None:
                    ask(connection, f"ALTER DATABASE {quoted(self.target.place())} REFRESH COLLATION VERSION")
                else:
                    ask(connection, f"ALTER COLLATION {found.object} REFRESH VERSION")
            if any(self._is(found, action.object) for found in self.changed(connection)):
                raise Unable("recording the version of", action.object, "it still differs")
        if not before:
            return Performed(msg("The version of {collation} is right already", collation=action.object), None, None)
        return Performed(
            msg("Recorded version {version} of {collation}", version=before[0].actual, collation=action.object),
            None,
            None,
        )

    def _is(self, found: Changed, object: str) -> bool:
        """The database may be hidden under another name."""
        return object == (found.object if found.schema else self.target.name)
