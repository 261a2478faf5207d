"""Sequences that stand behind their columns: the next insert would fail."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .definitions import OURS
from .driver_errors import lost
from .least_account import HAS_CODE, OWNER, ask_as
from .relations import USER_TABLES
from .sql import Row, ask, canonical, quoted
from .target import TargetDatabase

OWNED_SEQUENCES = f"""
    SELECT n.nspname, c.relname, a.attname, sn.nspname, s.relname, d.objid::oid, d.refobjid::oid,
      EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = c.oid AND x.indkey[0] = a.attnum AND x.indisvalid
        AND x.indpred IS NULL) AS cheap,
      CASE WHEN c.relhassubclass OR c.relkind = 'p' OR {HAS_CODE} THEN {OWNER} END AS reader,
      q.seqmax, q.seqincrement
    FROM pg_depend d
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
    JOIN pg_sequence q ON q.seqrelid = s.oid AND q.seqincrement > 0
    JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    JOIN pg_type t ON t.oid = a.atttypid AND (t.oid IN (20, 21, 23, 1700) OR t.typtype = 'd' AND t.typcategory = 'N')
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
      AND ({USER_TABLES} OR c.relkind = 'p' AND {OURS})
"""
"""Sequences of whole numbers and numeric (20, 21, 23, 1700), which belong to a serial or identity column and count
upwards; cheap where an index begins with the column. A cast from any other type may be somebody's own function."""


EVERY_SEQUENCE = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND c.relpersistence <> 't'
"""
AT_ONCE = 200
"""Sequences in one statement."""


def sequences_behind(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    """Return (schema, table, column, sequence schema, sequence, last value, highest) of those that stand behind.

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
    """Return the question for one sequence."""
    schema, table, column, sequence_schema, sequence, *_ = row
    return f"""SELECT {number}, (SELECT max({quoted(column)})::numeric FROM {canonical(schema, table)}),
              (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END
               FROM {canonical(sequence_schema, sequence)})"""


def sequence_behind(connection: Connection, row: Row) -> Row | None:
    """As `sequences_behind`, of one."""
    return next(iter(sequences_behind(connection, [row])), None)


def sequence_values(target: TargetDatabase, side: str | None = None) -> dict[str, tuple[int, bool]] | None:
    """Return sequence -> its last value, and whether that was given out. None where they may not all be read."""
    found: dict[str, tuple[int, bool]] = {}
    with target.session("reading sequences", database=side) as connection:
        names = [canonical(schema, name) for schema, name in ask(connection, EVERY_SEQUENCE)]
        try:
            for first in range(0, len(names), AT_ONCE):
                group = names[first : first + AT_ONCE]
                asked = [f"SELECT {number}, last_value, is_called FROM {name}" for number, name in enumerate(group)]
                rows = ask(connection, " UNION ALL ".join(asked))
                found.update({group[number]: (int(value), bool(called)) for number, value, called in rows})
        except DBAPIError as error:
            if lost(error.orig):
                raise
            return None
    return found
