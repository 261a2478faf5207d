"""The files of the database: those that are missing, and those that belong to nothing."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from maintenance.engines.messages import msg, size
from maintenance.engines.values import Finding

from ..sql import Row, ask, canonical

FILES = """
SELECT n.nspname, c.relname, pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND pg_relation_filepath(c.oid) IS NOT NULL
"""
"""Where everything lies that has a file."""

MISSING = "SELECT path FROM unnest(%(paths)s::text[]) path WHERE (pg_stat_file(path, true)).size IS NULL"

ORPHANS = """
WITH known AS (SELECT unnest(%(paths)s::text[]) AS path),
folders AS (SELECT DISTINCT regexp_replace(path, '/[^/]*$', '') AS folder FROM known WHERE path NOT LIKE 'global/%%'),
found AS (SELECT folder, file FROM folders, LATERAL pg_ls_dir(folder) file WHERE file ~ '^[0-9]+([._].*)?$'),
unknown AS (SELECT folder || '/' || file AS path FROM found WHERE NOT EXISTS (
  SELECT 1 FROM known WHERE path = folder || '/' || substring(file FROM '^[0-9]+')) OFFSET 0)
SELECT count(*), sum(f.size), min(path) FROM unknown, LATERAL pg_stat_file(path, true) f
WHERE f.size > 0 AND f.modification < (SELECT min(xact_start) - interval '10 minutes' FROM pg_stat_activity)
  AND NOT pg_is_in_recovery() AND NOT EXISTS (SELECT 1 FROM pg_prepared_xacts)
  AND pg_has_role('pg_read_all_stats', 'USAGE') HAVING count(*) > 0
"""
"""A running transaction writes to files that nobody else can know yet, and those of a table that was dropped stay,
empty, until the next checkpoint. So only what was written before all of them began counts."""


def missing(connection: Connection, files: Sequence[Row]) -> list[Finding]:
    """`files` as FILES tells; to be asked where the account may look at files."""
    gone = {path for (path,) in ask(connection, MISSING, paths=[path for *_, path in files])}
    return [
        Finding(
            "file_missing",
            "critical",
            canonical(schema, relation),
            msg("Its file {path} does not exist", path=path),
            msg("An index can be built anew; the rows of a table must come from a backup"),
        )
        for schema, relation, path in files
        if path in gone
    ]


def orphans(connection: Connection, files: Sequence[Row]) -> list[Finding]:
    """As `missing`, the other way round."""
    return [
        Finding(
            "orphan_files",
            "low",
            "",
            msg(
                "{count} files ({size}) belong to no table and no index, the first: {path}",
                count=int(count),
                size=size(int(bytes_)),
                path=first,
            ),
            msg(
                "A crash in the midst of a rewrite left them; keep a copy, then remove them while the server is stopped"
            ),
        )
        for count, bytes_, first in ask(connection, ORPHANS, paths=[path for *_, path in files])
    ]
