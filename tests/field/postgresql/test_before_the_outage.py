"""Servers that take no writes or wait for a standby that is gone, and lines that are lost in the midst of work."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest

from maintenance.engines import open_engine
from maintenance.engines.errors import EngineError, Transient
from maintenance.engines.values import Limits, Tag, Thresholds
from tests.engines.conftest import short_folder
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.conftest import lab, server
from tests.engines.postgresql.world import MARKER, PLAIN, action, engine, owned_by, wait_until

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


SEGMENT = 8192 * 4 * 32
"""Transactions whose states lie in one file of pg_xact, which is SEGMENT / 4 bytes long."""


def past_the_last_number(lab: PostgreSQLLab) -> None:
    """Let the server run out of transaction numbers, up to those that it keeps for a person in single-user mode."""
    server = lab.server.server
    [(oldest,)] = lab.sql("SELECT min(datfrozenxid::text::bigint) FROM pg_database")
    next_ = int(str(oldest)) + 2**31 - 2_000_000
    server.stop()
    states = server.data / "pg_xact" / f"{next_ // SEGMENT:04X}"
    states.write_bytes(bytes(SEGMENT // 4))
    owner = server.data.stat()
    os.chown(states, owner.st_uid, owner.st_gid)
    server._run("pg_resetwal", "-f", "-x", str(next_), "-D", str(server.data))
    server.start()


def test_a_server_past_its_last_transaction_fails_before_the_outage_and_is_named() -> None:
    folder = short_folder()
    try:
        with PostgreSQLServer.opened(folder) as alone, alone.lent() as lab:
            lab.fill()
            # Without it the server's own emergency cleaning would be done in a moment.
            lab.sql("BEGIN; INSERT INTO customers (name) VALUES ('old'); PREPARE TRANSACTION 'old'")
            past_the_last_number(lab)
            with engine(lab) as made:
                made.lock.fence()
                found = {f.code: f.severity for f in made.diagnostics.diagnose(Thresholds()).findings}
                assert found["wraparound"] == "critical"
                gate = made.gate.read_state()
                for method in made.backups.methods:
                    with pytest.raises(EngineError, match="not accepting commands to avoid wraparound"):
                        made.backups.back_up(method, lab.folder, method, PLAIN)
                assert made.gate.differences(gate) == []
                assert made.rollback.leftovers() == []
            with lab.application() as client:
                assert client.execute("SELECT count(*) FROM customers") == [(2000,)]
    finally:
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


def test_event_triggers_that_forbid_ddl_are_named_to_an_account_that_they_hold_for(lab: PostgreSQLLab) -> None:
    lab.fill()
    owned_by(lab, "shop_owner")
    lab.sql("CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no DDL here'; END $$")
    lab.sql("CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no()")
    lab.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'orders_status'::regclass")
    dropping = action("drop_index", "public.orders_status")
    with engine(lab, user="shop_owner") as made:
        found = [f for f in made.diagnostics.diagnose(Thresholds()).findings if f.code == "event_trigger"]
        assert ["no_ddl of postgres" in f.evidence for f in found] == [True]
        assert [f.severity for f in found] == ["high"]
        with pytest.raises(EngineError, match="no DDL here"):
            made.actions.perform(dropping, False)
    with engine(lab) as made:
        found = [f for f in made.diagnostics.diagnose(Thresholds()).findings if f.code == "event_trigger"]
        assert [f.severity for f in found] == ["low"]
        made.actions.perform(dropping, False)
