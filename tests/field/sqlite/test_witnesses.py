"""No row goes in silence: what proves that every row was found reads what it claims to, and is not alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from maintenance.engines.errors import Damaged
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import SMALL, perform_all, plan, repaired, under_cut


def poor(lab: SQLiteLab, index: str, insert: str) -> None:
    """Rows that come while the schema does not tell of the index."""
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
        row = connection.execute("SELECT * FROM sqlite_master WHERE name = ?", (index,)).fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = ?", (index,))
        connection.execute("PRAGMA writable_schema = RESET")
        connection.execute(insert)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)


def numbers(first: int, last: int) -> str:
    return f"WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"


@pytest.fixture
def lab(tmp_path: Path) -> SQLiteLab:
    return SQLiteLab(tmp_path / "shop")


@pytest.mark.parametrize("second_index", [False, True])
def test_one_poor_index_is_no_list_of_all_rows(lab: SQLiteLab, second_index: bool) -> None:
    lab.script(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, k, v)",
        "CREATE INDEX tk ON t (k)",
        *(["CREATE INDEX tv ON t (v)"] if second_index else []),
        f"{numbers(1, 3000)} INSERT INTO t SELECT i, i, hex(i) FROM n",
    )
    poor(lab, "tk", f"{numbers(3001, 3500)} INSERT INTO t SELECT i, i, hex(i) FROM n")
    before = lab.sql("SELECT * FROM t NOT INDEXED ORDER BY id")
    lab.write((lab.pages("t", "internal")[0] - 1) * 4096, bytes(8))
    if second_index:
        assert repaired(lab) == []
    else:
        with lab.engine() as engine, under_cut(engine), pytest.raises(Damaged, match="do not prove"):
            perform_all(engine, plan(engine, "repair"))
        (loss,) = repaired(lab, allow_data_loss=True)
        assert loss.rows is None
    assert lab.sql("SELECT * FROM t NOT INDEXED ORDER BY id") == before
    assert lab.sql("PRAGMA integrity_check") == [("ok",)]


def test_a_covering_index_is_not_taken_for_the_table(lab: SQLiteLab) -> None:
    lab.script(
        "CREATE TABLE w (k INTEGER PRIMARY KEY, v) WITHOUT ROWID",
        "CREATE INDEX wkv ON w (k, v)",
        f"{numbers(1, 3000)} INSERT INTO w SELECT i, hex(i) FROM n",
    )
    poor(lab, "wkv", f"{numbers(3001, 3500)} INSERT INTO w SELECT i, hex(i) FROM n")
    with lab.engine() as engine:
        assert engine.verifier.fingerprint(None)["w"].rows == 3500
    leaves = lab.pages("w", "leaf")
    lab.overwrite(leaves[-2], b"\0")
    with lab.engine() as engine:
        assert not engine.verifier.fingerprint(None)["w"].readable
        with under_cut(engine), pytest.raises(Damaged):
            perform_all(engine, plan(engine, "repair"))
    (loss,) = repaired(lab, allow_data_loss=True)
    assert loss.rows is None or loss.rows > 0
    assert loss.pages


@pytest.mark.parametrize("kind", ["optimize", "rebuild"])
def test_rows_keep_the_numbers_that_no_column_names(lab: SQLiteLab, kind: str) -> None:
    lab.script(
        "CREATE TABLE note (title, body)",
        "CREATE VIRTUAL TABLE search USING fts5 (title, body, content = 'note')",
        f"{numbers(1, 4000)} INSERT INTO note SELECT 'title ' || i, hex(zeroblob(40)) FROM n",
        "INSERT INTO search (search) VALUES ('rebuild')",
        "CREATE TRIGGER gone AFTER DELETE ON note BEGIN INSERT INTO search (search, rowid, title, body)"
        " VALUES ('delete', old.rowid, old.title, old.body); END",
        "DELETE FROM note WHERE rowid % 2",
    )
    before = lab.sql("SELECT rowid, * FROM note ORDER BY rowid")
    with lab.engine() as engine, under_cut(engine):
        prints, definitions = engine.verifier.fingerprint(None), engine.verifier.definitions()
        for action in engine.planner.plan(kind, engine.diagnostics.diagnose(SMALL), SMALL, None, False):  # type: ignore[arg-type]
            engine.actions.perform(action, False)
        assert engine.verifier.fingerprint(None) == prints
        assert engine.verifier.definitions() == definitions
        engine.rollback.clean()
    assert lab.sql("SELECT rowid, * FROM note ORDER BY rowid") == before
    assert lab.sql("SELECT rowid, title FROM search WHERE search MATCH '3998'") == [(3998, "title 3998")]


def test_rowids_are_part_of_the_proof(lab: SQLiteLab) -> None:
    lab.script("CREATE TABLE note (title)", "INSERT INTO note (rowid, title) VALUES (1, 'a'), (5, 'b')")
    with lab.engine() as engine:
        before = engine.verifier.fingerprint(None)
    lab.sql("VACUUM")
    with lab.engine() as engine:
        assert engine.verifier.fingerprint(None) != before


@pytest.mark.parametrize("name", ["2024_sales", "+3", "-1", "_x", "'quoted'"])
def test_a_table_whatever_it_is_called_is_checked_by_itself(lab: SQLiteLab, name: str) -> None:
    lab.fill()
    lab.script(
        f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, a)',
        f'{numbers(1, 3000)} INSERT INTO "{name}" SELECT i, hex(zeroblob(20)) FROM n',
    )
    lab.damage_table()
    with lab.engine() as engine:
        damaged = [f.object for f in engine.diagnostics.diagnose(SMALL).findings if f.code == "table_damaged"]
    assert damaged == ["orders"]
    lab.overwrite(lab.pages(name, "leaf")[1], b"\0")
    with lab.engine() as engine:
        damaged = [f.object for f in engine.diagnostics.diagnose(SMALL).findings if f.code == "table_damaged"]
    assert len(damaged) == 2
