"""Back to what was, also after a crash anywhere."""

from __future__ import annotations

import pytest

from maintenance.engines.errors import Unable
from maintenance.engines.mysql.repair import quarantine
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import MARKER, PLAIN, Crash, backed_up, crash_before, crashing_after, engine_of


class TestRollback:
    def test_a_crash_after_any_effect_of_the_exchange_still_ends_whole(self, lab: MariaDBLab) -> None:
        lab.difficult()
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            baseline, catalog = engine.verifier.fingerprint(None), engine.verifier.definitions()
            image = engine.backups.image(backup, baseline, lab.folder, "image", PLAIN)
            points = 0
            for effects in range(60):
                lab.sql("UPDATE Kunden SET `Name` = 'spoiled'")
                side = engine.rollback.restore_beside(image, backup, PLAIN)
                try:
                    with crashing_after(effects):
                        engine.rollback.swap(side, {}, MARKER)
                except Crash:
                    points += 1
                    with engine_of(lab) as another:
                        another.rollback.swap(side, {}, MARKER)
                    crashed = True
                else:
                    crashed = False
                assert engine.verifier.fingerprint(None) == baseline
                assert engine.verifier.definitions() == catalog
                engine.rollback.clean(keep=[quarantine.exact_schema(engine.server)])
                if not crashed:
                    break
            assert points >= 6
            engine.rollback.clean()

    def test_an_incomplete_side_copy_is_never_put_in_place(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            image = engine.backups.image(backup, engine.verifier.fingerprint(None), lab.folder, "image", PLAIN)
            with crash_before("CREATE TABLE IF NOT EXISTS"), pytest.raises(Crash):
                engine.rollback.restore_beside(image, backup, PLAIN)
            with pytest.raises(Unable, match="not completely restored"):
                engine.rollback.swap(quarantine.new_schema(engine.server), {}, MARKER)
            side = engine.rollback.restore_beside(image, backup, PLAIN)
            assert engine.rollback.swap(side, {}, MARKER) == quarantine.old_schema(engine.server)
            engine.rollback.clean()

    def test_what_changed_between_backup_and_cut_is_in_the_image_and_what_was_dropped_is_not(
        self, lab: MariaDBLab
    ) -> None:
        lab.fill()
        lab.sql("CREATE TABLE gone (a INT)")
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            lab.sql("DROP TABLE gone")
            lab.sql("CREATE TABLE fresh (a INT PRIMARY KEY)")
            lab.sql("INSERT INTO fresh VALUES (1)")
            lab.sql("CREATE VIEW late AS SELECT a FROM fresh")
            baseline, catalog = engine.verifier.fingerprint(None), engine.verifier.definitions()
            image = engine.backups.image(backup, baseline, lab.folder, "image", PLAIN)
            assert image.tables == ("fresh",)
            lab.sql("DROP VIEW late")
            lab.sql("DELETE FROM fresh")
            side = engine.rollback.restore_beside(image, backup, PLAIN)
            assert engine.verifier.fingerprint(None, side) == baseline
            engine.rollback.swap(side, {}, MARKER)
            assert engine.verifier.fingerprint(None) == baseline
            assert engine.verifier.definitions() == catalog
            engine.rollback.clean()

    def test_a_number_given_out_once_is_not_given_out_again(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            lab.sql("INSERT INTO customers (id, name) VALUES (9000, 'gone again')")
            lab.sql("DELETE FROM customers WHERE id = 9000")
            image = engine.backups.image(backup, engine.verifier.fingerprint(None), lab.folder, "image", PLAIN)
            engine.rollback.swap(engine.rollback.restore_beside(image, backup, PLAIN), {}, MARKER)
            lab.sql("INSERT INTO customers (name) VALUES ('new')")
            assert lab.sql("SELECT MAX(id) FROM customers") == [(9001,)]
            engine.rollback.clean()
