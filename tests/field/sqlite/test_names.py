"""Names that the console gives to what is lost are never those of something that is there."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from maintenance.engines.errors import Damaged
from maintenance.workflow.verdict import Evidence, objections
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import SMALL, perform_all, plan, repaired, under_cut

ODD = ["2024 sales", "table x", "view v", "a.db", 'quoted "x"']


@pytest.fixture
def lab(tmp_path: Path) -> SQLiteLab:
    made = SQLiteLab(tmp_path / "shop")
    made.fill()
    return made


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def unparsable(lab: SQLiteLab, name: str) -> None:
    """As a newer SQLite leaves a table that this one cannot read."""
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE t (a b c' WHERE name = ?", (name,))


@pytest.mark.parametrize("name", ODD)
def test_a_table_whose_definition_is_lost_is_told_by_its_name(lab: SQLiteLab, name: str) -> None:
    lab.script(f"CREATE TABLE {quoted(name)} (a, b)", f"INSERT INTO {quoted(name)} VALUES (1, 'kept')")
    with lab.engine() as engine:
        prints, definitions = engine.verifier.fingerprint(None), engine.verifier.definitions()
    unparsable(lab, name)
    losses = repaired(lab, allow_data_loss=True)
    with lab.engine() as engine:
        evidence = Evidence(
            before=prints,
            after=engine.verifier.fingerprint(None),
            definitions_before=definitions,
            definitions=engine.verifier.definitions(),
            lost_by_consent={loss.object for loss in losses},
        )
    assert objections(evidence) == []
    assert lab.sql("SELECT c0, c1 FROM lost_and_found") == [(1, "kept")]


@pytest.mark.parametrize("name", ["orders", "customers", "table x", "lost_and_found"])
def test_a_file_called_like_a_table_lets_no_row_of_that_table_go(lab: SQLiteLab, name: str) -> None:
    lab.script(f"CREATE TABLE IF NOT EXISTS {quoted(name)} (id INTEGER PRIMARY KEY, b)", "CREATE TABLE gone (a, b)")
    lab.script("INSERT INTO gone VALUES (1, 'kept')")
    unparsable(lab, "gone")
    moved = lab.path.with_name(name)
    os.rename(lab.path, moved)
    lab.path, lab.url = moved, lab.url.set(database=str(moved))
    losses = {loss.object for loss in repaired(lab, allow_data_loss=True)}
    assert f"file {name}" in losses
    assert not losses & {name, quoted(name), f"table {name}", f"table {quoted(name)}"}


@pytest.mark.parametrize(
    "own",
    [
        "CREATE TABLE lost_and_found (mine)",
        "CREATE VIEW lost_and_found AS SELECT 1 AS mine",
        "CREATE VIRTUAL TABLE lost_and_found USING fts5 (mine)",
        "CREATE INDEX lost_and_found ON orders (note)",
        "CREATE TABLE Lost_And_Found (mine) ; CREATE TABLE lost_and_found_0 (mine)",
    ],
)
def test_what_the_application_calls_lost_and_found_stays_its_own(lab: SQLiteLab, own: str) -> None:
    lab.script(*own.split(" ; "), "CREATE TABLE gone (a, b)", "INSERT INTO gone VALUES (1, 'kept')")
    with lab.engine() as engine:
        definitions = engine.verifier.definitions()
    unparsable(lab, "gone")
    repaired(lab, allow_data_loss=True)
    with lab.engine() as engine:
        after = engine.verifier.definitions()
    assert definitions.items() - after.items() <= {("table gone", definitions["table gone"])}
    (beside,) = {name for name in after if name not in definitions}
    assert lab.sql(f"SELECT c0, c1 FROM {beside.removeprefix('table ')}") == [(1, "kept")]


def test_no_column_is_one_too_many(tmp_path: Path) -> None:
    """SQLite allows 2,000; a table beside needs four of its own."""
    lab = SQLiteLab(tmp_path / "wide")
    columns = ", ".join(f"c{number} INTEGER" for number in range(2000))
    values = ", ".join(map(str, range(2000)))
    lab.script(
        f"CREATE TABLE wide ({columns})",
        "CREATE INDEX first ON wide (c0, c1)",
        f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) INSERT INTO wide SELECT i,"
        f" {values.removeprefix('0, ')} FROM n",
    )
    before = lab.sql("SELECT * FROM wide ORDER BY c0")
    lab.write((lab.pages("wide", "internal")[0] - 1) * 4096, bytes(8))
    assert repaired(lab) == []
    assert lab.sql("SELECT * FROM wide ORDER BY c0") == before
    lab.overwrite(1, b"\0")
    repaired(lab, allow_data_loss=True)
    assert lab.sql("SELECT count(*) FROM lost_and_found WHERE nfield = 2000") == [(60,)]


@pytest.mark.parametrize("leave", [True, False])
def test_values_twice_under_unique_are_named_before_the_cut_and_part_of_the_loss(lab: SQLiteLab, leave: bool) -> None:
    lab.script(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code)",
        "CREATE INDEX code ON t (code)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'a'), (4, NULL), (5, NULL)",
    )
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE UNIQUE INDEX code ON t (code)' WHERE name = 'code'")
    before = lab.path.read_bytes()
    with lab.engine() as engine:
        found = {finding.object: str(finding.evidence) for finding in engine.diagnostics.diagnose(SMALL).findings}
    assert "1 keys of code" in found["t"]
    assert "1 3" in found["t"]
    if leave:
        losses = repaired(lab, allow_data_loss=True)
        assert "t" in {loss.object for loss in losses}
        assert lab.sql("SELECT * FROM t ORDER BY id") == [(1, "a"), (2, "b"), (4, None), (5, None)]
        assert lab.sql("SELECT id, c1 FROM lost_and_found") == [(3, "a")]
    else:
        with lab.engine() as engine, under_cut(engine), pytest.raises(Damaged):
            perform_all(engine, plan(engine, "repair"))
        assert lab.path.read_bytes() == before
