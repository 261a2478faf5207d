"""Sequences that stand behind their columns, as findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from maintenance.engines.messages import msg
from maintenance.engines.values import Finding

from ..driver_errors import lost
from ..sequences import OWNED_SEQUENCES, sequences_behind
from ..sql import Row, ask, canonical, quoted
from ..target import TargetDatabase
from .inconclusive import refused
from .question import Question

AT_ONCE = 200
"""Sequences in one statement: with 10,000 tables one each would take longer than all the rest."""


def sequence_findings(target: TargetDatabase, connection: Connection) -> list[Finding]:
    """Where the column's highest value is known cheaply: a valid b-tree begins with the column."""
    try:
        rows = [row for row in ask(connection, OWNED_SEQUENCES) if row[7]]
    except DBAPIError as error:
        return refused(error, "sequences")
    return [finding for group in grouped(rows, AT_ONCE) for finding in _group_behind(target, connection, group)]


def _group_behind(target: TargetDatabase, connection: Connection, group: Sequence[Row]) -> list[Finding]:
    """One statement for many sequences; where one of them cannot be read, for each half."""
    target.raise_if_stopping("diagnosing", target.name)
    try:
        return [behind(row) for row in sequences_behind(connection, group)]
    except DBAPIError as error:
        if len(group) == 1 or lost(error.orig):
            return refused(error, "sequences")
    middle = len(group) // 2
    return _group_behind(target, connection, group[:middle]) + _group_behind(target, connection, group[middle:])


def grouped(items: Sequence[Row], most: int) -> Iterator[Sequence[Row]]:
    """Yield the items in groups of at most `most`."""
    for first in range(0, len(items), most):
        yield items[first : first + most]


def behind(row: Row) -> Finding:
    """Return the finding about a sequence whose column already has higher values."""
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


# At 80 % there is usually time for a change of the column's type.
def _sequence_end(row: Row) -> Finding:
    schema, sequence, share = row
    return Finding(
        "sequence_near_end",
        "high" if float(share) > 0.95 else "medium",
        canonical(schema, sequence),
        msg("{share:.0%} of the values are used up", share=float(share)),
        msg("Inserts fail when it is exhausted; widen the column and the sequence"),
    )


QUESTIONS = (
    Question(
        "sequences near their end",
        """SELECT schemaname, sequencename, last_value::float / max_value FROM pg_sequences
           WHERE increment_by > 0 AND NOT cycle AND last_value::float / max_value > 0.8 ORDER BY 3 DESC LIMIT 10""",
        _sequence_end,
    ),
)
