"""The zoo of damage."""

from __future__ import annotations

import pytest

from maintenance.engines.errors import Damaged
from maintenance.engines.mysql.repair import quarantine
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import SMALL, Crash, action, crash_before, crashing_after, engine_of


class TestRepair:
    def test_an_index_is_rebuilt_and_the_answer_through_it_is_whole_again(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab.damage_index()
        with engine_of(lab) as engine:
            done = engine.actions.perform(action("orders", "check_and_repair"), False)
            assert done.losses == ()
            assert "8,000 rows" in done.sentence
            again = engine.actions.perform(action("orders", "check_and_repair"), False)
            assert "sound" in again.sentence
            assert engine.benchmark.query(
                "SELECT COUNT(*) FROM orders FORCE INDEX (orders_status) WHERE status > ''"
            ) == [(8000,)]
            assert [f for f in engine.diagnostics.diagnose(SMALL).findings if f.severity == "critical"] == []

    def test_salvage_keeps_keys_triggers_and_neighbours_and_counts_what_is_gone(self, family_lab: MariaDBLab) -> None:
        lab = family_lab
        lab.fill()
        lab.sql(
            "CREATE TABLE items (id INT PRIMARY KEY, order_id INT, CONSTRAINT of_order FOREIGN KEY (order_id)"
            " REFERENCES orders (id) ON DELETE CASCADE ON UPDATE SET NULL)"
        )
        lab.sql("CREATE TABLE seen (n INT)")
        lab.sql("CREATE TRIGGER orders_ad AFTER DELETE ON orders FOR EACH ROW INSERT INTO seen VALUES (OLD.id)")
        lab.damage_table()
        with engine_of(lab) as engine:
            catalog = engine.verifier.definitions()
            with pytest.raises(Damaged):
                engine.actions.perform(action("orders", "check_and_repair"), False)
            done = engine.actions.perform(action("orders", "check_and_repair"), True)
            loss = done.losses[0]
            saved = engine.verifier.fingerprint(["orders"])["orders"].rows
            assert loss.rows is not None
            assert 0 < loss.rows < 200
            assert saved == 8000 - loss.rows
            assert loss.pages
            assert engine.verifier.definitions() == catalog
            assert [check for check in engine.verifier.check(None) if not check.passed] == []
            assert quarantine.old_schema(engine.server) in engine.rollback.leftovers()
            lab.sql("DELETE FROM orders LIMIT 1")
            assert lab.sql("SELECT COUNT(*) FROM seen") == [(1,)]
            engine.rollback.clean()
            assert engine.rollback.leftovers() == []

    def test_salvage_survives_a_crash_anywhere(self, family_lab: MariaDBLab) -> None:
        lab = family_lab
        lab.fill()
        lab.sql("CREATE TABLE seen (n INT)")
        lab.sql("CREATE TRIGGER orders_ad AFTER DELETE ON orders FOR EACH ROW INSERT INTO seen VALUES (OLD.id)")
        lab.damage_table()
        repair = action("orders", "check_and_repair")
        with engine_of(lab) as engine:
            catalog = engine.verifier.definitions()
            for effects in (0, 1, 2, 3, 8):
                with crashing_after(effects), pytest.raises(Crash):
                    engine.actions.perform(repair, True)
            # The copy is many effects alike; what follows it is met by name.
            for beginning in ("DROP TRIGGER", "RENAME TABLE", "ALTER TABLE", "CREATE DEFINER", "DROP DATABASE"):
                with crash_before(beginning), pytest.raises(Crash):
                    engine.actions.perform(repair, True)
            done = engine.actions.perform(repair, True)
            assert done.losses[0].rows
            assert engine.verifier.definitions() == catalog
            assert lab.sql("SELECT COUNT(*) FROM orders") == [(8000 - done.losses[0].rows,)]
            assert engine.actions.perform(repair, True).losses == done.losses

    def test_a_full_repair_that_would_drop_rows_is_undone_without_leave(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE old_log (id INT PRIMARY KEY, t VARCHAR(200)) ENGINE=MyISAM ROW_FORMAT=DYNAMIC")
        lab.sql("INSERT INTO old_log SELECT seq, REPEAT(CONCAT('line ', seq), 5) FROM seq_1_to_2000")
        lab.sql("FLUSH TABLES old_log")
        data = lab.server.data / lab.database / "old_log.MYD"
        with open(data, "r+b") as file:
            file.seek(data.stat().st_size // 2)
            file.write(b"\xff" * 64)
        damaged = data.read_bytes()
        with engine_of(lab) as engine:
            with pytest.raises(Damaged, match="put back"):
                engine.actions.perform(action("old_log", "check_and_repair"), False)
            assert data.read_bytes() == damaged
            done = engine.actions.perform(action("old_log", "check_and_repair"), True)
            assert done.losses
            assert done.losses[0].rows
            assert engine.verifier.fingerprint(["old_log"])["old_log"].rows == 2000 - done.losses[0].rows
            engine.rollback.clean()
