"""One maintenance at a time, and a killed worker's sessions end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import MySQLdb
import pytest

from maintenance.engines.errors import Transient, Unreachable
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import MARKER, action, engine_of, running


class TestWhoseTurn:
    def test_a_later_claim_ends_the_sessions_of_a_killed_worker(self, lab: MariaDBLab) -> None:
        lab.fill()
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, lab.url.render_as_string(hide_password=False)],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"working\n"
        until = time.monotonic() + 60
        while not running(lab, "SLEEP(61)") and time.monotonic() < until:
            time.sleep(0.05)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
        assert running(lab, "SLEEP(61)") == 1
        with engine_of(lab, token=2) as engine:
            assert engine.lock.fence() >= 1
            assert engine.rollback.leftovers() == []
        assert running(lab, "SLEEP(61)") == 0

    def test_a_slow_worker_can_do_nothing_after_another_took_over(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab, token=1) as slow, engine_of(lab, token=2) as engine:
            slow.lock.fence()
            assert engine.lock.fence() == 1
            with pytest.raises(Transient, match="another maintenance"):
                slow.actions.perform(action("orders", "rebuild"), False)
            assert engine.actions.perform(action("orders", "rebuild"), False).bytes_after

    def test_another_run_on_the_same_database_waits(self, lab: MariaDBLab) -> None:
        with engine_of(lab, target=7) as first, engine_of(lab, target=8) as second:
            first.lock.fence()
            assert first.lock.fence() == 0
            with pytest.raises(Transient):
                second.lock.fence()
            first.close()
            assert second.lock.fence() == 0

    def test_work_goes_on_after_the_server_restarted(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            engine.lock.fence()
            gate = engine.gate.read_state()
            engine.gate.cut(gate, MARKER)
            lab.server.kill()
            with pytest.raises(Unreachable):
                engine.verifier.fingerprint(None)
            lab.server.start()
            with pytest.raises(MySQLdb.Error):
                lab.app_connection()
            assert engine.lock.fence() == 0
            assert engine.gate.read_state() == gate
            engine.gate.cut(gate, MARKER)
            assert engine.verifier.fingerprint(["orders"])["orders"].rows == 8000
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []


WORKER = """
import sys
from sqlalchemy import make_url
from maintenance.engines import open_engine
from maintenance.engines.values import Limits, Tag
engine = open_engine(make_url(sys.argv[1]), Tag(7, 1), Limits())
engine.lock.fence()
print("working", flush=True)
engine.benchmark.query("SELECT SLEEP(61)")
"""
