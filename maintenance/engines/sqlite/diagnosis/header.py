"""What the first page tells: no database, lost header, a file that ends early."""

from __future__ import annotations

import shutil

from ...messages import msg, size
from ...values import Finding
from ..sessions import DatabaseFile


def unreadable(words: str) -> Finding:
    return Finding(
        "file_damaged",
        "critical",
        "",
        msg("The file cannot be read as a database: {words}", words=words),
        msg("The header or the schema is damaged; restore from a backup if the header cannot be rebuilt."),
    )


def header_findings(file: DatabaseFile) -> list[Finding]:
    header = file.header()
    if header.file_bytes == 0:
        return []
    if not header.magic:
        if not header.plausible:
            return [unreadable("the first page is overwritten")]
        return [
            Finding(
                "header_damaged",
                "critical",
                "",
                msg("The first 16 bytes are not those of an SQLite file, the rest of the header is plausible."),
                msg("Something else wrote into the file; writing the 16 bytes again may bring everything back."),
            )
        ]
    if header.claims_too_much(shutil.disk_usage(file.path.parent).free):
        return [
            Finding(
                "page_count_wrong",
                "critical",
                "",
                msg(
                    "The header claims {wanted}, the file has {found}.",
                    wanted=size(header.pages * header.page_size),
                    found=size(header.file_bytes),
                ),
                msg("The number of pages in the header was overwritten; the true one follows from the file's length."),
            )
        ]
    if file.notice_truncation():
        return [
            Finding(
                "file_truncated",
                "critical",
                "",
                msg(
                    "The file has {found} but its header says {wanted}.",
                    found=size(header.file_bytes),
                    wanted=size(header.pages * header.page_size),
                ),
                msg("A copy or a file system ended early; the rows at the end are gone from this file."),
            )
        ]
    return []
