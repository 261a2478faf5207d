"""Servers that take no writes or wait for a standby that is gone, and lines that are lost in the midst of work."""

from __future__ import annotations

import shutil
import threading
import time

import pytest

from maintenance.engines import open_engine
from maintenance.engines.errors import EngineError, Transient
from maintenance.engines.values import Limits, Tag
from tests.engines.conftest import short_folder
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.conftest import lab, server
from tests.engines.postgresql.world import MARKER, PLAIN, action, engine, wait_until

__all__ = ["lab", "server"]


def test_a_server_that_takes_no_writes_fails_before_the_outage(lab: PostgreSQLLab, server: PostgreSQLServer) -> None:
    lab.fill()
    folder = short_folder()
    standby = server.follower(folder / "standby", {})
    standby.start()
    try:
        reads_only = open_engine(lab.url.set(port=standby.port), Tag(7, 1), Limits())
        for method in reads_only.backups.methods:
            with pytest.raises(EngineError, match="during recovery"):
                reads_only.backups.back_up(method, lab.folder, method, PLAIN)
        reads_only.close()
    finally:
        standby.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def test_a_standby_that_is_gone_holds_up_neither_the_cut_nor_the_opening(
    lab: PostgreSQLLab, server: PostgreSQLServer
) -> None:
    lab.fill()
    server.run("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'gone'")
    server.run("postgres", "SELECT pg_reload_conf()")
    try:
        begun = time.monotonic()
        with engine(lab) as made:
            made.lock.fence()
            gate = made.gate.read_state()
            made.gate.cut(gate, MARKER)
            made.actions.perform(action("vacuum_full"), False)
            made.gate.open(gate, None)
            assert made.gate.differences(gate) == []
        assert time.monotonic() - begun < 60
    finally:
        server.run("postgres", "ALTER SYSTEM RESET synchronous_standby_names")
        server.run("postgres", "SELECT pg_reload_conf()")


def test_a_session_that_is_ended_in_the_midst_of_its_work_is_a_transient_error(
    lab: PostgreSQLLab, server: PostgreSQLServer
) -> None:
    lab.fill()
    lab.sql("CREATE TABLE large AS SELECT i, repeat(md5(i::text), 30) AS t FROM generate_series(1, 200000) i")
    busy = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE query LIKE 'VACUUM (FULL)%' AND state = 'active'"""
    ended = threading.Thread(target=lambda: wait_until("it works", lambda: server.run("postgres", busy) != [(0,)]))
    with engine(lab) as made:
        ended.start()
        with pytest.raises(Transient):
            made.actions.perform(action("vacuum_full", "public.large"), False)
        ended.join()
        made.actions.perform(action("vacuum_full", "public.large"), False)
