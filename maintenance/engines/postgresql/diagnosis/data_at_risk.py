"""What will lose or contradict data one day: settings, tables that are not logged, constraints nobody checked."""

from __future__ import annotations

from maintenance.engines.messages import msg
from maintenance.engines.values import Finding

from ..relations import USER_TABLES
from ..sql import Row, canonical, quoted
from .question import Question


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


def _not_validated(row: Row) -> Finding:
    schema, table, constraint = row
    return Finding(
        "constraint_not_validated",
        "low",
        canonical(schema, table),
        msg("Constraint {constraint} was never checked against the rows there", constraint=quoted(constraint)),
        msg("VALIDATE CONSTRAINT tells whether they keep it"),
    )


def _unlogged(row: Row) -> Finding:
    return Finding(
        "unlogged_table",
        "low",
        canonical(row[0], row[1]),
        msg("The table is not logged"),
        msg("Any crash of the server empties it"),
    )


QUESTIONS = (
    Question(
        "settings that endanger data",
        """SELECT name, setting FROM pg_settings
           WHERE (name IN ('fsync', 'full_page_writes', 'autovacuum', 'track_counts') AND setting = 'off')
              OR (name IN ('zero_damaged_pages', 'ignore_checksum_failure', 'ignore_system_indexes')
                AND setting = 'on')""",
        _setting,
    ),
    Question(
        "constraints never validated",
        """SELECT n.nspname, t.relname, c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
           JOIN pg_namespace n ON n.oid = t.relnamespace WHERE NOT c.convalidated AND c.contype IN ('f',
             'c') LIMIT 20""",
        _not_validated,
    ),
    Question(
        "tables that are not logged",
        f"""SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE {USER_TABLES} AND c.relpersistence = 'u' AND pg_relation_size(c.oid) > 0""",
        _unlogged,
    ),
)

CONFIGURATION = Question(
    "configuration files",
    "SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL LIMIT 10",
    _configuration,
)
