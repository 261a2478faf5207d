"""What stands in the way of a backup, a proof or a rollback."""

from __future__ import annotations

from collections.abc import Sequence

from maintenance.engines.messages import msg
from maintenance.engines.values import Finding

from ..least_account import READER
from ..relations import USER_TABLES
from ..sql import Row, canonical, quoted
from .question import Question

NAMED = 10
"""Objects that a finding names."""


def _spaces(row: Row) -> Finding:
    return Finding(
        "no_physical_backup",
        "low",
        "",
        msg("The server has further tablespaces: {names}", names=", ".join(row[0])),
        msg("pg_basebackup cannot send them as one stream: where a dump fails, only another folder for it helps"),
    )


def _behind_policies(row: Row) -> Finding:
    return Finding(
        "rows_behind_policies",
        "high",
        canonical(row[0], row[1]),
        msg("Its rows are read in its owner's name, from whom FORCE ROW LEVEL SECURITY may keep some"),
        msg(
            "Its indexes call functions that others wrote. Take FORCE ROW LEVEL SECURITY from it for the maintenance: "
            "a table that cannot be read whole is never called proven"
        ),
    )


def _event_trigger(row: Row) -> Finding:
    name, event, owner, silenced = row
    return Finding(
        "event_trigger",
        "low" if silenced else "high",
        "",
        msg("Event trigger {name} of {owner} runs at {event}", name=quoted(name), owner=owner, event=event),
        msg("In sessions of the console it is silenced only while its account is a superuser"),
    )


def _scheduler(row: Row) -> Finding:
    return Finding(
        "scheduler",
        "low",
        "",
        msg("{name} starts work in this database by itself", name=row[0]),
        msg("The cut ends such work and keeps it out: jobs that fall due meanwhile fail, run them again afterwards"),
    )


def by_superuser(names: Sequence[str]) -> Finding:
    """Return the finding about objects that a restore can create only with a superuser's rights."""
    return Finding(
        "restored_by_superuser",
        "low",
        "",
        msg(
            "Only a superuser may create again {names}: a rollback from a dump does so with the rights of the console",
            names=", ".join([*names[:NAMED], *(["…"] if len(names) > NAMED else [])]),
        ),
        msg("Functions of owners run in the owners' names meanwhile"),
    )


QUESTIONS = (
    Question(
        "tablespaces",
        """SELECT array_agg(spcname::text ORDER BY spcname) FROM pg_tablespace
           WHERE spcname NOT IN ('pg_default', 'pg_global') HAVING count(*) > 0""",
        _spaces,
    ),
    Question(
        "rows behind policies",
        f"""SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE {USER_TABLES} AND c.relrowsecurity AND c.relforcerowsecurity AND {READER} IS NOT NULL""",
        _behind_policies,
    ),
    Question(
        "event triggers",
        """SELECT e.evtname, e.evtevent, r.rolname, me.rolsuper FROM pg_event_trigger e
           JOIN pg_roles r ON r.oid = e.evtowner JOIN pg_roles me ON me.rolname = current_user
           WHERE e.evtenabled <> 'D' ORDER BY 1 LIMIT 10""",
        _event_trigger,
    ),
    # pg_cron lives in one database and may work in any; the other two have tables in the database of their jobs.
    Question(
        "schedulers",
        """SELECT extname FROM pg_extension WHERE extname IN ('pg_cron', 'timescaledb', 'pgagent')
           UNION SELECT 'pg_cron' FROM pg_settings WHERE name = 'shared_preload_libraries' AND setting ~ 'pg_cron'
           UNION SELECT CASE n.nspname WHEN 'timetable' THEN 'pg_timetable' ELSE 'pgagent' END
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE (n.nspname, c.relname) IN (('timetable', 'chain'), ('pgagent', 'pga_job'))""",
        _scheduler,
    ),
)
