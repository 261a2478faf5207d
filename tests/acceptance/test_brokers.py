"""Several workers over one control database on PostgreSQL, with its own queue and with Redis."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo.ports import free_port
from maintenance.engines.programs import CommandFailed
from tests.acceptance.conftest import Console
from tests.acceptance.preloaded import Preloaded
from tests.acceptance.test_worker import cluster, launch, until
from tests.engines.conftest import short_folder
from tests.engines.lab_sqlite import SQLiteLab

if TYPE_CHECKING:
    from tests.engines.lab_postgresql import PostgreSQLServer


class Spread(Console):
    """A console whose control database, and with `broker` its queue, are servers that several hosts reach."""

    database = ""
    broker = ""

    def environment(self, **more: str) -> dict[str, str]:
        there = {"DBMAINT_DATABASE_URL": self.database, "DBMAINT_BROKER": self.broker, "DBMAINT_WORKERS": "1"}
        return {**super().environment(), **more, **there}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    """A private PostgreSQL server for control databases."""
    folder = short_folder()
    try:
        from tests.engines.lab_postgresql import PostgreSQLLab

        opening = PostgreSQLLab.opened(folder)
        server = opening.__enter__()
    except (FileNotFoundError, CommandFailed) as error:
        pytest.skip(f"no postgresql here: {error}")
    try:
        yield server
    finally:
        opening.__exit__(None, None, None)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def control(server: PostgreSQLServer) -> str:
    """The URL of an empty database: the checkpoints of an audit chain lie in the home of one console alone."""
    return server.fresh().url.render_as_string(hide_password=False)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server here")
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    over = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < over
            time.sleep(0.1)
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(10)


@pytest.mark.rare
@pytest.mark.parametrize("broker", ["postgresql", "redis"])
def test_two_clusters_share_the_work(
    broker: str, control: str, preloaded: Preloaded, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    home = short_folder()
    console = Spread(home, preloaded)
    console.database = control
    console.configure()
    console.broker = request.getfixturevalue("redis") if broker == "redis" else ""
    done = console.run("migrate", "-v0")
    assert done.returncode == 0, done.stderr
    with SQLiteLab.opened(tmp_path) as targets:
        for name in ("one", "two", "three", "four"):  # a busy cluster takes two more messages into its hands
            lab = targets.fresh()
            lab.fill()
            console.register(lab, name)
        with cluster(console), cluster(console):
            run = launch(console, "--all")["id"]
            found = until(console, run, 300)
    assert found["status"] == "succeeded", found["ended_because"]
    # Who took a target first, not who ended it: with this lease of 4 s a worker that gets no processor time for
    # so long loses its target to a process that the sweep starts for it beside the workers.
    code = (
        "from maintenance.models import AuditEntry; "
        f"claims = AuditEntry.objects.filter(operation='target.claimed', object__endswith=' in run {run}'); "
        "print(len({c.actor for c in claims if c.after['token'] == 1}))"
    )
    workers = console.run("shell", "--no-imports", "-v0", "-c", code)
    assert workers.stdout.strip() == "2", f"each cluster has one worker, and both took part: {workers.stderr}"
    checked = console.run("verify_audit")
    assert checked.returncode == 0, checked.stderr
    queued = console.run(
        "shell", "--no-imports", "-v0", "-c", "from django_q.models import OrmQ; print(OrmQ.objects.count())"
    )
    assert queued.stdout.strip() == "0"
    shutil.rmtree(home, ignore_errors=True)
