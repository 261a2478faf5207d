"""Who may come in: everybody out, and everything back exactly as it was."""

from __future__ import annotations

import socket
import time
from typing import Any, cast

import MySQLdb
import pytest

from maintenance.engines.errors import EngineError, Transient
from maintenance.engines.mysql import access_gate
from maintenance.engines.mysql.connection import Session
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import MARKER, background, crash_everywhere, engine_of, event_states, shown


class TestGate:
    def test_a_client_that_stalls_in_the_middle_of_logging_in_is_ended(self, lab: MariaDBLab) -> None:
        stalled = socket.create_connection(("127.0.0.1", lab.server.port))
        stalled.settimeout(5)
        stalled.recv(4096)
        with engine_of(lab) as engine:
            gate = engine.gate.read_state()
            engine.gate.cut(gate, MARKER)
            try:
                try:
                    stalled.sendall(b"\x01\x00\x00\x01\x00")
                    answer = stalled.recv(4096)
                except OSError:
                    answer = b""
                assert answer == b"" or b"killed" in answer.lower()
            finally:
                stalled.close()
                engine.gate.open(gate, None)

    def test_who_may_write_under_the_cut_is_told(self, family_lab: MariaDBLab) -> None:
        lab = family_lab
        with engine_of(lab) as engine:
            gate = engine.gate.read_state()
            engine.gate.cut(gate, MARKER)
            scheduler = lab.sql("SELECT @@GLOBAL.event_scheduler")[0][0]
            try:
                assert engine.sessions.writers() == [], "neither our own sessions nor idle threads of the server"
                lab.sql("SET GLOBAL event_scheduler = ON")
                lab.sql("CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01 00:00:00' DO DO 1")
                with lab._root(lab.database) as intruder:
                    number = intruder.thread_id()  # type: ignore[no-untyped-call]
                    session, event = engine.sessions.writers()
                assert session.startswith(f"session {number} (Sleep for ")
                assert ", account root, from localhost" in session
                assert event.startswith(f"event {lab.database}.nightly, account ")
            finally:
                lab.sql("DROP EVENT IF EXISTS nightly")
                lab.sql(f"SET GLOBAL event_scheduler = {scheduler}")
                engine.gate.open(gate, None)

    def test_an_account_that_cannot_be_unlocked_does_not_keep_the_others_locked(
        self, lab: MariaDBLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unlock = access_gate._unlock

        def failing(session: Session, one: dict[str, Any], limit: int) -> None:
            if one["user"] == "a_first":
                session.ask("SELECT something_that_the_server_refuses")
            unlock(session, one, limit)

        lab.sql("CREATE USER 'a_first'@'10.%' IDENTIFIED BY 'a'")
        lab.sql(f"GRANT SELECT ON {lab.database}.* TO 'a_first'@'10.%'")
        try:
            with engine_of(lab) as engine:
                gate = engine.gate.read_state()
                engine.gate.cut(gate, MARKER)
                first_of_all = sorted(
                    cast(list[dict[str, Any]], gate["accounts"]), key=lambda a: a["user"] != "a_first"
                )
                with monkeypatch.context() as patch:
                    patch.setattr(access_gate, "_unlock", failing)
                    with pytest.raises(EngineError, match=r"a_first.*something_that_the_server_refuses"):
                        engine.gate.open({**gate, "accounts": first_of_all}, None)
                assert "ACCOUNT LOCK" in shown(lab, "a_first", "10.%")
                assert "ACCOUNT LOCK" not in shown(lab, lab.account, "127.0.0.1")
                assert engine.lock.mark() is not None, "the mark stays, so that it can be done again"
                engine.gate.open(gate, None)
                assert engine.gate.differences(gate) == []
        finally:
            lab.sql("DROP USER 'a_first'@'10.%'")

    def test_limits_and_locks_that_were_there_come_back_exactly(self, lab: MariaDBLab) -> None:
        name = f"x_{lab.database}"
        for statement in (
            f"CREATE USER '{name}'@'10.%' IDENTIFIED BY 'a' WITH MAX_USER_CONNECTIONS 40",
            f"GRANT SELECT ON `shop\\_%`.* TO '{name}'@'10.%'",
            f"CREATE USER '{name}'@'%' ACCOUNT LOCK",
            f"GRANT SELECT (id) ON {lab.database}.secret TO '{name}'@'%'",
            f"CREATE ROLE 'r_{name}'",
            f"GRANT SELECT ON {lab.database}.* TO 'r_{name}'",
            f"CREATE USER '{name}'@'role' IDENTIFIED BY 'b'",
            f"GRANT 'r_{name}' TO '{name}'@'role'",
            f"CREATE USER '{name}'@'elsewhere' IDENTIFIED BY 'c'",
        ):
            if "secret" in statement:
                lab.sql("CREATE TABLE secret (id INT PRIMARY KEY)")
            lab.sql(statement)
        try:
            with engine_of(lab) as engine:
                gate = engine.gate.read_state()
                held = {(a["user"], a["host"]) for a in gate["accounts"]}  # type: ignore[attr-defined]
                assert {(name, "10.%"), (name, "%"), (name, "role"), (lab.account, "127.0.0.1")} <= held
                assert (name, "elsewhere") not in held
                engine.gate.cut(gate, MARKER)
                assert "ACCOUNT LOCK" in shown(lab, name, "10.%")
                assert "ACCOUNT LOCK" not in shown(lab, name, "elsewhere")
                engine.gate.open(gate, 0.1)
                assert "MAX_USER_CONNECTIONS 4 " in shown(lab, name, "10.%") + " "
                assert "ACCOUNT LOCK" in shown(lab, name, "%")
                assert "MAX_USER_CONNECTIONS 8 " in shown(lab, lab.account, "127.0.0.1") + " "
                engine.gate.open(gate, None)
                assert engine.gate.differences(gate) == []
                assert "MAX_USER_CONNECTIONS 40" in shown(lab, name, "10.%")
                assert "ACCOUNT LOCK" in shown(lab, name, "%")
                assert "MAX_USER_CONNECTIONS" not in shown(lab, lab.account, "127.0.0.1")
        finally:
            for host in ("10.%", "%", "role", "elsewhere"):
                lab.sql(f"DROP USER '{name}'@'{host}'")
            lab.sql(f"DROP ROLE 'r_{name}'")

    def test_neither_our_account_nor_the_local_administrator_is_locked(self, lab: MariaDBLab) -> None:
        with engine_of(lab) as engine:
            held = {a["user"] + "@" + a["host"] for a in engine.gate.read_state()["accounts"]}  # type: ignore[attr-defined]
        assert not held & {"dbmaint@127.0.0.1", "root@localhost", "mariadb.sys@localhost"}

    def test_events_sleep_under_the_cut_and_wake_as_they_were(self, lab: MariaDBLab) -> None:
        lab.difficult()
        lab.sql("CREATE DEFINER = 'mariadb.sys'@'localhost' EVENT alien ON SCHEDULE EVERY 1 HOUR DO SELECT 1")
        before = event_states(lab)
        with engine_of(lab) as engine:
            gate, catalog = engine.gate.read_state(), engine.verifier.definitions()
            engine.gate.cut(gate, MARKER)
            assert {state for _, state, *_ in event_states(lab)} == {"DISABLED"}
            assert engine.verifier.definitions() == catalog
            engine.gate.open(gate, 0.5)
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
        assert event_states(lab) == before

    def test_a_change_by_somebody_else_meanwhile_is_told(self, lab: MariaDBLab) -> None:
        lab.difficult()
        with engine_of(lab) as engine:
            gate = engine.gate.read_state()
            lab.sql(f"ALTER USER '{lab.account}'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 3")
            lab.sql("DROP EVENT tidy")
            told = engine.gate.differences(gate)
        assert told == [f"account {lab.account}@127.0.0.1 may have 3 connections, was 0", "event tidy is gone"]

    def test_an_application_on_our_own_account_is_named_and_not_overlooked(self, lab: MariaDBLab) -> None:
        lab.fill()
        stop: list[bool] = []

        def intruding() -> None:
            while not stop:
                try:
                    connection = MySQLdb.connect(
                        host="127.0.0.1", port=lab.server.port, user="dbmaint", passwd="emergency-only", db=lab.database
                    )
                    connection.cursor().execute("SELECT SLEEP(0.3)")
                except MySQLdb.Error:
                    time.sleep(0.005)

        # Several, so that on a busy machine one of them is inside at each look.
        clients = [background(intruding) for _ in range(4)]
        try:
            with engine_of(lab, cut_seconds=1) as engine:
                gate = engine.gate.read_state()
                with pytest.raises(Transient, match="our own account dbmaint"):
                    engine.gate.cut(gate, MARKER)
                engine.gate.open(gate, None)
                assert engine.gate.differences(gate) == []
        finally:
            stop.append(True)
            for client in clients:
                client.join(5)

    def test_a_crash_after_any_effect_of_cut_or_release_ends_as_before(self, lab: MariaDBLab) -> None:
        lab.difficult()
        tokens = iter(range(2, 100))
        with engine_of(lab, token=1) as engine:
            original = engine.gate.read_state()

        def cut_and_release(token: int) -> None:
            with engine_of(lab, token=token) as engine:
                engine.lock.fence()
                gate = engine.gate.read_state()
                engine.gate.cut(gate, MARKER)
                engine.gate.open(gate, 0.5)
                engine.gate.open(gate, None)

        points = 0
        for _ in crash_everywhere(lambda: cut_and_release(next(tokens))):
            points += 1
            with engine_of(lab, token=next(tokens)) as engine:
                engine.lock.fence()
                assert engine.gate.read_state() == original
                engine.gate.cut(engine.gate.read_state(), MARKER)
                with pytest.raises(MySQLdb.Error):
                    lab.app_connection()
                engine.gate.open(original, None)
                assert engine.gate.differences(original) == []
        assert points >= 8
