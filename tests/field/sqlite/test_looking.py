"""Looking at a file changes nothing of it, nor of what lies beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from maintenance.engines.errors import EngineError, Unable
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import PLAIN, SMALL, plan, under_cut

DIES = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for pragma in ("journal_mode = wal", "wal_autocheckpoint = 0"):
    connection.execute(f"PRAGMA {pragma}")
for statement in sys.argv[2:]:
    connection.execute(statement)
os._exit(0)
"""


def died_in(path: Path, *statements: str) -> None:
    """A program that wrote into the log and was killed."""
    subprocess.run([sys.executable, "-c", DIES, str(path), *statements], check=True)


def folder(path: Path) -> dict[str, bytes]:
    return {name: path.with_name(name).read_bytes() for name in os.listdir(path.parent)}


def looked_at(lab: SQLiteLab) -> list[str]:
    """What diagnose finds, after everything else that is done before the cut."""
    with lab.engine() as engine:
        engine.sessions.facts()
        with suppress(EngineError):
            engine.sessions.resolve(["orders"])
        engine.gate.read_state()
        for method in engine.backups.methods:
            with suppress(EngineError):
                engine.backups.back_up(method, lab.folder, method, PLAIN)
        engine.verifier.fingerprint(None)
        return [finding.code for finding in engine.diagnostics.diagnose(SMALL).findings]


@pytest.fixture
def lab(tmp_path: Path) -> SQLiteLab:
    made = SQLiteLab(tmp_path / "shop", "wal")
    made.fill()
    return made


OTHERS = [
    ("CREATE TABLE strange (a)", "INSERT INTO strange VALUES (zeroblob(5000))"),
    ("CREATE TABLE orders (a)",),
    ("PRAGMA user_version = 9",),
    ("CREATE TABLE x (a)", "CREATE TABLE y (a)", "CREATE INDEX z ON y (a)", "DROP TABLE x"),
]


@pytest.mark.parametrize("statements", OTHERS)
@pytest.mark.parametrize("page_size", [4096, 1024])
def test_the_log_of_another_database_is_told_and_left_alone(
    lab: SQLiteLab, tmp_path: Path, statements: tuple[str, ...], page_size: int
) -> None:
    other = tmp_path / "other.db"
    died_in(other, f"PRAGMA page_size = {page_size}", *statements)
    shutil.copy(f"{other}-wal", f"{lab.path}-wal")
    before = folder(lab.path)
    assert "foreign_log" in looked_at(lab)
    with lab.engine() as engine:
        with pytest.raises(Unable, match="another database"):
            plan(engine, "rebuild")
        engine.lock.fence()
        with pytest.raises(Unable, match="another database"):
            engine.gate.cut(engine.gate.read_state(), {})
        engine.rollback.clean()
    assert folder(lab.path) == before
    os.unlink(f"{lab.path}-wal")
    assert lab.sql("SELECT count(*) FROM orders") == [(8000,)]


@pytest.mark.parametrize("spoilt", [0, 8, 20, 30])
def test_a_log_whose_head_is_damaged_is_told_and_left_alone(lab: SQLiteLab, spoilt: int) -> None:
    died_in(lab.path, "DELETE FROM orders WHERE id % 2")
    log = Path(f"{lab.path}-wal")
    content = bytearray(log.read_bytes())
    content[spoilt] ^= 0xFF
    log.write_bytes(content)
    before = folder(lab.path)
    assert "foreign_log" in looked_at(lab)
    assert folder(lab.path) == before


@pytest.mark.parametrize(
    "statements",
    [
        ("DELETE FROM orders WHERE id % 2",),
        ("CREATE TABLE more (a)", "INSERT INTO more VALUES (1)"),
        ("DROP TABLE orders", "DROP TABLE customers", "CREATE TABLE other (a)"),
        ("ALTER TABLE orders ADD COLUMN extra",),
    ],
)
def test_the_own_log_of_a_killed_program_is_read_and_kept(lab: SQLiteLab, statements: tuple[str, ...]) -> None:
    died_in(lab.path, *statements)
    before = folder(lab.path)
    with lab.engine() as engine:
        seen = engine.verifier.fingerprint(None)
    codes = looked_at(lab)
    assert folder(lab.path) == before
    if "DROP" not in statements[0]:
        assert "foreign_log" not in codes
        with lab.engine() as engine, under_cut(engine):
            assert engine.verifier.fingerprint(None) == seen
            assert Path(f"{engine.file.sides.before}-wal").read_bytes() == before["shop.db-wal"]  # type: ignore[attr-defined]
            engine.rollback.clean()
        assert {*os.listdir(lab.path.parent)} <= {"shop.db", "shop.db-shm"}


def test_half_a_transaction_is_read_as_rolled_back_and_kept(tmp_path: Path) -> None:
    lab = SQLiteLab(tmp_path / "shop")
    lab.fill()
    code = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN")
connection.execute("UPDATE orders SET note = 'half'")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code, str(lab.path)], check=True)
    before = folder(lab.path)
    assert before["shop.db-journal"]
    with lab.engine() as engine:
        assert engine.verifier.fingerprint(["orders"])["orders"].rows == 8000
    looked_at(lab)
    assert folder(lab.path) == before


def test_a_header_that_claims_terabytes_costs_no_room(tmp_path: Path) -> None:
    lab = SQLiteLab(tmp_path / "shop")
    lab.fill()
    with closing(sqlite3.connect(lab.path)) as connection:
        before = connection.execute("SELECT * FROM orders ORDER BY id").fetchall()
    size = lab.path.stat().st_size
    lab.write(28, (0xFFFFFFFE).to_bytes(4, "big"))
    looked_at(lab)
    assert lab.path.stat().st_size == size
    with lab.engine() as engine:
        actions = plan(engine, "repair", True)
        with under_cut(engine):
            for action in actions:
                engine.actions.perform(action, True)
            assert [check for check in engine.verifier.check(None) if not check.passed] == []
    assert lab.path.stat().st_size < 2 * size
    with closing(sqlite3.connect(lab.path)) as connection:
        assert connection.execute("SELECT * FROM orders ORDER BY id").fetchall() == before
