"""What the folder tells without opening the database: a large log, little room."""

from __future__ import annotations

import shutil

from ...messages import msg, size
from ...values import Finding
from ..target import DatabaseFile

FOREIGN_LOG = "foreign_log"
LARGE_WAL = 64_000_000


def folder_findings(file: DatabaseFile) -> list[Finding]:
    """What the folder tells without opening the database."""
    found: list[Finding] = []
    log = file.beside("-wal")
    wal = log.stat().st_size if log.exists() else 0
    if wal > LARGE_WAL:
        found.append(
            Finding(
                "wal_large",
                "medium",
                "",
                msg("The write-ahead log has grown to {size}.", size=size(wal)),
                msg("A reader that never ends, or automatic checkpoints switched off."),
            )
        )
    if not file.holding and wal and file.log_is_foreign():
        found.append(
            Finding(
                FOREIGN_LOG,
                "critical",
                "",
                msg("The write-ahead log beside the file, {size}, was written for another database.", size=size(wal)),
                msg(
                    "A copy or a restore left it there. The next program that opens the file for writing plays it in"
                    " and destroys the file: keep applications away and move the log elsewhere."
                ),
            )
        )
    free = shutil.disk_usage(file.path.parent).free
    if free < 2 * file.size():
        found.append(
            Finding(
                "disk_low",
                "high",
                "",
                msg("{free} free beside a file of {size}.", free=size(free), size=size(file.size())),
                msg("A rewrite needs up to twice the size of the file (https://sqlite.org/lang_vacuum.html)."),
            )
        )
    return found
