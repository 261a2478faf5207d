"""The first 100 bytes of a file (https://sqlite.org/fileformat2.html#the_database_header)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import programs
from ..errors import Unreachable

MAGIC = b"SQLite format 3\x00"
ROLLBACK_JOURNAL, WRITE_AHEAD = 1, 2
"""The versions of the format that there are."""


@dataclass(frozen=True)
class Header:
    """What it tells, and how long the file really is."""

    magic: bool
    page_size: int
    reserved: int
    versions: tuple[int, int]
    """Which version of the format may write the file, and which may read it."""
    pages: int
    file_bytes: int

    @property
    def plausible(self) -> bool:
        """Whether the page size is one that the format knows."""
        return 512 <= self.page_size <= 65536 and self.page_size & (self.page_size - 1) == 0

    @property
    def write_ahead(self) -> bool:
        """As SQLite does, by the version that may read; by the other one where there is no such version."""
        writes, reads = self.versions
        return WRITE_AHEAD in ((reads,) if reads <= WRITE_AHEAD else (writes,))

    @property
    def corrections(self) -> tuple[tuple[int, bytes], ...]:
        """What must stand at the beginning and does not, by offset: the magic, and versions that there are."""
        found: list[tuple[int, bytes]] = []
        if not self.magic and self.plausible:
            found.append((0, MAGIC))
        if max(self.versions) > WRITE_AHEAD:
            found.append((18, bytes((WRITE_AHEAD if self.write_ahead else ROLLBACK_JOURNAL,)) * 2))
        return tuple(found)

    def claims_too_much(self, free: int) -> bool:
        """Whether the missing end is larger than all there is, or than the disk: the number is wrong, not the end."""
        missing = self.pages * self.page_size - self.file_bytes
        return self.truncated and missing > min(self.file_bytes, free // 2)

    @property
    def truncated(self) -> bool:
        """Whether the file ends before its header says."""
        return self.plausible and self.file_bytes < self.pages * self.page_size


def first_bytes(path: Path, count: int) -> bytes:
    """Read the first `count` bytes by a child, which keeps our locks on the file. Raises Unreachable."""
    try:
        with programs.running(["head", "-c", str(count), "--", str(path)], timeout=30) as child:
            assert child.stdout is not None
            return child.stdout.read()
    except programs.CommandFailed as error:
        raise Unreachable("reading the header of", str(path), str(error)) from error


def header_in(raw: bytes, file_bytes: int) -> Header:
    """Return what the first 100 bytes tell, or as many as there are."""
    size = int.from_bytes(raw[16:18], "big")
    return Header(
        magic=raw[:16] == MAGIC,
        page_size=65536 if size == 1 else size,
        reserved=raw[20] if len(raw) > 20 else 0,
        versions=(raw[18], raw[19]) if len(raw) > 20 else (ROLLBACK_JOURNAL, ROLLBACK_JOURNAL),
        # The page count is only to be believed when the two change counters agree.
        pages=int.from_bytes(raw[28:32], "big") if raw[24:28] == raw[92:96] else 0,
        file_bytes=file_bytes,
    )
