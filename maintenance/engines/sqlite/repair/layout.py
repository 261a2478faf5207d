"""Finds out how a file is laid out where its header cannot be believed."""

from __future__ import annotations

import mmap
from pathlib import Path

from .pages import ENCODINGS, INNER, LEAVES, SIZES, Layout, PageFile, Unreadable, layout_of_header

SAMPLED = 400
"""Pages looked at for each size, spread over the file."""
TOLD_SHARE = 0.5
"""A header is believed while the size it tells explains this much of what the best one does."""


def layout_of(path: Path) -> Layout | None:
    """Return the layout that most pages of the file agree with; None when no page follows the format."""
    try:
        told: Layout | None = layout_of_header(path)
    except Unreadable:
        told = None
    encoding = _encoding(path) or 1 if told is None or not _is_told(path, told) else told.encoding
    reserved = sorted({0, told.reserved if told else 0})
    tried = [Layout(size, end, encoding) for size in SIZES for end in reserved]
    scores = {layout: _explained(path, layout) for layout in tried if path.stat().st_size >= layout.size}
    best = max(scores, key=lambda layout: scores[layout], default=None)
    if told is not None:
        told = Layout(told.size, told.reserved, encoding)
        # A file of few pages may show nothing at all: then its header is all there is.
        if best is None or scores.get(told, _explained(path, told)) >= TOLD_SHARE * scores[best]:
            return told
    return best if best is not None and scores[best] else None


def _is_told(path: Path, told: Layout) -> bool:
    """Whether the text of the schema is in the encoding that the header tells, or in none."""
    return _encoding(path) in (told.encoding, None)


def _encoding(path: Path) -> int | None:
    """Return in which encoding the beginning of a schema text stands in the file most often; None: in none.

    Text of UTF-16 with the high byte first contains the other order too, one byte further on, but not the reverse.
    """
    with open(path, "rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = {number: _occurrences(content, "CREATE TABLE".encode(name)) for number, name in ENCODINGS.items()}
    best = max(found, key=lambda number: (found[number], number))
    return best if found[best] else None


def _occurrences(content: mmap.mmap, word: bytes) -> int:
    count, at = 0, content.find(word)
    while at >= 0 and count < SAMPLED:
        count, at = count + 1, content.find(word, at + 1)
    return count


def _explained(path: Path, layout: Layout) -> int:
    """Bytes on pages, of those looked at, that are whole tree pages with something on them."""
    explained = 0
    with PageFile(path, layout) as source:
        step = max(1, source.count // SAMPLED)
        for number in range(1, source.count + 1, step):
            if source.kind(number) in INNER | LEAVES and source.is_consistent(number) and source.has_cells(number):
                explained += layout.size * step
    return explained
