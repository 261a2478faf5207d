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


def swap(lab: SQLiteLab, one: int, other: int) -> None:
    """What two misdirected writes do."""
    content = lab.path.read_bytes()
    for target, page in ((one, other), (other, one)):
        lab.write((target - 1) * 4096, content[(page - 1) * 4096 : page * 4096])


def two_alike(lab: SQLiteLab) -> dict[str, list[tuple[object, ...]]]:
    """`mine` has declared types, `theirs` none: its columns take any row. No index tells of either."""
    lab.script(
        "CREATE TABLE mine (at INTEGER, level TEXT, line TEXT)",
        "CREATE TABLE theirs (at, level, line)",
        f"{numbers(1, 900)} INSERT INTO mine SELECT i, 'mine', hex(zeroblob(20)) FROM n",
        f"{numbers(1, 900)} INSERT INTO theirs SELECT i, 'theirs', hex(zeroblob(20)) FROM n",
        "ANALYZE",
    )
    return {name: lab.sql(f"SELECT rowid, * FROM {name}") for name in ("mine", "theirs")}


def everywhere(lab: SQLiteLab) -> set[tuple[object, ...]]:
    """Rows of all tables, those beside them too."""
    names = [str(row[0]) for row in lab.sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
    beside = lab.sql("SELECT id, c0, c1, c2 FROM lost_and_found") if "lost_and_found" in names else []
    return {row for name in ("mine", "theirs") for row in lab.sql(f"SELECT rowid, * FROM {name}")} | {*beside}


@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_tree_of_another_table_below_a_table_gives_it_no_rows(lab: SQLiteLab, place: int) -> None:
    true = two_alike(lab)
    swap(lab, lab.pages("mine", "internal")[0], lab.pages("theirs", "leaf")[place])
    repaired(lab, allow_data_loss=True)
    assert {row[2] for row in lab.sql("SELECT rowid, * FROM theirs")} == {"theirs"}
    assert everywhere(lab) == {*true["mine"], *true["theirs"]}


@pytest.mark.parametrize("auto_vacuum", [0, 1])
@pytest.mark.parametrize("leave", [False, True])
def test_rows_that_lie_where_the_statistics_were_do_not_go_with_them(
    lab: SQLiteLab, leave: bool, auto_vacuum: int
) -> None:
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA auto_vacuum = {auto_vacuum}")
        connection.execute("VACUUM")
    true = two_alike(lab)
    swap(lab, lab.pages("mine", "internal")[0], lab.pages("sqlite_stat1", "leaf")[0])
    damaged = lab.path.read_bytes()
    if leave:
        repaired(lab, allow_data_loss=True)
        assert everywhere(lab) >= {*true["mine"], *true["theirs"]}
    else:
        for kind in ("repair", "optimize"):
            with lab.engine() as engine, under_cut(engine), pytest.raises(Damaged):
                perform_all(engine, plan(engine, kind))
        assert lab.path.read_bytes() == damaged


@pytest.mark.parametrize("leave", [False, True])
@pytest.mark.parametrize("place", ["a root of an index", "a leaf of an index", "zeros"])
def test_statistics_that_cannot_be_read_stand_in_no_way(lab: SQLiteLab, place: str, leave: bool) -> None:
    two_alike(lab)
    lab.script("CREATE INDEX at ON mine (at, line)", "ANALYZE")
    true = {name: lab.sql(f"SELECT rowid, * FROM {name}") for name in ("mine", "theirs")}
    (page,) = lab.pages("sqlite_stat1", "leaf")
    if place == "zeros":
        lab.write((page - 1) * 4096, bytes(4096))
    else:
        swap(lab, page, lab.pages("at", "internal" if place == "a root of an index" else "leaf")[0])
    repaired(lab, allow_data_loss=leave)
    assert {name: lab.sql(f"SELECT rowid, * FROM {name} NOT INDEXED") for name in true} == true
    assert lab.sql("PRAGMA integrity_check") == [("ok",)]
    assert lab.sql("SELECT tbl, idx FROM sqlite_stat1 ORDER BY tbl") == [("mine", "at"), ("theirs", None)]
