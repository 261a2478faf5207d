"""Checksums of InnoDB's pages, read from the files past the server: the one look at rows that harms nobody.

The server itself marks a table unreadable (MariaDB) or dies (MySQL) when it meets a bad page. The tool
reads the file; a page that is being written may look bad once, so only what is bad twice counts.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from maintenance.engines import programs
from maintenance.engines.messages import Message, msg

from .. import structure
from ..connection import Session
from ..structure import Table
from ..target import Server
from .innodb_leaf_pages import INDEX, PAGE
from .innodb_zeroed_pages import proven_zero_pages

TOOL = "innochecksum"
BUDGET_BYTES = 4_000_000_000
"""Read at most this much in one diagnosis, small tables first."""
SECONDS = 120.0

MOST_PAGES = 50
"""So many bad pages of a file are told one by one; the work is over long before."""


@dataclass(frozen=True)
class BadPage:
    """`index` is whose page it is, as far as its own header or a neighbour's can be believed; None: not an index's,
    or unknown. `empty`: nothing but zeros, although it is in use.
    """

    file: Path
    page: int
    index: str | None
    empty: bool = False

    @property
    def holds_rows(self) -> bool:
        """Also when it may: only a page known to be a secondary index's can be done without."""
        return self.index is None or self.index == "PRIMARY" or self.index.startswith("GEN_CLUST")

    def told(self, table: str) -> Message:
        if self.empty and self.holds_rows:
            return msg(
                "Page {page} of {table} is in use and holds nothing but zeros on disk", page=self.page, table=table
            )
        if self.empty:
            return msg(
                "Page {page} of {table}, of its index {index}, is in use and holds nothing but zeros on disk",
                page=self.page,
                table=table,
                index=self.index,
            )
        if self.index is None:
            return msg("Page {page} of {table} has a wrong checksum on disk", page=self.page, table=table)
        if self.holds_rows:
            return msg(
                "Page {page} of {table}, which holds rows, has a wrong checksum on disk", page=self.page, table=table
            )
        return msg(
            "Page {page} of {table}, of its index {index}, has a wrong checksum on disk",
            page=self.page,
            table=table,
            index=self.index,
        )


def only_indexes(bad: Sequence[BadPage]) -> bool:
    """Whether a scan of the rows meets none of them; no where there may be more than were told."""
    return len(bad) < MOST_PAGES and not any(page.holds_rows for page in bad)


@dataclass(frozen=True)
class Verdict:
    """`damaged`: bad pages by table; `sound`: tables of which every page on disk has its checksum, and none is
    known to be missing.
    """

    damaged: Mapping[str, tuple[BadPage, ...]]
    sound: frozenset[str]


def verify_pages(
    server: Server, session: Session, chosen: Sequence[Table], sizes: Mapping[str, structure.Size]
) -> Verdict:
    """Nothing is said of tables whose files this process cannot read."""
    folder = server.data_folder(session)
    if folder is None or shutil.which(TOOL) is None:
        return Verdict({}, frozenset())
    damaged: dict[str, tuple[BadPage, ...]] = {}
    sound: set[str] = set()
    left = BUDGET_BYTES
    for table in sorted(chosen, key=lambda one: sizes[one.name].bytes if one.name in sizes else 0):
        files = _files(folder, server.schema, table)
        left -= sum(size for _, size in files)
        if not files or left < 0:
            continue
        bad, whole = _bad_of(server, session, files)
        if whole and not bad:
            sound.add(table.name)
        if bad:
            damaged[table.name] = bad
    return Verdict(damaged, frozenset(sound))


def bad_pages(server: Server, session: Session, schema: str, table: Table) -> tuple[BadPage, ...] | None:
    """Of one table, in any schema; None where its files cannot be judged whole."""
    folder = server.data_folder(session)
    files = _files(folder, schema, table) if folder is not None and shutil.which(TOOL) is not None else []
    bad, whole = _bad_of(server, session, files)
    return bad if files and whole else None


def _bad_of(server: Server, session: Session, files: Sequence[tuple[Path, int]]) -> tuple[tuple[BadPage, ...], bool]:
    """Bad pages, and whether the tool told of every file."""
    found = [(path, _bad_pages(server, path)) for path, _ in files]
    bad = [
        BadPage(path, page, _named(server, session, _index_in(path, page)))
        for path, pages in found
        for page in pages or ()
    ]
    for path, _ in files:
        bad += [
            BadPage(path, page, _named(server, session, index), empty=True)
            for page, index in _zero_pages(session, path).items()
        ]
    return tuple(bad), all(pages is not None for _, pages in found)


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


def _bad_pages(server: Server, path: Path) -> list[int] | None:
    """Pages that are bad twice; None when the tool could not tell. A file that nobody wrote is not read again."""
    state = _state(path)
    if state is not None and path in server.judged and server.judged[path][0] == state:
        return server.judged[path][1]
    found = _judged(server, path)
    if state is not None and found is not None:
        server.judged[path] = (state, found)
    return found


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _judged(server: Server, path: Path) -> list[int] | None:
    first = _looked(server, path)
    if not first:
        return first
    time.sleep(0.2)
    second = _looked(server, path)
    # Bad once and good later: it was being written. Then the file is neither sound nor damaged.
    return None if second is None else sorted(set(first) & set(second)) or None


def _looked(server: Server, path: Path) -> list[int] | None:
    found: list[int] = []
    while len(found) < MOST_PAGES:
        try:
            # By stdin: the tool refuses to lock a file that the server has open.
            with open(path, "rb") as file:
                start = f"--start-page={found[-1] + 1 if found else 0}"
                programs.run([TOOL, start, "-"], stdin=file, stop=server.stopping, timeout=SECONDS)
        except programs.CommandFailed as error:
            server.raise_if_stopping("reading the pages of", path.stem)
            named = re.search(r"page(?:::| )(\d+) invalid", error.output)  # MariaDB's words, or MySQL's
            if named is None:
                return None
            if _encrypted(path, int(named[1])):
                return None
            found.append(int(named[1]))
        except OSError:
            return None
        else:
            break
    return found


ENCRYPTED = frozenset((15, 16, 17))
"""Kinds of page that MySQL encrypted after it had computed the checksum: the tool calls each of them invalid."""


def _encrypted(path: Path, page: int) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(page * PAGE + 24)
            return int.from_bytes(file.read(2), "big") in ENCRYPTED
    except OSError:
        return False


def _zero_pages(session: Session, path: Path) -> dict[int, int | None]:
    """Pages in use that hold nothing; none where the file cannot be read."""
    try:
        return proven_zero_pages(session, path)
    except OSError:
        return {}


def _index_in(path: Path, page: int) -> int | None:
    """The number of the index that the page's own header tells."""
    try:
        with open(path, "rb") as file:
            file.seek(page * PAGE + INDEX)
            return int.from_bytes(file.read(8), "big")
    except OSError:
        return None


def _named(server: Server, session: Session, number: int | None) -> str | None:
    """The name of the index with this number."""
    if number is None:
        return None
    try:
        found = session.value(
            f"SELECT name FROM information_schema.{server.capabilities.innodb_indexes} WHERE index_id = %(n)s", n=number
        )
    except DBAPIError:
        return None
    return None if found is None else str(found)
