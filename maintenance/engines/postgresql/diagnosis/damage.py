"""Signs that data changed or went missing behind the server."""

from __future__ import annotations

from maintenance.engines.messages import msg
from maintenance.engines.values import Finding

from ..sql import Row, canonical
from .question import Question


def _checksum(row: Row) -> Finding:
    count, when = row
    return Finding(
        "checksum_failures",
        "critical",
        "",
        msg("{count} reads met a page whose checksum is wrong, last at {when}", count=int(count), when=str(when)),
        msg("Storage or memory changed data behind the server; look at the hardware before anything else"),
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


QUESTIONS = (
    Question(
        "checksum failures",
        """SELECT sum(checksum_failures), max(checksum_last_failure) FROM pg_stat_database
           WHERE datname = current_database() OR datname IS NULL HAVING sum(checksum_failures) > 0""",
        _checksum,
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
)
