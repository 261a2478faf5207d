"""What is wrong is found, and looking makes nothing worse."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import URL

from maintenance.engines.errors import AccessDenied, Damaged, EngineError, Unreachable
from maintenance.engines.mysql import MariaDB, open_server
from maintenance.engines.values import Limits, Tag
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import MARKER, SMALL, action, backed_up, background, crashed_table, engine_of


class TestWhichProduct:
    def test_the_scheme_mysql_is_asked_for_its_product(self, lab: MariaDBLab) -> None:
        assert isinstance(open_server(lab.url, Tag(1, 1), Limits()), MariaDB)
        assert isinstance(open_server(lab.url.set(drivername="mariadb"), Tag(1, 1), Limits()), MariaDB)

    def test_a_server_that_does_not_answer_says_so_at_the_first_question(self, lab: MariaDBLab) -> None:
        engine = open_server(lab.url.set(port=1), Tag(1, 1), Limits())
        with pytest.raises(Unreachable):
            engine.sessions.facts()

    def test_by_socket_and_by_network_it_is_the_same_database(self, lab: MariaDBLab) -> None:
        by_socket = URL.create("mysql", "root", database=lab.database, query={"unix_socket": str(lab.server.socket)})
        engine = open_server(by_socket, Tag(1, 1), Limits())
        with engine_of(lab) as other:
            assert engine.sessions.facts().identity == other.sessions.facts().identity
        engine.close()

    def test_a_database_that_is_not_there_is_named(self, lab: MariaDBLab) -> None:
        engine = open_server(lab.url.set(database="no_such_shop"), Tag(1, 1), Limits())
        with pytest.raises(EngineError, match="no_such_shop"):
            engine.sessions.facts()
        engine.close()

    def test_the_password_is_in_no_argument_of_a_tool(self, lab: MariaDBLab) -> None:
        with engine_of(lab) as engine:
            for tool in ("mariadb", "mariadb-dump", "mariabackup"):
                assert not any(str(lab.url.password) in word for word in engine.server.address(tool))
            assert engine.server.secrets()["MYSQL_PWD"] == str(lab.url.password)


class TestDiagnosis:
    def test_free_pages_are_found_after_fresh_statistics_too(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab._wait_for_purge()
        lab.sql("ANALYZE TABLE orders")
        with engine_of(lab) as engine:
            found = {table.name: table for table in engine.diagnostics.diagnose(SMALL).tables}
        assert (found["orders"].bloat_share or 0) > 0.3
        assert found["orders"].stale_share == 0.0

    def test_a_damaged_index_page_is_found_and_the_server_does_not_mark_the_table(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab.damage_index()
        with engine_of(lab) as engine:
            found = engine.diagnostics.diagnose(SMALL)
            assert [(f.code, f.object) for f in found.findings if f.severity == "critical"] == [
                ("damaged_page", "orders")
            ]
            assert any("orders_status" in f.evidence for f in found.findings)
            marked = "SELECT COUNT(*) FROM information_schema.innodb_sys_indexes WHERE type & 16"
            assert lab.sql(marked) == [(0,)]
            assert [a.object for a in engine.planner.plan("repair", found, SMALL, None, False)] == ["orders"]

    def test_a_crashed_table_is_found_and_not_repaired_by_looking(self, lab: MariaDBLab) -> None:
        index = crashed_table(lab)
        before = index.read_bytes()
        with engine_of(lab) as engine:
            found = engine.diagnostics.diagnose(SMALL)
            engine.sessions.facts()
            engine.sessions.resolve(["old_log"])
        assert [f.code for f in found.findings if f.object == "old_log"] == ["crashed_table"]
        assert index.read_bytes() == before

    def test_a_crashed_table_is_copied_as_it_is_before_anything_reads_it(self, lab: MariaDBLab) -> None:
        index = crashed_table(lab)
        before = index.read_bytes()
        with engine_of(lab) as engine:
            with pytest.raises(Damaged, match="old_log"):
                backed_up(engine, lab, 0)
            assert index.read_bytes() == before
            assert backed_up(engine, lab, 1).method == "mariabackup"
            assert index.read_bytes() == before
            done = engine.actions.perform(action("old_log", "check_and_repair"), False)
            assert done.losses == ()
            assert engine.verifier.fingerprint(["old_log"])["old_log"].rows == 500

    def test_duplicate_and_missing_keys_are_told_and_nothing_is_dropped(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE t (a INT, b INT, KEY one (a), KEY two (a, b))")
        with engine_of(lab) as engine:
            codes = {f.code for f in engine.diagnostics.diagnose(SMALL).findings if f.object == "t"}
        assert codes == {"duplicate_index", "no_primary_key"}

    def test_who_waits_for_a_metadata_lock_is_told(self, lab: MariaDBLab) -> None:
        lab.fill()
        with lab.application() as reader, lab.application() as changer:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM customers")
            waiting = background(lambda: changer.execute("ALTER TABLE customers ADD COLUMN x INT"))
            with engine_of(lab) as engine:
                until = time.monotonic() + 60
                while time.monotonic() < until:
                    codes = {f.code for f in engine.diagnostics.diagnose(SMALL).findings}
                    if "metadata_lock_queue" in codes:
                        break
            reader.execute("ROLLBACK")
            waiting.join(5)
        assert "metadata_lock_queue" in codes

    def test_an_account_that_cannot_see_other_sessions_may_not_call_it_quiet(self, lab: MariaDBLab) -> None:
        blind = f"blind_{lab.database}"
        lab.sql(f"CREATE USER '{blind}'@'127.0.0.1' IDENTIFIED BY 'b'")
        lab.sql(f"GRANT ALL ON {lab.database}.* TO '{blind}'@'127.0.0.1'")
        engine = MariaDB(lab.url.set(username=blind, password="b"), Tag(7, 1), Limits())
        try:
            with pytest.raises(AccessDenied):
                engine.gate.cut({"accounts": [], "events": [], "max_connections": 1}, MARKER)
            found = engine.diagnostics.diagnose(SMALL)
            assert found.tables == ()
        finally:
            engine.close()
            lab.sql(f"DROP USER '{blind}'@'127.0.0.1'")

    def test_unverified_tables_are_all_checked_when_nothing_points_to_one(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE m (a INT) ENGINE=Aria")
        lab.sql("CREATE TABLE n (a INT PRIMARY KEY)")
        with engine_of(lab) as engine:
            plan = engine.planner.plan("repair", engine.diagnostics.diagnose(SMALL), SMALL, None, False)
            named = engine.planner.plan("repair", engine.diagnostics.diagnose(SMALL), SMALL, ["n"], False)
        assert [a.object for a in plan] == ["m"]
        assert [a.object for a in named] == ["n"]
