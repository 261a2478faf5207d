"""SQLite's own corpus of damaged files: diagnosis and repair end, without a traceback, and give back what they change
only to mend it. Fetched by deploy/sqlite.sh; not part of this repository."""

from __future__ import annotations

import sqlite3
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from .oracle import HANGS, repair
from .shell import CORPUS

INPUTS = 1500
BLOCK = 100


def inputs(first: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Database files of the corpus, the same in every run."""
    for name in ("fuzzdata3.db", "fuzzdata7.db"):
        with closing(sqlite3.connect(f"file:{CORPUS / name}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT dbid, dbcontent FROM db WHERE length(dbcontent) > 0 ORDER BY dbid")
            for number, content in rows:
                if first > 0:
                    first -= 1
                elif count > 0:
                    count -= 1
                    yield f"{name} {number}", bytes(content)
                else:
                    return


@pytest.mark.skipif(not CORPUS.is_dir(), reason="sh deploy/sqlite.sh could not fetch Debian's source package sqlite3")
@pytest.mark.parametrize("first", range(0, INPUTS, BLOCK))
def test_every_file_of_the_corpus_is_diagnosed_and_repaired_or_left_as_it_was(tmp_path: Path, first: int) -> None:
    path = tmp_path / "case" / "case.db"
    path.parent.mkdir()
    faults, seen = [], 0
    for number, (name, content) in enumerate(inputs(first, BLOCK)):
        seen += 1
        path.write_bytes(content)
        begun = time.monotonic()
        try:
            run = repair(path, leave=number % 2 == 0)
        except Exception:
            faults.append(f"{name}: {traceback.format_exc()}")
            continue
        if time.monotonic() - begun > HANGS:
            faults.append(f"{name}: took {time.monotonic() - begun:.0f} s")
        if (run.ended or not run.worked) and path.read_bytes() != content:
            faults.append(f"{name}: is another although nothing was repaired: {run.ended}")
    assert seen == BLOCK
    assert faults == []
