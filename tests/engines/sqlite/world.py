"""What the tests of SQLite share: other processes, and a whole repair."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maintenance.engines.archive import Seal
from maintenance.engines.base import Engine
from maintenance.engines.values import Action, Json, Limits, Loss, Thresholds
from tests.engines.lab_sqlite import SQLiteLab

ROOT = Path(__file__).resolve().parents[3]
SMALL = Thresholds(minimum_bytes=10_000)
SHORT = Limits(lock_seconds=1, cut_seconds=1)
PLAIN = Seal()


@contextmanager
def under_cut(engine: Engine) -> Iterator[Json]:
    engine.lock.fence()
    gate = engine.gate.read_state()
    engine.gate.cut(gate, {})
    try:
        yield gate
    finally:
        engine.clear_interrupt()
        engine.gate.open(gate, None)


@contextmanager
def another_process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Python code in a process of its own; it is ready when it has printed a line."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1]); connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
print("ready", flush=True); sys.stdin.read()
"""

WORKER = """
import sys, time
from sqlalchemy import URL
from maintenance.engines import open_engine
from maintenance.engines.values import Limits, Tag
engine = open_engine(URL.create("sqlite", database=sys.argv[1]), Tag(int(sys.argv[2]), int(sys.argv[3])), Limits())
engine.lock.fence(); engine.gate.cut(engine.gate.read_state(), {})
print("ready", flush=True)
while True: time.sleep(1)
"""


def gets_in(lab: SQLiteLab) -> bool:
    """Asked by another process: locks of one process do not bind the process itself."""
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT count(*) FROM sqlite_master')"
    return subprocess.run([sys.executable, "-c", code, str(lab.path)], capture_output=True).returncode == 0


def repaired(lab: SQLiteLab, allow_data_loss: bool = False) -> list[Loss]:
    """The whole repair of a sick file; afterwards every check passes."""
    losses: list[Loss] = []
    with lab.engine() as engine:
        found = engine.diagnostics.diagnose(SMALL)
        with under_cut(engine):
            for action in engine.planner.plan("repair", found, SMALL, None, allow_data_loss):
                losses += engine.actions.perform(action, allow_data_loss).losses
            assert [check for check in engine.verifier.check(None) if not check.passed] == []
        engine.rollback.clean()
    return losses


def perform_all(engine: Engine, actions: list[Action], allow_data_loss: bool = False) -> list[Loss]:
    return [loss for action in actions for loss in engine.actions.perform(action, allow_data_loss).losses]


def content(lab: SQLiteLab) -> list[tuple[object, ...]]:
    return lab.sql("SELECT id, customer_id, status, note FROM orders ORDER BY id")


def plan(engine: Engine, kind: str, allow_data_loss: bool = False) -> list[Action]:
    assert kind in ("repair", "optimize", "rebuild")
    return engine.planner.plan(kind, engine.diagnostics.diagnose(SMALL), SMALL, None, allow_data_loss)  # type: ignore[arg-type]
