"""What an SQLite file can hold beyond plain tables, and its settings: kept, or told when they cannot be."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from maintenance.engines.errors import Unable
from maintenance.engines.sqlite.definitions import SETTINGS
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import PLAIN, SMALL, plan, repaired, under_cut

ROWS = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
    " INSERT INTO t (id, name) SELECT i, 'name ' || (i % 77) FROM n"
)


def settings(lab: SQLiteLab) -> dict[str, object]:
    return {name: lab.sql(f"PRAGMA {name}")[0][0] for name in SETTINGS}


@pytest.fixture
def unusual(lab: SQLiteLab) -> SQLiteLab:
    """Page size, encoding, vacuum mode and numbers of its own; views and a trigger that lead nowhere."""
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
        for statement in (
            "PRAGMA page_size = 8192",
            "PRAGMA encoding = 'UTF-16le'",
            "PRAGMA auto_vacuum = INCREMENTAL",
            "VACUUM",
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)",
            "CREATE INDEX by_name ON t (name)",
            ROWS,
            "DELETE FROM t WHERE id > 4000",
            "PRAGMA application_id = 99",
            "PRAGMA user_version = 7",
            "CREATE VIEW of_nothing AS SELECT * FROM gone",
            "CREATE VIEW of_no_column AS SELECT t.gone FROM t",
            "CREATE TRIGGER into_nothing AFTER DELETE ON t BEGIN INSERT INTO gone VALUES (1); END",
        ):
            connection.execute(statement)
    assert settings(lab) == {
        "user_version": 7,
        "application_id": 99,
        "page_size": 8192,
        "encoding": "UTF-16le",
        "auto_vacuum": 2,
    }
    return lab


def test_settings_and_definitions_are_the_same_after_a_rebuild_and_a_rollback(unusual: SQLiteLab) -> None:
    before = settings(unusual)
    with unusual.engine() as engine:
        catalog, rows = engine.verifier.definitions(), engine.verifier.fingerprint(None)
        assert rows["sqlite_sequence"].rows == 1
        backup = engine.backups.back_up("sqlite_backup", unusual.folder, "shop", PLAIN)
        with under_cut(engine) as gate:
            image = engine.backups.image(backup, rows, unusual.folder, "image", PLAIN)
            for action in plan(engine, "rebuild"):
                engine.actions.perform(action, False)
            assert (engine.verifier.definitions(), engine.verifier.fingerprint(None)) == (catalog, rows)
            engine.rollback.swap(engine.rollback.restore_beside(image, backup, PLAIN), gate, {})
            assert (engine.verifier.definitions(), engine.verifier.fingerprint(None)) == (catalog, rows)
        engine.rollback.clean()
    assert settings(unusual) == before


def test_settings_and_numbers_are_the_same_after_salvage(unusual: SQLiteLab) -> None:
    before, numbers = settings(unusual), unusual.sql("SELECT * FROM sqlite_sequence")
    assert numbers == [("t", 5000)]
    unusual.overwrite(unusual.pages("t", "leaf")[3], b"\0")
    (loss,) = repaired(unusual, allow_data_loss=True)
    assert loss.rows
    assert unusual.sql("SELECT count(*) FROM t") == [(4000 - loss.rows,)]
    assert settings(unusual) == before
    assert unusual.sql("SELECT * FROM sqlite_sequence") == numbers


def spell(connection: sqlite3.Connection) -> None:
    """What the application defines when it opens the file."""
    connection.create_collation("german", lambda a, b: (a > b) - (a < b))
    connection.create_function("twice", 1, lambda number: number * 2, deterministic=True)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE german)", "no such collation sequence: german"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX i ON t (name COLLATE german)", "german"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n AS (twice(id)))", "unknown function: twice"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX i ON t (twice(id))", "twice"),
    ],
)
def test_a_table_that_only_its_application_can_sort_is_told_and_not_worked_on(
    lab: SQLiteLab, table: str, words: str
) -> None:
    lab.script("CREATE TABLE plain (id INTEGER PRIMARY KEY, name TEXT)", "CREATE INDEX p ON plain (name)")
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
        spell(connection)
        for statement in (*table.split("; "), ROWS):
            connection.execute(statement)
    with lab.engine() as engine:
        found = engine.diagnostics.diagnose(SMALL)
        told = {finding.object: finding for finding in found.findings if finding.code == "application_code_needed"}
        assert set(told) == {"t"}
        assert words in told["t"].evidence
        for kind in ("repair", "optimize", "rebuild"):
            with pytest.raises(Unable, match=words):
                plan(engine, kind)
        # What is its own can be worked on by name, and everything can be backed up.
        named = engine.planner.plan("rebuild", found, SMALL, ["plain"], False)
        with under_cut(engine):
            for action in named:
                engine.actions.perform(action, False)
            assert [check for check in engine.verifier.check(["plain"]) if not check.passed] == []
        assert named
        assert engine.backups.back_up("sqlite_backup", lab.folder, "shop", PLAIN).verified


def test_other_files_are_no_reason_for_a_view_to_fail(lab: SQLiteLab) -> None:
    """A temporary view may name an attached file; a stored one cannot, and says so itself."""
    lab.fill()
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
        connection.execute("ATTACH ':memory:' AS other")
        connection.execute("CREATE TABLE other.t (a)")
        with pytest.raises(sqlite3.OperationalError, match="cannot reference objects in database other"):
            connection.execute("CREATE VIEW main.crossing AS SELECT * FROM other.t")
        connection.execute("CREATE VIEW own AS SELECT * FROM main.orders")
    assert repaired(lab) == []
    assert lab.sql("SELECT count(*) FROM own") == [(8000,)]
