"""What lies beside a file as its write-ahead log, read without SQLite (https://sqlite.org/walformat.html).

SQLite plays any log that has the right name into the file, whichever database it was written for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEAD, FRAME_HEAD = 32, 24
VERSION = 3007000
LITTLE, BIG = 0x377F0682, 0x377F0683


@dataclass(frozen=True)
class Log:
    """`committed` frames would be played into the file; 0: SQLite would throw the log away."""

    page_size: int
    committed: int
    pages: frozenset[int]
    first_page: bytes | None
    """Page 1 as the last transaction left it; None when no transaction wrote it."""


def read_log(path: Path) -> Log | None:
    """Return what the log holds; None when its header is not that of a log: its checksum or format is wrong."""
    with open(path, "rb") as source:
        head = source.read(HEAD)
        if len(head) < HEAD:
            return None
        magic, version, page_size, _, salts = *struct.unpack(">IIII", head[:16]), head[16:24]
        order = "<" if magic == LITTLE else ">"
        sums = _checksum(head[:24], (0, 0), order)
        if magic not in (LITTLE, BIG) or version != VERSION or struct.pack(">II", *sums) != head[24:]:
            return None
        if not 512 <= page_size <= 65536 or page_size & (page_size - 1):
            return None
        return _frames(source, page_size, salts, sums, order)


def _frames(source: BinaryIO, page_size: int, salts: bytes, sums: tuple[int, int], order: str) -> Log:
    """Frames count up to the last commit whose salts and checksums are those of the header."""
    committed = frames = 0
    pages: set[int] = set()
    waiting: set[int] = set()
    first_page = page_one = None
    while len(frame := source.read(FRAME_HEAD + page_size)) == FRAME_HEAD + page_size:
        number, size_after = struct.unpack(">II", frame[:8])
        sums = _checksum(frame[:8] + frame[FRAME_HEAD:], sums, order)
        if frame[8:16] != salts or struct.pack(">II", *sums) != frame[16:24]:
            break
        frames += 1
        waiting.add(number)
        page_one = frame[FRAME_HEAD:] if number == 1 else page_one
        if size_after:
            committed, first_page = frames, page_one
            pages |= waiting
    return Log(page_size, committed, frozenset(pages), first_page)


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """https://sqlite.org/fileformat2.html#checksum_algorithm"""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for place in range(0, len(words), 2):
        first = (first + words[place] + second) & 0xFFFFFFFF
        second = (second + words[place + 1] + first) & 0xFFFFFFFF
    return first, second
