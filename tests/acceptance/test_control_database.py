"""The control database goes away in the midst of an outage: for some seconds, and for good."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from maintenance.engines.programs import CommandFailed
from maintenance.models import Node
from tests.acceptance.conftest import Console
from tests.acceptance.preloaded import Command, Preloaded
from tests.acceptance.test_brokers import Spread
from tests.acceptance.test_maintain import ROWS, assert_open
from tests.acceptance.test_worker import FAST, one_server_is_enough
from tests.engines.conftest import short_folder
from tests.engines.lab import Lab
from tests.engines.working import small_disk

CLOSED = (Node.MAINTAIN, Node.VERIFY, Node.BENCHMARK)
"""Nodes of the procedure in which nobody but the console gets in."""


class Begun(Console):
    """A console in whose outage something happens to the control database."""

    def begin(self, **environment: str) -> Command:
        words = ["--type", "rebuild", "--database", "shop", "--severity", "high", "--reason", "a test"]
        return self.start("maintain", *words, "--foreground", "--json", **FAST, **environment)

    def until_closed(self) -> None:
        over = time.monotonic() + 180
        with closing(self.control()) as control:
            cursor = control.cursor()
            while time.monotonic() < over:
                cursor.execute("SELECT node FROM run_target WHERE finished_at IS NULL")
                row = cursor.fetchone()
                if row and row[0] in CLOSED:
                    return
                time.sleep(0.02)
        raise AssertionError("the outage never began")

    def control(self) -> Any:
        """A connection to the control database that sees what is committed."""
        return sqlite3.connect(self.home / "control.sqlite3", isolation_level=None)


class Away(Begun, Spread):
    """Its control database is a server that can be taken away."""

    server: Any

    def control(self) -> Any:
        connection = psycopg2.connect(self.database)
        connection.autocommit = True
        return connection


@pytest.fixture(scope="module")
def away(preloaded: Preloaded) -> Iterator[Away]:
    folder = short_folder()
    try:
        from tests.engines.lab_postgresql import PostgreSQLLab

        opening = PostgreSQLLab.opened(folder)
        server = opening.__enter__()
    except (FileNotFoundError, CommandFailed) as error:
        pytest.skip(f"no postgresql here: {error}")
    try:
        console = Away(short_folder(), preloaded)
        console.database = server.fresh().url.render_as_string(hide_password=False)
        console.server = server.server
        console.configure()
        migrated = console.run("migrate", "-v0")
        assert migrated.returncode == 0, migrated.stderr
        yield console
        shutil.rmtree(console.home, ignore_errors=True)
    finally:
        opening.__exit__(None, None, None)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.every(3, 2)
def test_gone_for_some_seconds_the_worker_waits_for_it_and_goes_on(lab: Lab, away: Away) -> None:
    one_server_is_enough(lab)
    lab.fill()
    before = lab.sql(ROWS)
    away.register(lab, "shop", "load_seconds=2")
    with away.begin() as worker:
        away.until_closed()
        away.server.stop("immediate")
        time.sleep(3)
        assert worker.poll() is None
        away.server.start()
        out, said = worker.communicate(timeout=600)
    assert out, said
    told = json.loads(out)
    assert told["status"] == "succeeded", (told["ended_because"], said)
    assert "The control database does not answer" in said
    assert lab.sql(ROWS) == before
    assert_open(lab)
    checked = away.run("verify_audit")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.every(3, 1)
def test_gone_for_good_the_black_box_alone_brings_service_back(lab: Lab, away: Away) -> None:
    one_server_is_enough(lab)
    lab.fill()
    before = lab.sql(ROWS)
    with lab.engine(target=99) as engine:
        gate = engine.gate.read_state()
    # Without the dead man's switch: nothing but `release` may open it.
    away.register(lab, "shop", "load_seconds=2", "switch_seconds=0")
    with away.begin(DBMAINT_PATIENCE_SECONDS="2") as worker:
        away.until_closed()
        away.server.stop("immediate")
        _, said = worker.communicate(timeout=600)
    assert worker.returncode != 0, said
    with pytest.raises(Exception, match=lab.name):  # type: ignore[attr-defined]
        assert_open(lab)
    done = away.run("release", "shop")
    assert done.returncode == 0, done.stderr
    assert "The control database does not answer, going on without it" in done.stderr
    with lab.engine(target=99) as engine:
        assert engine.gate.differences(gate) == []
    assert lab.sql(ROWS) == before
    assert_open(lab)


@pytest.mark.rare
def test_no_room_for_the_control_database_is_waited_for_too(
    lab: Lab, migrated: Path, preloaded: Preloaded, tmp_path: Path
) -> None:
    one_server_is_enough(lab)
    lab.fill()
    before = lab.sql(ROWS)
    with small_disk(tmp_path, "16m") as home:
        shutil.copytree(migrated, home, dirs_exist_ok=True)
        console = Begun(home, preloaded)
        console.register(lab, "shop", "load_seconds=2")
        with console.begin() as worker:
            console.until_closed()
            filler = home / "filler"
            written = fill(filler)
            time.sleep(4)
            assert worker.poll() is None
            filler.unlink()
            out, said = worker.communicate(timeout=600)
        assert written > 1_000_000
        assert out, said
        assert json.loads(out)["status"] == "succeeded", said
        assert "database or disk is full" in said
        checked = console.run("verify_audit")
        assert checked.returncode == 0, checked.stderr
    assert lab.sql(ROWS) == before
    assert_open(lab)


def fill(path: Path) -> int:
    """Bytes written until there was no room for more."""
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))
    return path.stat().st_size
