"""The queue with real workers: kill -9 of one, and nobody has to do anything."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import Console
from tests.acceptance.preloaded import Command
from tests.acceptance.test_maintain import ROWS, assert_open
from tests.engines.lab import Lab

FAST = {"DBMAINT_LEASE_SECONDS": "4", "DBMAINT_SWEEP_SECONDS": "1", "DBMAINT_WORKERS": "2"}


@contextmanager
def cluster(console: Console, **environment: str) -> Iterator[Command]:
    with (
        open(console.home / "worker.log", "ab") as log,
        console.preloaded.start(["work"], console.environment(**{**FAST, **environment}), log, log) as process,
    ):
        try:
            yield process
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in children:
                if child.is_running():
                    child.kill()


def launch(console: Console, *args: str) -> dict[str, Any]:
    done = console.run(
        "maintain", "--type", "rebuild", "--severity", "high", "--reason", "a test", "--json", *args, **FAST
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def told(console: Console, run: str) -> dict[str, Any]:
    code = (
        "import json; from maintenance.models import MaintenanceRun; from maintenance.results.outcome import outcome; "
        f"print(json.dumps(outcome(MaintenanceRun.objects.get(pk={int(run)})), default=str))"
    )
    done = console.run("shell", "--no-imports", "-v0", "-c", code)
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


def until(console: Console, run: str, seconds: float) -> dict[str, Any]:
    over = time.monotonic() + seconds
    while True:
        found = told(console, run)
        if found["finished_at"]:
            return found
        assert time.monotonic() < over, found["targets"][0]["steps"][-3:]
        time.sleep(0.3)


def worker_of(console: Console, nodes: str) -> int:
    """The process that holds the run target, as the journal says, once it is at one of these nodes."""
    over = time.monotonic() + 180
    while time.monotonic() < over:
        with sqlite3.connect(console.home / "control.sqlite3", timeout=10) as control:
            row = control.execute("SELECT worker, node FROM run_target").fetchone()
        control.close()
        if row and row[1] in nodes:
            return int(row[0].split(":")[1])
        time.sleep(0.02)
    raise AssertionError("the work never began")


@pytest.mark.every(3, 2)
def test_several_databases_go_on_in_parallel_by_real_workers(lab: Lab, console: Console, tmp_path: Path) -> None:
    from tests.engines.lab_sqlite import SQLiteLab

    lab.fill()
    console.register(lab, "shop")
    with SQLiteLab.opened(tmp_path) as server:
        other = server.fresh()
        other.fill()
        console.register(other, "kiosk")
        with cluster(console):
            found = until(console, launch(console, "--all")["id"], 300)
    assert found["status"] == "succeeded", found["ended_because"]
    assert {t["database"]: t["status"] for t in found["targets"]} == {"kiosk": "succeeded", "shop": "succeeded"}
    begun = [t["started_at"] for t in found["targets"]]
    ended = [t["finished_at"] for t in found["targets"]]
    assert max(begun) < min(ended)
    assert Path(found["report_pdf"]).is_file()


@pytest.mark.every(3, 1)
def test_after_kill_9_of_the_worker_the_sweep_goes_on_by_itself(lab: Lab, console: Console) -> None:
    lab.fill()
    before = lab.sql(ROWS)
    console.register(lab, "shop", "load_seconds=5")
    with cluster(console):
        run = launch(console, "--database", "shop")["id"]
        os.kill(worker_of(console, "GHI"), signal.SIGKILL)
        killed = time.time()
        found = until(console, run, 300)
    assert found["status"] == "succeeded", found["ended_because"]
    again = [s for s in found["targets"][0]["steps"] if s["attempt"] > 1 or s["part"] == "cut"]
    assert again
    assert time.time() - killed < 60
    assert lab.sql(ROWS) == before
    assert_open(lab)


@pytest.mark.rare
@pytest.mark.parametrize("how", [signal.SIGSTOP])
def test_a_paused_worker_wakes_up_beside_its_successor_and_does_nothing_more(
    lab: Lab, console: Console, how: signal.Signals
) -> None:
    lab.fill()
    before = lab.sql(ROWS)
    console.register(lab, "shop", "load_seconds=5")
    with cluster(console):
        run = launch(console, "--database", "shop")["id"]
        # In the load test, where it hardly writes: stopped inside a transaction of a control database that is a
        # SQLite file it would keep everybody else from writing there (docs/safety.md).
        paused = worker_of(console, "I")
        time.sleep(1)
        os.kill(paused, how)
        try:
            found = until(console, run, 300)
        finally:
            if psutil.pid_exists(paused):
                os.kill(paused, signal.SIGCONT)
        lines = len(found["targets"][0]["steps"])
        time.sleep(3)
        after = told(console, run)
    assert found["status"] == "succeeded", found["ended_because"]
    assert len(after["targets"][0]["steps"]) == lines
    assert after["status"] == "succeeded"
    assert lab.sql(ROWS) == before
    assert_open(lab)


def one_server_is_enough(lab: Lab) -> None:
    if lab.url.get_backend_name() != "postgresql":
        pytest.skip("the same for every product")


@pytest.mark.rare
def test_a_closed_database_does_not_wait_until_a_busy_worker_is_free(
    lab: Lab, console: Console, tmp_path: Path
) -> None:
    from tests.engines.lab_sqlite import SQLiteLab

    one_server_is_enough(lab)
    lab.fill()
    before = lab.sql(ROWS)
    console.configure(exclusive_scope="database")
    console.register(lab, "shop")
    with SQLiteLab.opened(tmp_path) as server:
        kiosk = server.fresh()
        kiosk.fill()
        console.register(kiosk, "kiosk", "cut_seconds=300")
        with cluster(console, DBMAINT_WORKERS="1"), closing(sqlite3.connect(kiosk.path)) as holder:
            # Whoever has the file in use holds up the cut, and so the worker.
            holder.execute("BEGIN")
            holder.execute("SELECT count(*) FROM sqlite_master").fetchall()
            long = launch(console, "--database", "kiosk")["id"]
            worker_of(console, "FG")
            code, _ = console.maintain("rebuild", "--database", "shop", DBMAINT_CRASH_AT="action.started", **FAST)
            assert code == -signal.SIGKILL
            died = time.monotonic()
            orphan = str(int(long) + 1)
            assert until(console, orphan, 60)["status"] == "succeeded"
            assert time.monotonic() - died < 60
            assert told(console, long)["finished_at"] is None, "the only ordinary worker was busy all the time"
    assert lab.sql(ROWS) == before
    assert_open(lab)


def test_a_cluster_that_is_told_to_end_leaves_its_run_to_the_next_one(lab: Lab, console: Console) -> None:
    one_server_is_enough(lab)
    lab.fill()
    before = lab.sql(ROWS)
    console.register(lab, "shop", "load_seconds=8")
    with cluster(console) as first:
        run = launch(console, "--database", "shop")["id"]
        worker_of(console, "I")
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
    target = told(console, run)["targets"][0]
    assert target["status"] == "running"
    with cluster(console):
        found = until(console, run, 300)
    assert found["status"] == "succeeded", found["ended_because"]
    assert lab.sql(ROWS) == before
    assert_open(lab)
