"""What diagnosis asks the catalogs and the statistics, and what an answer means.

Every question is cheap and read-only, and is asked in a transaction of its own: one that fails is told as
"cannot tell". Reasons for the figures stand over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from maintenance.engines.messages import msg, size
from maintenance.engines.values import Finding, Severity

from ..capabilities import Capabilities
from ..least_account import READER
from ..relations import USER_TABLES
from ..sql import Row, canonical, quoted

NAMED = 10
"""Objects that a finding names."""


@dataclass(frozen=True)
class Question:
    topic: str
    sql: str
    answer: Callable[[Row], Finding | None]
    asked: Callable[[Capabilities], bool] = lambda capabilities: True
    """Whether this version of the server knows what the question asks for."""


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


def _blocked(row: Row) -> Finding:
    pid, blockers, seconds = row
    return Finding(
        "blocked_session",
        "medium",
        "",
        msg(
            "Session {pid} waits {seconds:.0f} s for sessions {blockers}",
            pid=pid,
            seconds=float(seconds or 0),
            blockers=", ".join(str(x) for x in blockers),
        ),
        msg("See what the blocking session does; maintenance ends both when it cuts the connections"),
    )


# Below 90 % an OLTP database reads from disk what memory should hold; small counts say nothing.
def _cache(row: Row) -> Finding:
    return Finding(
        "low_cache_hit",
        "low",
        "",
        msg("Only {share:.0%} of the blocks were found in memory", share=float(row[0])),
        msg("Bloat, a missing index, or shared_buffers too small for the working set"),
    )


def _checksum(row: Row) -> Finding:
    count, when = row
    return Finding(
        "checksum_failures",
        "critical",
        "",
        msg("{count} reads met a page whose checksum is wrong, last at {when}", count=int(count), when=str(when)),
        msg("Storage or memory changed data behind the server; look at the hardware before anything else"),
    )


def _spaces(row: Row) -> Finding:
    return Finding(
        "no_physical_backup",
        "low",
        "",
        msg("The server has further tablespaces: {names}", names=", ".join(row[0])),
        msg("pg_basebackup cannot send them as one stream: where a dump fails, only another folder for it helps"),
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


def _short(row: Row) -> Finding:
    schema, relation, expected, found = row
    return Finding(
        "file_shorter_than_catalog",
        "critical",
        canonical(schema, relation),
        msg("The catalog knows {expected:,} pages, the file has {found:,}", expected=int(expected), found=int(found)),
        msg("A file or a part of it is missing; reading it raises no error, rows are simply absent"),
    )


def _not_validated(row: Row) -> Finding:
    schema, table, constraint = row
    return Finding(
        "constraint_not_validated",
        "low",
        canonical(schema, table),
        msg("Constraint {constraint} was never checked against the rows there", constraint=quoted(constraint)),
        msg("VALIDATE CONSTRAINT tells whether they keep it"),
    )


def _setting(row: Row) -> Finding:
    name, value = row
    return Finding(
        "dangerous_setting",
        "high" if name in ("fsync", "full_page_writes", "zero_damaged_pages", "ignore_checksum_failure") else "medium",
        "",
        msg("{name} is {value}", name=name, value=value),
        msg("Set it back unless somebody means it: it risks data, or hides what goes wrong"),
    )


def _configuration(row: Row) -> Finding:
    name, error = row
    return Finding(
        "configuration_error",
        "medium",
        "",
        msg("Setting {name}: {error}", name=str(name), error=str(error)),
        msg("The server runs without this setting, and may not start the next time"),
    )


def _connections(row: Row) -> Finding:
    used, room = row
    return Finding(
        "connections_near_limit",
        "high",
        "",
        msg("{used} of {room} connections are in use", used=int(used), room=int(room)),
        msg("New clients are refused soon; look for leaks and idle transactions"),
    )


def _slot(row: Row) -> Finding:
    name, kept = row
    return Finding(
        "inactive_slot",
        "high",
        "",
        msg("Replication slot {name} is not read and keeps {size} of log", name=name, size=size(int(kept or 0))),
        msg("The log fills the disk; a logical slot does not follow the database through a rollback"),
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


def _standby(row: Row) -> Finding:
    name, state, behind = row
    return Finding(
        "replica",
        "low",
        "",
        msg("Replica {name} is {state}, {size} behind", name=name or "?", state=state, size=size(int(behind or 0))),
        msg("Rewriting tables sends them whole to every replica"),
    )


def _unlogged(row: Row) -> Finding:
    return Finding(
        "unlogged_table",
        "low",
        canonical(row[0], row[1]),
        msg("The table is not logged"),
        msg("Any crash of the server empties it"),
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


def by_superuser(names: Sequence[str]) -> Finding:
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
    Question(
        "blocked sessions",
        """SELECT pid, pg_blocking_pids(pid), extract(epoch FROM now() - query_start) FROM pg_stat_activity
           WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0 LIMIT 20""",
        _blocked,
    ),
    Question(
        "cache hits",
        """SELECT blks_hit::float / (blks_hit + blks_read) FROM pg_stat_database
           WHERE datname = current_database() AND blks_read > 100000 AND blks_hit < 9 * blks_read""",
        _cache,
    ),
    Question(
        "checksum failures",
        """SELECT sum(checksum_failures), max(checksum_last_failure) FROM pg_stat_database
           WHERE datname = current_database() OR datname IS NULL HAVING sum(checksum_failures) > 0""",
        _checksum,
    ),
    Question(
        "sequences near their end",
        """SELECT schemaname, sequencename, last_value::float / max_value FROM pg_sequences
           WHERE increment_by > 0 AND NOT cycle AND last_value::float / max_value > 0.8 ORDER BY 3 DESC LIMIT 10""",
        _sequence_end,
    ),
    # relpages is written by VACUUM, ANALYZE and CREATE INDEX, and lowered when VACUUM truncates. What is not logged is
    # empty after a crash, and the catalog is not told.
    Question(
        "files shorter than the catalog says",
        """SELECT n.nspname, c.relname, c.relpages, pg_relation_size(c.oid) / current_setting('block_size')::int
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind IN ('r', 'm', 'i', 't') AND c.relpersistence = 'p'
             AND c.relpages > pg_relation_size(c.oid) / current_setting('block_size')::int""",
        _short,
    ),
    Question(
        "constraints never validated",
        """SELECT n.nspname, t.relname, c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
           JOIN pg_namespace n ON n.oid = t.relnamespace WHERE NOT c.convalidated AND c.contype IN ('f',
             'c') LIMIT 20""",
        _not_validated,
    ),
    Question(
        "settings that endanger data",
        """SELECT name, setting FROM pg_settings
           WHERE (name IN ('fsync', 'full_page_writes', 'autovacuum', 'track_counts') AND setting = 'off')
              OR (name IN ('zero_damaged_pages', 'ignore_checksum_failure', 'ignore_system_indexes')
                AND setting = 'on')""",
        _setting,
    ),
    Question(
        "connections",
        """SELECT used, room FROM (SELECT count(*) AS used FROM pg_stat_activity
               WHERE backend_type = 'client backend') a,
             (SELECT current_setting('max_connections')::int AS room) b WHERE used > 0.85 * room""",
        _connections,
    ),
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
    Question(
        "tablespaces",
        """SELECT array_agg(spcname::text ORDER BY spcname) FROM pg_tablespace
           WHERE spcname NOT IN ('pg_default', 'pg_global') HAVING count(*) > 0""",
        _spaces,
    ),
    Question(
        "tables that are not logged",
        f"""SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE {USER_TABLES} AND c.relpersistence = 'u' AND pg_relation_size(c.oid) > 0""",
        _unlogged,
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

CONFIGURATION = Question(
    "configuration files",
    "SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL LIMIT 10",
    _configuration,
)
