"""Checksums of InnoDB's pages, read from the files past the server: the one look at rows that harms nobody.

The server itself marks a table unreadable (MariaDB) or dies (MySQL) when it meets a bad page. The tool
reads the file; a page that is being written may look bad once, so only what is bad twice counts.
"""

# ruff: noqa: S608 -- only quoted names and numbers stand in statements; values are bound

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from ... import commands
from ..words import Sentence, say
from . import structure
from .names import canonical
from .server import Server, Session
from .structure import Table

TOOL = "innochecksum"
BUDGET_BYTES = 4_000_000_000
"""Read at most this much in one diagnosis, small tables first."""
SECONDS = 120.0
PAGE = 16_384


@dataclass(frozen=True)
class Verdict:
    """`damaged`: what is bad, by table; `sound`: tables of which every page on disk has its checksum."""

    damaged: Mapping[str, Sentence]
    sound: frozenset[str]


def verify_pages(
    server: Server, session: Session, chosen: Sequence[Table], sizes: Mapping[str, structure.Size]
) -> Verdict:
    """Nothing is said of tables whose files this process cannot read."""
    folder = server.data_folder(session)
    if folder is None or shutil.which(TOOL) is None:
        return Verdict({}, frozenset())
    damaged: dict[str, Sentence] = {}
    sound: set[str] = set()
    left = BUDGET_BYTES
    for table in sorted(chosen, key=lambda one: sizes[one.name].bytes if one.name in sizes else 0):
        files = _files(folder, server.schema, table)
        left -= sum(size for _, size in files)
        if not files or left < 0:
            continue
        bad = [(path, page) for path, _ in files if (page := _bad_page(server, path)) is not None]
        if not bad:
            sound.add(table.name)
        for path, page in bad:
            if page >= 0:
                damaged[table.name] = _told(server, session, table, path, page)
    return Verdict(damaged, frozenset(sound))


def _files(folder: Path, schema: str, table: Table) -> list[tuple[Path, int]]:
    if not table.transactional:
        return []
    stem = structure.file_stem(folder, schema, table.name)
    try:
        found = [path for path in stem.parent.iterdir() if _is_of(path.name, stem.name)]
        return [(path, path.stat().st_size) for path in found]
    except OSError:
        return []


def _is_of(file: str, stem: str) -> bool:
    """The table's own file or one of its partitions'."""
    return file == f"{stem}.ibd" or (file.endswith(".ibd") and file.upper().startswith(f"{stem}#P#".upper()))


def _bad_page(server: Server, path: Path) -> int | None:
    """Number of the first page that is bad twice; None when all are good; -1 when the tool could not tell."""
    first = _looked(server, path)
    if first is None or first < 0:
        return first
    time.sleep(0.2)
    return first if _looked(server, path) == first else -1


def _looked(server: Server, path: Path) -> int | None:
    try:
        # By stdin: the tool refuses to lock a file that the server has open.
        with open(path, "rb") as file:
            commands.run([TOOL, "-"], stdin=file, stop=server.stopping, timeout=SECONDS)
    except commands.CommandFailed as error:
        server.raise_if_stopping("reading the pages of", path.stem)
        found = re.search(r"page::(\d+) invalid", error.output)
        return int(found[1]) if found else -1
    except OSError:
        return -1
    return None


def _told(server: Server, session: Session, table: Table, path: Path, page: int) -> Sentence:
    """Names the index the page belongs to, as far as its own header can be believed."""
    index = _owner(server, session, path, page)
    name = canonical(table.name)
    if index is None:
        return say("Page {page} of {table} has a wrong checksum on disk", page=page, table=name)
    if index == "PRIMARY" or index.startswith("GEN_CLUST"):
        return say("Page {page} of {table}, which holds rows, has a wrong checksum on disk", page=page, table=name)
    return say(
        "Page {page} of {table}, of its index {index}, has a wrong checksum on disk",
        page=page,
        table=name,
        index=index,
    )


def _owner(server: Server, session: Session, path: Path, page: int) -> str | None:
    try:
        with open(path, "rb") as file:
            file.seek(page * PAGE + 66)
            number = int.from_bytes(file.read(8), "big")
        found = session.value(
            f"SELECT name FROM information_schema.{server.innodb_indexes} WHERE index_id = %(n)s", n=number
        )
    except (OSError, DBAPIError):
        return None
    return None if found is None else str(found)
