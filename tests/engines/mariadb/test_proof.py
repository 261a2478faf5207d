"""What counts as a proof."""

from __future__ import annotations

import pytest

from maintenance.engines.errors import EngineError, Transient, Unable
from maintenance.engines.mysql import verification
from maintenance.engines.values import Fingerprint
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import engine_of


class TestProof:
    def test_a_row_of_failure_is_a_failure_and_a_note_is_not(self, lab: MariaDBLab) -> None:
        with engine_of(lab) as engine:
            fine = [("t", "optimize", "note", "doing recreate + analyze instead"), ("t", "optimize", "status", "OK")]
            assert engine.server.accept(fine, "rewriting", "t") == ["doing recreate + analyze instead"]
            for row in (
                ("t", "check", "error", "Corrupt"),
                ("t", "check", "Error", "x"),
                ("t", "x", "status", "Operation failed"),
            ):
                with pytest.raises(EngineError):
                    engine.server.accept([row], "checking", "t")

    def test_a_check_is_not_believed_when_sessions_were_killed_meanwhile(
        self, lab: MariaDBLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.fill()
        counts = iter(range(1000))
        monkeypatch.setattr(verification, "_kill_counters", lambda session: {"Com_kill": str(next(counts))})
        with engine_of(lab) as engine, pytest.raises(Transient, match="proves nothing"):
            engine.verifier.check(["orders"])

    def test_orphans_and_a_counter_that_fell_behind_are_found(self, lab: MariaDBLab) -> None:
        lab.fill()
        connection = lab.server.connect(lab.database)
        cursor = connection.cursor()
        cursor.execute("SET foreign_key_checks = 0")
        cursor.execute("INSERT INTO orders (customer_id, status) VALUES (999999, 'orphan')")
        connection.close()  # type: ignore[no-untyped-call]
        with engine_of(lab) as engine:
            failed = [(check.name, check.object) for check in engine.verifier.check(None) if not check.passed]
        assert failed == [("foreign key", "orders.orders_customer")]

    def test_null_empty_text_and_shifted_borders_are_different_rows(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE t (a VARCHAR(10), b VARCHAR(10))")
        seen: set[Fingerprint] = set()
        rows = ["(NULL, 'N')", "('', 'N')", "('N', NULL)", "('a', 'bc')", "('ab', 'c')", "('a', 'bc '),('a', 'bc ')"]
        with engine_of(lab) as engine:
            for values in rows:
                lab.sql("TRUNCATE t")
                lab.sql(f"INSERT INTO t VALUES {values}")
                seen.add(engine.verifier.fingerprint(None)["t"])
        assert len(seen) == len(rows)

    def test_another_storage_engine_and_another_index_give_the_same_fingerprint(self, lab: MariaDBLab) -> None:
        lab.difficult()
        with engine_of(lab) as engine:
            before = engine.verifier.fingerprint(None)
            lab.sql("ALTER TABLE keyless ENGINE=InnoDB, ADD KEY (b)")
            lab.sql("ALTER TABLE files ROW_FORMAT=COMPRESSED")
            assert engine.verifier.fingerprint(None) == before

    @pytest.mark.parametrize(
        "sql",
        ["SELECT 1 INTO OUTFILE '/tmp/x'", "/*! DROP TABLE orders */", "COMMIT", "SET GLOBAL read_only = 1", "KILL 1"],
    )
    def test_what_could_leave_the_read_only_transaction_is_refused(self, lab: MariaDBLab, sql: str) -> None:
        with engine_of(lab) as engine, pytest.raises(Unable):
            engine.benchmark.query(sql)

    def test_percent_signs_colons_and_backslashes_of_an_operator_stay(self, lab: MariaDBLab) -> None:
        with engine_of(lab) as engine:
            assert engine.benchmark.query(r"SELECT '100%', '%s', ':a', '\\' LIKE '%'") == [("100%", "%s", ":a", 1)]
