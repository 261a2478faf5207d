"""A thousand damages, judged by the rows that are known to be in the file: none lost in silence, none invented, none
touched that was sound, and with leave never fewer saved than .recover of SQLite's own shell saves."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from .oracle import judge
from .shell import version

CASES = int(os.environ.get("DBMAINT_SQLITE_DAMAGES", "1000"))
BLOCK = 25


@pytest.mark.parametrize("first", range(0, CASES, BLOCK))
def test_no_row_goes_in_silence_whatever_the_damage(tmp_path: Path, first: int) -> None:
    verdicts = [judge(seed, tmp_path) for seed in range(first, min(first + BLOCK, CASES))]
    rows: Counter[str] = Counter()
    for verdict in verdicts:
        rows.update(true=verdict.true, saved=verdict.saved, recovered=verdict.recovered)
    print(f"sqlite3 {version()}: {dict(rows)}")
    assert not [str(verdict) for verdict in verdicts if verdict.faults]
