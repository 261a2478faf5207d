"""Who receives the changes of this database, and who brings some."""

from __future__ import annotations

from maintenance.engines.messages import msg, size
from maintenance.engines.values import Finding

from ..sql import Row, quoted
from .question import Question


def _slot(row: Row) -> Finding:
    name, kept = row
    return Finding(
        "inactive_slot",
        "high",
        "",
        msg("Replication slot {name} is not read and keeps {size} of log", name=name, size=size(int(kept or 0))),
        msg("The log fills the disk; a logical slot does not follow the database through a rollback"),
    )


def _standby(row: Row) -> Finding:
    name, state, behind = row
    return Finding(
        "replica",
        "low",
        "",
        msg("Replica {name} is {state}, {size} behind", name=name or "?", state=state, size=size(int(behind or 0))),
        msg("Rewriting tables sends them whole to every replica"),
    )


def _logical(row: Row) -> Finding:
    kind, name = row
    if kind == "subscription":
        return Finding(
            "logical_replication",
            "low",
            "",
            msg("Subscription {name} brings rows into this database", name=quoted(name)),
            msg("After a rollback it is there but switched off: drop the one of the broken database, then enable it"),
        )
    return Finding(
        "logical_replication",
        "low",
        "",
        msg("Replication slot {name} sends changes of this database", name=name),
        msg("It does not follow the database through a rollback: it and its reader must then be made anew"),
    )


QUESTIONS = (
    Question(
        "replication slots nobody reads",
        """SELECT slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots
           WHERE NOT active AND NOT pg_is_in_recovery()""",
        _slot,
    ),
    Question(
        "replicas",
        """SELECT application_name, state, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) FROM pg_stat_replication
           WHERE NOT pg_is_in_recovery()""",
        _standby,
    ),
    Question(
        "logical replication",
        """SELECT 'subscription', subname FROM pg_subscription
           WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
           UNION ALL
           SELECT 'slot', slot_name FROM pg_replication_slots WHERE database = current_database() AND active""",
        _logical,
    ),
)
