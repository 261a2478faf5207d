"""The first bytes of a database file: whether it is one, how large it claims to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import programs
from ..errors import Unreachable

MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Header:
    """The first 100 bytes (https://sqlite.org/fileformat2.html#the_database_header)."""

    magic: bool
    page_size: int
    reserved: int
    write_ahead: bool
    pages: int
    file_bytes: int

    @property
    def plausible(self) -> bool:
        return 512 <= self.page_size <= 65536 and self.page_size & (self.page_size - 1) == 0

    def claims_too_much(self, free: int) -> bool:
        """Whether the missing end is larger than all there is, or than the disk: the number is wrong, not the end."""
        missing = self.pages * self.page_size - self.file_bytes
        return self.truncated and missing > min(self.file_bytes, free // 2)

    @property
    def truncated(self) -> bool:
        return self.plausible and self.file_bytes < self.pages * self.page_size


def first_bytes(path: Path, count: int) -> bytes:
    try:
        with programs.running(["head", "-c", str(count), "--", str(path)], timeout=30) as child:
            assert child.stdout is not None
            return child.stdout.read()
    except programs.CommandFailed as error:
        raise Unreachable("reading the header of", str(path), str(error)) from error
