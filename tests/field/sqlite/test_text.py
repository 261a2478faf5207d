"""Text that is not valid goes through a repair byte for byte."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import SMALL, repaired


def rows(lab: SQLiteLab) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(lab.path)) as connection:
        return connection.execute(
            "SELECT id, CAST(name AS BLOB), typeof(name), hex(note) FROM t NOT INDEXED ORDER BY id"
        ).fetchall()


@pytest.mark.parametrize("text", ["x'63e9'", "x'ff'", "x'eda080'", "x'6100e962'"])
def test_rows_with_invalid_text_are_moved_as_they_are(tmp_path: Path, text: str) -> None:
    lab = SQLiteLab(tmp_path / "shop")
    lab.script(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, note)",
        "CREATE INDEX tn ON t (id, name)",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
        f" INSERT INTO t SELECT i, CASE WHEN i % 3 THEN 'é' || i ELSE CAST({text} AS TEXT) END, i FROM n",
    )
    before = rows(lab)
    lab.overwrite(lab.pages("t", "internal")[0], b"\0")
    with lab.engine() as engine:
        engine.diagnostics.diagnose(SMALL)
        assert not engine.verifier.fingerprint(None)["t"].readable
    assert repaired(lab) == []
    assert rows(lab) == before
