"""Transactions so old that they stop cleaning, or soon the server."""

from __future__ import annotations

from maintenance.engines.messages import msg
from maintenance.engines.values import Finding, Severity

from ..sql import Row
from .question import Question


# The server forces a freeze at 200 million and refuses writes shortly before 2,147 million.
def _wraparound(row: Row) -> Finding | None:
    name, age, multi = row
    oldest = max(int(age), int(multi))
    severity: Severity = "critical" if oldest > 1_600_000_000 else "high"
    return Finding(
        "wraparound",
        severity,
        "",
        msg("The oldest transaction of database {name} is {age:,} transactions old", name=name, age=oldest),
        msg("Run VACUUM, and end what holds old transactions; the server stops writing at 2,100,000,000"),
    )


def _holder(row: Row) -> Finding:
    kind, who, age = row
    what = {
        "session": msg("Session {who} holds back cleaning: {age:,} transactions old", who=who, age=int(age or 0)),
        "slot": msg("Replication slot {who} holds back cleaning: {age:,} transactions old", who=who, age=int(age or 0)),
        "replica": msg(
            "Replica {who} holds back cleaning: {age:,} transactions old (hot_standby_feedback)",
            who=who or "?",
            age=int(age or 0),
        ),
    }
    return Finding(
        "old_snapshot",
        "high" if kind == "slot" else "medium",
        "",
        what[kind],
        msg("VACUUM and VACUUM FULL cannot remove rows that it may still see"),
    )


def _prepared(row: Row) -> Finding:
    gid, owner, prepared = row
    return Finding(
        "prepared_transaction",
        "high",
        "",
        msg("Prepared transaction {gid} of {owner} waits since {since}", gid=gid, owner=owner, since=str(prepared)),
        msg("It keeps its locks through every restart; commit it or roll it back by hand"),
    )


QUESTIONS = (
    Question(
        "transaction age",
        """SELECT datname, age(datfrozenxid), mxid_age(datminmxid) FROM pg_database
           WHERE datname = current_database() AND greatest(age(datfrozenxid), mxid_age(datminmxid)) > 250000000""",
        _wraparound,
    ),
    Question(
        "what holds back cleaning",
        """SELECT 'session', format('%s of %s', pid, usename),
                  greatest(age(backend_xmin), age(backend_xid))
           FROM pg_stat_activity
           WHERE pid <> pg_backend_pid() AND datname = current_database() AND xact_start < now() - interval '5 minutes'
             AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
           UNION ALL
           SELECT 'replica', application_name, age(backend_xmin) FROM pg_stat_replication
           WHERE age(backend_xmin) > 100000
           UNION ALL
           SELECT 'slot', slot_name, greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots
           WHERE greatest(age(xmin), age(catalog_xmin)) > 100000""",
        _holder,
    ),
    Question(
        "prepared transactions",
        "SELECT gid, owner, prepared FROM pg_prepared_xacts WHERE database = current_database()",
        _prepared,
    ),
)
