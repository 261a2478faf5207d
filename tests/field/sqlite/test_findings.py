"""What a file is told to have: neither more nor less, nor something else."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from maintenance.engines.errors import Unable
from maintenance.workflow.verdict import Evidence, objections
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import SMALL, perform_all, plan, repaired, under_cut


@pytest.fixture
def lab(tmp_path: Path) -> SQLiteLab:
    made = SQLiteLab(tmp_path / "shop")
    made.fill()
    return made


def codes(lab: SQLiteLab) -> list[str]:
    with lab.engine() as engine:
        return [finding.code for finding in engine.diagnostics.diagnose(SMALL).findings]


@pytest.mark.parametrize(
    ("makes", "breaks"),
    [
        ("CREATE VIRTUAL TABLE f USING fts5 (body)", "DELETE FROM f_data WHERE id > 10"),
        ("CREATE VIRTUAL TABLE f USING fts4 (body)", "DELETE FROM f_segdir"),
        ('CREATE VIRTUAL TABLE "my f" USING fts5(body)', 'DELETE FROM "my f_docsize"'),
    ],
)
def test_a_broken_full_text_index_is_told(lab: SQLiteLab, makes: str, breaks: str) -> None:
    name = '"my f"' if "my f" in makes else "f"
    lab.script(makes, f"INSERT INTO {name} SELECT note FROM orders LIMIT 500")
    before = lab.path.read_bytes()
    assert "search_index_damaged" not in codes(lab)
    assert lab.path.read_bytes() == before
    lab.sql(breaks)
    assert "search_index_damaged" in codes(lab)


def test_a_broken_spatial_index_is_told(lab: SQLiteLab) -> None:
    lab.script("CREATE VIRTUAL TABLE r USING rtree (id, a, b)", "INSERT INTO r SELECT id, id, id + 1 FROM orders")
    assert "search_index_lost" not in codes(lab)
    lab.sql("DELETE FROM r_rowid WHERE rowid % 3 = 0")
    assert "search_index_lost" in codes(lab)


@pytest.mark.parametrize("seed", range(5))
def test_an_encrypted_file_is_called_so_and_nothing_is_offered(lab: SQLiteLab, seed: int) -> None:
    lab.path.write_bytes(random.Random(seed).randbytes(200_000))
    before = lab.path.read_bytes()
    assert codes(lab).count("encrypted") == 1
    with lab.engine() as engine, pytest.raises(Unable, match="encrypted"):
        plan(engine, "repair", True)
    assert lab.path.read_bytes() == before


def test_an_entry_of_a_newer_dialect_is_no_lost_page(lab: SQLiteLab) -> None:
    lab.sql("CREATE VIEW v AS SELECT group_concat(status) FROM orders")
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = 'CREATE VIEW v AS SELECT nothing(( FROM orders' WHERE name = 'v'"
        )
    before = lab.path.read_bytes()
    found = codes(lab)
    assert "schema_unreadable" in found
    assert "file_damaged" not in found
    with lab.engine() as engine, pytest.raises(Unable, match="cannot read an entry"):
        plan(engine, "repair")
    assert lab.path.read_bytes() == before
    assert [(loss.object, loss.rows) for loss in repaired(lab, allow_data_loss=True)] == [("view v", 0)]
    assert lab.sql("SELECT count(*) FROM orders") == [(8000,)]
    assert codes(lab) == ["missing_statistics"]


def test_no_measurement_stands_before_a_repair(lab: SQLiteLab) -> None:
    lab.write(0, b"\xff" * 16)
    with lab.engine() as engine:
        assert engine.benchmark.queries(None) == []


def relaxed(lab: SQLiteLab, written: str, insert: str, now: str) -> None:
    """Rows that came before their constraint did."""
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
        connection.execute(written)
        connection.execute(insert)
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 't'", (now,))


@pytest.mark.parametrize(
    ("written", "insert", "now"),
    [
        ("CREATE TABLE t (a)", "SELECT NULL", "CREATE TABLE t (a NOT NULL)"),
        ("CREATE TABLE t (a)", "SELECT -1", "CREATE TABLE t (a CHECK (a > 0))"),
        ("CREATE TABLE t (a)", "SELECT '12'", "CREATE TABLE t (a NUMERIC)"),
        ("CREATE TABLE t (a)", "SELECT 12", "CREATE TABLE t (a TEXT)"),
        ("CREATE TABLE t (a ANY) STRICT", "SELECT 'x'", "CREATE TABLE t (a INTEGER) STRICT"),
    ],
)
@pytest.mark.parametrize("rows", [3, 250])
def test_rows_that_contradict_the_schema_are_no_damage(
    lab: SQLiteLab, written: str, insert: str, now: str, rows: int
) -> None:
    relaxed(lab, written, f"INSERT INTO t {insert} FROM orders LIMIT {rows}", now)
    assert "table_damaged" not in codes(lab)
    with lab.engine() as engine, under_cut(engine):
        found = {finding.code: finding for finding in engine.diagnostics.diagnose(SMALL).findings}
        assert "table_damaged" not in found
        assert found["constraint_violated"].severity == "medium"
        assert str(found["constraint_violated"].evidence).startswith(f"{rows} values")
        before = engine.verifier.fingerprint(None)
        perform_all(engine, plan(engine, "rebuild"))
        assert engine.verifier.fingerprint(None) == before
        assert [check for check in engine.verifier.check(None) if not check.passed] == []


@pytest.mark.parametrize("rule", ["a REGEXP 'x'", "myown(a) > 0"])
def test_a_function_of_the_application_in_a_constraint_is_named(lab: SQLiteLab, rule: str) -> None:
    relaxed(lab, "CREATE TABLE t (a)", "INSERT INTO t VALUES ('x')", f"CREATE TABLE t (a CHECK ({rule}))")
    assert "application_code_needed" in codes(lab)


SEARCH = [
    ("USING fts5 (body)", "DELETE FROM f_data WHERE id > 10"),
    ("USING fts4 (body)", "DELETE FROM f_segdir"),
    ("USING fts3 (body)", "DELETE FROM f_segments"),
    ("USING fts5 (body)", "DELETE FROM f_docsize WHERE id % 2"),
    ("USING fts5 (note, content = 'orders', content_rowid = 'id')", "DELETE FROM f_data WHERE id > 10"),
    ("USING fts4 (note, content='orders')", "DELETE FROM f_segdir"),
]


@pytest.mark.parametrize("kind", ["repair", "optimize", "rebuild"])
@pytest.mark.parametrize(("module", "breaks"), SEARCH)
def test_a_broken_full_text_index_is_made_again_from_its_rows(
    lab: SQLiteLab, module: str, breaks: str, kind: str
) -> None:
    lab.script(f"CREATE VIRTUAL TABLE f {module}")
    lab.sql("INSERT INTO f (f) VALUES ('rebuild')" if "content" in module else "INSERT INTO f SELECT note FROM orders")
    search = "SELECT count(*), min(rowid) FROM f WHERE f MATCH '1234 OR 1235'"
    before = lab.sql(search)
    assert before[0][0]
    lab.sql(breaks)
    with lab.engine() as engine, under_cut(engine):
        actions = plan(engine, kind)
        assert "rebuild_search_index" in [action.kind for action in actions]
        prints, checks = engine.verifier.fingerprint(None), engine.verifier.check(None)
        perform_all(engine, actions)
        after = engine.verifier.fingerprint(None)
        again = engine.verifier.check(None)
        assert objections(Evidence(before=prints, after=after, checks_before=checks, checks=again)) == []
        assert [check for check in again if not check.passed] == []
        perform_all(engine, actions)
        engine.rollback.clean()
    assert lab.sql(search) == before
    assert "search_index_damaged" not in codes(lab)


@pytest.mark.parametrize("makes", ["USING rtree (id, a, b)", "USING fts5 (body, content = '')"])
def test_an_index_that_keeps_no_rows_is_told_and_stands_in_no_way(lab: SQLiteLab, makes: str) -> None:
    lab.script(f"CREATE VIRTUAL TABLE f {makes}")
    columns = "id, a, b) SELECT id, id, id + 1" if "rtree" in makes else "rowid, body) SELECT id, note"
    lab.script(f"INSERT INTO f ({columns} FROM orders")
    lab.sql("DELETE FROM f_rowid WHERE rowid % 3 = 0" if "rtree" in makes else "DELETE FROM f_data WHERE id > 10")
    assert "search_index_lost" in codes(lab)
    with lab.engine() as engine, under_cut(engine):
        prints, checks = engine.verifier.fingerprint(None), engine.verifier.check(None)
        assert [check.name for check in checks if not check.passed] == ["search index"]
        perform_all(engine, plan(engine, "rebuild"))
        after = Evidence(
            before=prints,
            after=engine.verifier.fingerprint(None),
            checks_before=checks,
            checks=engine.verifier.check(None),
            rows_stay=True,
        )
        assert objections(after) == []
        engine.rollback.clean()


@pytest.mark.parametrize("module", ["USING fts5 (note, content = 'orders')", "USING fts5 (body)"])
def test_a_full_text_index_leads_to_no_row_that_was_lost(lab: SQLiteLab, module: str) -> None:
    lab.script(f"CREATE VIRTUAL TABLE f {module}")
    lab.sql("INSERT INTO f (f) VALUES ('rebuild')" if "content" in module else "INSERT INTO f SELECT note FROM orders")
    leaves = lab.pages("orders" if "content" in module else "f_content", "leaf")
    lab.overwrite(leaves[len(leaves) // 2], b"\0")
    assert [loss.object for loss in repaired(lab, allow_data_loss=True) if loss.rows != 0]
    left = lab.sql("SELECT count(*) FROM f")[0][0]
    assert 0 < left < 8000  # type: ignore[operator]
    column = "note" if "content" in module else "body"
    assert lab.sql(f"SELECT count({column}) FROM f WHERE f MATCH 'note'") == [(left,)]
