"""Limits, locks and interruption."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

import pytest

from maintenance.engines.errors import EngineError, Transient
from maintenance.engines.values import Limits
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import (
    SMALL,
    another_process,
    content,
    plan,
    under_cut,
)

KEEPER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None); connection.execute("BEGIN EXCLUSIVE")
print("ready", flush=True); sys.stdin.read()
"""


class TestLimits:
    def test_a_statement_ends_at_its_limit_and_says_so(self, lab: SQLiteLab) -> None:
        lab.fill()
        with lab.engine(limits=Limits(statement_seconds=0.3)) as engine, pytest.raises(Transient, match="longer than"):
            engine.benchmark.query("SELECT count(*) FROM orders a, orders b, orders c")

    def test_a_locked_file_is_waited_for_and_then_told(self, lab: SQLiteLab) -> None:
        lab.fill()
        with closing(sqlite3.connect(lab.path, isolation_level=None)) as client:
            client.execute("BEGIN EXCLUSIVE")
            with lab.engine(limits=Limits(lock_seconds=0.3)) as engine, pytest.raises(Transient, match="locked"):
                engine.verifier.fingerprint(None)

    def test_who_keeps_the_file_locked_is_named_whatever_is_asked_of_it(self, lab: SQLiteLab) -> None:
        lab.fill()
        with another_process(KEEPER, str(lab.path)) as keeper, lab.engine(limits=Limits(lock_seconds=0.3)) as engine:
            for ask in (
                lambda: engine.verifier.fingerprint(None),
                lambda: engine.diagnostics.diagnose(SMALL),
                engine.verifier.definitions,
            ):
                with pytest.raises(Transient, match=f"locked.*; in use by process {keeper.pid} "):
                    ask()

    def test_a_rewrite_is_interrupted_and_the_file_stays_as_it_was(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        ended: list[BaseException] = []
        with lab.engine() as engine:
            actions = [action for action in plan(engine, "rebuild") if action.kind == "vacuum"]

            def work() -> None:
                try:
                    while True:
                        engine.actions.perform(actions[0], False)
                except EngineError as error:
                    ended.append(error)

            with under_cut(engine):
                worker = threading.Thread(target=work)
                worker.start()
                time.sleep(0.1)
                engine.interrupt()
                worker.join(5)
                assert not worker.is_alive()
        assert len(ended) == 1
        assert content(lab) == before
