"""The work itself, its limits and its end; and the private server."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from maintenance.engines.errors import Interrupted, Transient
from maintenance.engines.mysql import MySQL
from maintenance.engines.mysql.capabilities import MYSQL
from maintenance.engines.mysql.connection import Row, Session
from maintenance.engines.mysql.target import Server
from maintenance.engines.values import Diagnosis, Limits, Tag
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import SMALL, action, background, engine_of, running

GAVE_WAY = [
    ("t", "optimize", "error", "Deadlock found when trying to get lock; try restarting transaction"),
    ("t", "optimize", "status", "Operation failed"),
]


class TestWork:
    @pytest.mark.parametrize("deadlocks", [1, 99])
    def test_a_rewrite_that_gave_way_to_another_is_asked_for_again(
        self, lab: MariaDBLab, monkeypatch: pytest.MonkeyPatch, deadlocks: int
    ) -> None:
        lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
        admin, asked = Server.admin, []

        def giving_way(server: Server, session: Session, sql: str) -> list[Row]:
            asked.append(sql)
            return GAVE_WAY if len(asked) <= deadlocks else admin(server, session, sql)

        monkeypatch.setattr(Server, "admin", giving_way)
        with engine_of(lab) as engine:
            if deadlocks == 1:
                assert "written anew" in engine.actions.perform(action("t", "rebuild"), False).sentence
            else:
                with pytest.raises(Transient, match="Deadlock found"):
                    engine.actions.perform(action("t", "rebuild"), False)
        assert asked

    def test_a_rebuild_is_ended_on_the_server_by_interrupt(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE big (id INT PRIMARY KEY, t VARCHAR(200), KEY (t))")
        lab.sql("INSERT INTO big SELECT seq, REPEAT(MD5(seq), 5) FROM seq_1_to_50000")
        with engine_of(lab) as engine:
            before = engine.verifier.fingerprint(["big"])
            ended: list[BaseException] = []

            def work() -> None:
                try:
                    while True:
                        engine.actions.perform(action("big", "rebuild"), False)
                except BaseException as error:
                    ended.append(error)

            thread = background(work)
            until = time.monotonic() + 60
            while not running(lab, "OPTIMIZE") and time.monotonic() < until:
                time.sleep(0.01)
            assert [p.object for p in engine.actions.progress()] == ["big"]
            engine.interrupt()
            thread.join(5)
            assert [type(error) for error in ended] == [Interrupted]
            assert running(lab, "OPTIMIZE") == 0
            engine.clear_interrupt()
            assert engine.verifier.fingerprint(["big"]) == before

    def test_a_statement_over_its_limit_is_ended_and_said(self, lab: MariaDBLab) -> None:
        with engine_of(lab, statement_seconds=1) as engine, pytest.raises(Transient):
            engine.benchmark.query("SELECT COUNT(*) FROM seq_1_to_1000000 a, seq_1_to_1000000 b")

    def test_a_table_somebody_holds_gives_up_after_the_lock_limit(self, lab: MariaDBLab) -> None:
        lab.fill()
        with lab.application() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM orders")
            with engine_of(lab, lock_seconds=1) as engine, pytest.raises(Transient):
                engine.actions.perform(action("orders", "rebuild"), False)

    def test_the_cost_of_a_scan_falls_with_a_rebuild(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            # The other order of keys: every page keeps some rows, so none is freed.
            lab.sql("DELETE FROM orders WHERE id % 10 <> 4")
            query = "SELECT COUNT(*) FROM orders USE INDEX ()"
            before = engine.benchmark.measure(query, 1)
            engine.actions.perform(action("orders", "rebuild"), False)
            after = engine.benchmark.measure(query, 1)
        assert before.cost_unit == after.cost_unit == "pages"
        assert before.cost is not None
        assert after.cost is not None
        assert after.cost < before.cost


class TestMySQL:
    def test_a_suspect_table_is_rebuilt_before_anything_checks_it(self) -> None:
        assert MYSQL.reading_damage_kills
        assert MYSQL.backup_methods == ("mysqldump", "clone")

    def test_a_plan_needs_no_server(self, lab: MariaDBLab) -> None:
        engine = MySQL(lab.url.set(port=1), Tag(1, 1), Limits())
        nothing_known = Diagnosis("8.4", 0, 0, None, None, (), ())
        assert engine.planner.plan("rebuild", nothing_known, SMALL, None, False) == []


def test_the_private_server_is_gone_afterwards(tmp_path: Path) -> None:
    from demo.mariadb import ThrowawayMariaDB

    own = ThrowawayMariaDB(tmp_path / "own", {"performance-schema": "ON"})
    own.start()
    assert own.process is not None
    number = own.process.pid
    own.restart()
    own.connect().close()  # type: ignore[no-untyped-call]
    own.remove()
    assert not own.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
