"""Nobody else gets in, and nobody is left outside."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from maintenance.engines.errors import Transient
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import (
    PLAIN,
    READER,
    SHORT,
    SMALL,
    WORKER,
    another_process,
    gets_in,
    plan,
    under_cut,
)


class TestTheCut:
    @pytest.mark.parametrize("journal_mode", ["delete", "wal"])
    def test_nothing_we_do_meanwhile_lets_another_process_in(self, tmp_path: Path, journal_mode: str) -> None:
        lab = SQLiteLab(tmp_path / "shop", journal_mode)
        lab.fill()
        with lab.engine() as engine, under_cut(engine) as gate:
            baseline = engine.verifier.fingerprint(None)
            first, second = (
                engine.backups.back_up(method, lab.folder, method, PLAIN) for method in engine.backups.methods
            )
            image = engine.backups.image(first, baseline, lab.folder, "image", PLAIN)
            assert first.snapshot == second.snapshot == baseline
            queries = engine.benchmark.queries(None)
            for act in (
                engine.sessions.facts,
                lambda: engine.diagnostics.diagnose(SMALL),
                lambda: engine.verifier.check(None),
                engine.verifier.definitions,
                lambda: engine.benchmark.query("SELECT 1"),
                lambda: engine.benchmark.measure(queries[0], 2),
                lambda: [engine.actions.perform(action, False) for action in plan(engine, "rebuild")],
                lambda: engine.rollback.swap(engine.rollback.restore_beside(image, first, PLAIN), gate, {}),
                lambda: engine.gate.differences(gate),
                engine.rollback.leftovers,
                engine.rollback.clean,
                engine.gate.read_state,
            ):
                act()
                assert not gets_in(lab)
        assert gets_in(lab)

    def test_a_file_tells_who_has_it_open_and_that_it_keeps_no_record(self, wal_lab: SQLiteLab) -> None:
        wal_lab.fill()
        with wal_lab.engine() as engine:
            with another_process(READER, str(wal_lab.path)) as reader:
                held, record = engine.sessions.writers()
            assert held.startswith(f"process {reader.pid} (")
            assert held.endswith("has the file open")
            assert engine.sessions.writers() == [record]
            assert "a file keeps no record of its writers" in record

    def test_a_process_that_keeps_the_file_open_is_named(self, wal_lab: SQLiteLab) -> None:
        wal_lab.fill()
        with another_process(READER, str(wal_lab.path)) as reader, wal_lab.engine(limits=SHORT) as engine:
            engine.lock.fence()
            with pytest.raises(Transient, match=f"process {reader.pid} "):
                engine.gate.cut(engine.gate.read_state(), {})
            assert engine.diagnostics.diagnose(SMALL).connections == 1
            engine.gate.open(engine.gate.read_state(), None)
        assert wal_lab.sql("SELECT count(*) FROM orders") == [(8000,)]

    @pytest.mark.parametrize("journal_mode", ["delete", "wal"])
    def test_the_journal_mode_and_the_rights_come_back(self, tmp_path: Path, journal_mode: str) -> None:
        lab = SQLiteLab(tmp_path / "shop", journal_mode)
        lab.fill()
        lab.path.chmod(0o640)
        with lab.engine() as engine:
            with under_cut(engine) as gate:
                other = {"delete": "wal", "wal": "delete"}[journal_mode]
                lab.under_cut(engine, f"PRAGMA journal_mode = {other}")
                lab.path.chmod(0o600)
                assert len(engine.gate.differences(gate)) == 4
            assert engine.gate.differences(gate) == []
        assert lab.sql("PRAGMA journal_mode") == [(journal_mode,)]
        assert lab.path.stat().st_mode & 0o777 == 0o640

    def test_a_killed_worker_leaves_nobody_locked_out_and_the_next_one_finds_its_marker(self, lab: SQLiteLab) -> None:
        lab.fill()
        with another_process(WORKER, str(lab.path), "7", "1") as worker:
            assert not gets_in(lab)
            worker.kill()
            worker.wait()
            assert gets_in(lab)
        with lab.engine(token=2) as engine:
            assert engine.lock.fence() == 0
            gate = engine.gate.read_state()
            assert engine.gate.differences(gate) == ["the marker shop.db.dbmaint is still there"]
            engine.gate.cut(gate, {})
            assert not gets_in(lab)
            engine.gate.open(gate, None)
        assert [path.name for path in lab.path.parent.iterdir()] == ["shop.db"]

    def test_a_successor_without_a_claim_removes_the_lock_file_of_the_dead(self, lab: SQLiteLab) -> None:
        lab.fill()
        lock = lab.path.with_name("shop.db.dbmaint-lock")
        with another_process(WORKER, str(lab.path), "7", "1") as worker:
            with lab.engine(token=2) as engine:
                engine.sessions.facts()
            assert lock.exists()  # its holder lives
            worker.kill()
            worker.wait()
            with lab.engine(target=8) as engine:
                engine.sessions.facts()
            assert lock.exists()  # of another run target
            with lab.engine(token=2) as engine:
                engine.sessions.facts()
        assert not lock.exists()

    def test_a_paused_older_worker_is_ended_before_it_can_wake(self, lab: SQLiteLab) -> None:
        lab.fill()
        with another_process(WORKER, str(lab.path), "7", "1") as worker, lab.engine(token=2) as engine:
            os.kill(worker.pid, signal.SIGSTOP)
            assert engine.lock.fence() == 1
            assert worker.wait(5) == -signal.SIGKILL
            engine.gate.cut(engine.gate.read_state(), {})

    @pytest.mark.parametrize(("target", "token"), [(8, 1), (7, 2), (7, 3)])
    def test_any_other_maintenance_is_left_alone(self, lab: SQLiteLab, target: int, token: int) -> None:
        with (
            another_process(WORKER, str(lab.path), str(target), str(token)) as worker,
            lab.engine(token=2, limits=SHORT) as engine,
        ):
            with pytest.raises(Transient, match=f"run target {target} in process {worker.pid} "):
                engine.lock.fence()
            assert worker.poll() is None

    def test_a_process_that_only_has_the_number_of_the_older_worker_is_not_killed(self, lab: SQLiteLab) -> None:
        with another_process(WORKER, str(lab.path), "7", "1") as worker, lab.engine(token=2, limits=SHORT) as engine:
            lock = lab.path.with_name("shop.db.dbmaint-lock")
            signed = json.loads(lock.read_text())
            lock.write_text(json.dumps({**signed, "started": signed["started"] - 1}))
            with pytest.raises(Transient):
                engine.lock.fence()
            assert worker.poll() is None

    def test_two_targets_of_one_process_shut_each_other_out(self, lab: SQLiteLab) -> None:
        with lab.engine(target=1) as first, lab.engine(target=2, limits=SHORT) as second:
            first.lock.fence()
            first.lock.fence()
            with pytest.raises(Transient, match="run target 1 "):
                second.lock.fence()
            first.close()
            assert second.lock.fence() == 0
