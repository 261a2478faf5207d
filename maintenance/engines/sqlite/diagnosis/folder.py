"""What the folder tells without opening the database: a large log, little room."""

from __future__ import annotations

import shutil

from ...messages import msg, size
from ...values import Finding
from ..sessions import DatabaseFile

LARGE_WAL = 64_000_000


def folder_findings(file: DatabaseFile) -> list[Finding]:
    """What the folder tells without opening the database."""
    found: list[Finding] = []
    beside = {ending: file.path.with_name(file.name + ending) for ending in ("-wal", "-journal")}
    wal = beside["-wal"].stat().st_size if beside["-wal"].exists() else 0
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
