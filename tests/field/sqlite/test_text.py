"""Text that is not valid goes through a repair byte for byte."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import SMALL, repaired

from .oracle import is_sound, repair, tables_of


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


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
@pytest.mark.parametrize("leave", [True, False])
@pytest.mark.parametrize("told", [0, 1, 2, 3, 4, 6, 0xFFFFFFFF])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_a_header_that_tells_another_encoding_is_mended_or_left_as_it_was(
    tmp_path: Path, encoding: str, told: int, leave: bool, journal_mode: str
) -> None:
    path = tmp_path / "case" / "case.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT)")
        for statement in ("INSERT INTO t VALUES (?, ?)", "INSERT INTO u VALUES (?, ?)"):
            connection.executemany(statement, [(n, f"é {n}" * 9) for n in range(400)])
        leaf = connection.execute("SELECT max(pageno) FROM dbstat WHERE name = 't' AND pagetype = 'leaf'").fetchone()[0]
    true = tables_of(path)
    damaged = bytearray(path.read_bytes())
    damaged[56:60] = told.to_bytes(4, "big")
    damaged[(leaf - 1) * 4096 : leaf * 4096] = bytes(4096)
    path.write_bytes(damaged)
    run = repair(path, leave)
    if run.ended or not run.worked:
        assert path.read_bytes() == bytes(damaged)
        assert not leave, run.ended
    else:
        assert tables_of(path)["u"] == true["u"]
        assert not tables_of(path)["t"] - true["t"]
        assert is_sound(path)
