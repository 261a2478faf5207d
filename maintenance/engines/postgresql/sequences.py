"""Sequences that stand behind their columns: the next insert would fail."""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ..messages import msg
from ..values import Finding
from .driver_errors import lost
from .inconclusive import refused
from .least_account import HAS_CODE, OWNER, ask_as
from .server import USER_TABLES, Server
from .sql import Row, ask, canonical, quoted

AT_ONCE = 200
"""Sequences in one statement: with 10,000 tables one each would take longer than all the rest."""

OWNED_SEQUENCES = f"""
    SELECT n.nspname, c.relname, a.attname, sn.nspname, s.relname, d.objid::oid, d.refobjid::oid,
      EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = c.oid AND x.indkey[0] = a.attnum AND x.indisvalid
        AND x.indpred IS NULL) AS cheap, CASE WHEN c.relhassubclass OR {HAS_CODE} THEN {OWNER} END AS reader,
      q.seqmax, q.seqincrement
    FROM pg_depend d
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
    JOIN pg_sequence q ON q.seqrelid = s.oid AND q.seqincrement > 0
    JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    JOIN pg_type t ON t.oid = a.atttypid AND (t.oid IN (20, 21, 23, 1700) OR t.typtype = 'd' AND t.typcategory = 'N')
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
      AND {USER_TABLES}
"""
"""Sequences of whole numbers and numeric (20, 21, 23, 1700), which belong to a serial or identity column and count
upwards; cheap where an index begins with the column. A cast from any other type may be somebody's own function."""


class Sequences(Server):
    """Looks at all of them."""

    def sequence_findings(self, connection: Connection) -> list[Finding]:
        """Where the column's highest value is known cheaply: a valid b-tree begins with the column."""
        try:
            rows = [row for row in ask(connection, OWNED_SEQUENCES) if row[7]]
        except DBAPIError as error:
            return refused(error, "sequences")
        return [finding for group in grouped(rows, AT_ONCE) for finding in self._group_behind(connection, group)]

    def _group_behind(self, connection: Connection, group: Sequence[Row]) -> list[Finding]:
        """One statement for many sequences; where one of them cannot be read, for each half."""
        self.raise_if_stopping("diagnosing", self.database)
        try:
            return [behind(row) for row in sequences_behind(connection, group)]
        except DBAPIError as error:
            if len(group) == 1 or lost(error.orig):
                return refused(error, "sequences")
        middle = len(group) // 2
        return self._group_behind(connection, group[:middle]) + self._group_behind(connection, group[middle:])


def grouped(items: Sequence[Row], most: int) -> Iterator[Sequence[Row]]:
    for first in range(0, len(items), most):
        yield items[first : first + most]


def sequences_behind(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """(schema, table, column, sequence schema, sequence, last value, highest) of those that stand behind.

    Not of one that has no value beyond the highest: set there, it would refuse every insert, also those that it serves
    well now.
    """
    found: list[Row] = []
    for reader in sorted({row[8] for row in rows}, key=str):
        parts = [part(number, row) for number, row in enumerate(rows) if row[8] == reader]
        found += ask_as(connection, reader, "number int, highest numeric, last bigint", " UNION ALL ".join(parts))
    return [
        (*rows[number][:5], int(last), int(highest))
        for number, highest, last in found
        if highest is not None and last < highest <= rows[number][9] - rows[number][10]
    ]


def part(number: int, row: Row) -> str:
    """The question for one sequence."""
    schema, table, column, sequence_schema, sequence, *_ = row
    return f"""SELECT {number}, (SELECT max({quoted(column)})::numeric FROM {canonical(schema, table)}),
              (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END
               FROM {canonical(sequence_schema, sequence)})"""


def sequence_behind(connection: Connection, row: Row) -> Row | None:
    """As `sequences_behind`, of one."""
    return next(iter(sequences_behind(connection, [row])), None)


def behind(row: Row) -> Finding:
    schema, table, column, sequence_schema, sequence, last, highest = row
    return Finding(
        "sequence_behind",
        "high",
        canonical(schema, table),
        msg(
            "Sequence {sequence} stands at {last} but {column} already has {highest}",
            sequence=canonical(sequence_schema, sequence),
            last=last,
            column=quoted(column),
            highest=highest,
        ),
        msg("The next insert fails with a duplicate key"),
    )
