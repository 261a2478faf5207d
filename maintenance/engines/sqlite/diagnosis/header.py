"""What the first page tells: no database, lost header, a file that ends early."""

from __future__ import annotations

import shutil
from collections import Counter
from math import log2

from ...messages import msg, size
from ...values import Finding
from ..capabilities import VERSION
from ..file_header import first_bytes
from ..target import DatabaseFile

ENCRYPTED = "encrypted"
SAMPLE = 65536
TREE_PAGES = frozenset((2, 5, 10, 13))
UNPARSED = "malformed database schema"


def unreadable(words: str) -> Finding:
    return Finding(
        "file_damaged",
        "critical",
        "",
        msg("The file cannot be read as a database: {words}", words=words),
        msg("The header or the schema is damaged; restore from a backup if the header cannot be rebuilt."),
    )


def looks_encrypted(sample: bytes) -> bool:
    """Whether bytes are spread as by chance, and pages begin as by chance whatever their size.

    Shannon entropy, in bits a byte; of 4,096 random bytes it is 7.95.
    """
    if len(sample) < 4096:
        return False
    entropy = -sum(n / len(sample) * log2(n / len(sample)) for n in Counter(sample).values())
    if entropy < 7.8:
        return False
    for size_ in (512, 1024, 2048, 4096, 8192, 16384):
        starts = [sample[offset] for offset in range(size_, len(sample), size_)]
        if starts and sum(start in TREE_PAGES for start in starts) > len(starts) / 5:
            return False
    return True


def schema_unreadable(words: str) -> Finding:
    """An entry of the schema that this SQLite cannot parse, among pages that may all be sound."""
    return Finding(
        "schema_unreadable",
        "critical",
        "",
        msg("{version} cannot read an entry of the schema: {words}", version=VERSION, words=words),
        msg("A newer SQLite, or a program that wrote into the schema, made it. The rows may all be sound."),
    )


def header_findings(file: DatabaseFile) -> list[Finding]:
    """Return findings that the first bytes of the file tell."""
    header = file.header()
    if header.file_bytes == 0:
        return []
    if not header.magic:
        if looks_encrypted(first_bytes(file.path, SAMPLE)):
            return [
                Finding(
                    ENCRYPTED,
                    "critical",
                    "",
                    msg("The file is encrypted, or no SQLite database: nothing in it follows the format."),
                    msg("Only the program that has the key can work on it. Nothing is changed here."),
                )
            ]
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
    if header.corrections:
        writes, reads = header.versions
        return [
            Finding(
                "header_damaged",
                "critical",
                "",
                msg(
                    "Version {writes} of the format may write the file and {reads} read it: there are 1 and 2.",
                    writes=writes,
                    reads=reads,
                ),
                msg("Something else wrote into the header; as it is, no program can write into the file."),
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
