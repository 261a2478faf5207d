"""Backups of each kind, and what is in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pyrage
import pytest

from maintenance.engines import archive
from maintenance.engines.archive import Seal
from maintenance.engines.errors import Damaged, Interrupted, Unable
from maintenance.engines.mysql import open_server, restore
from maintenance.engines.values import Limits, Tag
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import MARKER, PLAIN, backed_up, background, engine_of


class TestBackup:
    def test_the_products_own_client_loads_a_backup_whole(self, lab: MariaDBLab) -> None:
        lab.difficult()
        # The dump's stand-in for the view below it cannot be updated, so the product's client refuses its CHECK OPTION.
        lab.sql("DROP VIEW a_view_of_it")
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            live = engine.verifier.fingerprint(None)
            catalog = engine.verifier.definitions()
        other = f"{lab.database}_by_hand"
        lab.sql(f"CREATE DATABASE {other} CHARACTER SET utf8mb4")
        with archive.reading(backup.path, PLAIN) as stream:
            sql = stream.read().decode().replace(f"`{lab.database}`", f"`{other}`")
        subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={lab.server.socket}", "--user=root", "--binary-mode", other],
            input=sql.encode(),
            check=True,
        )
        copy = open_server(lab.url.set(database=other), Tag(9, 1), Limits())
        assert copy.verifier.fingerprint(None) == live
        assert set(copy.verifier.definitions()) == set(catalog)
        copy.close()
        lab.sql(f"DROP DATABASE {other}")

    def test_a_limit_of_rows_on_the_server_hides_no_row_from_us_and_is_no_dump(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab.sql("SET GLOBAL sql_select_limit = 1")
        try:
            with engine_of(lab) as engine:
                assert len(engine.verifier.fingerprint(None)) > 1
                assert engine.benchmark.query("SELECT 1 UNION SELECT 2") == [(1,), (2,)]
                with pytest.raises(Unable, match="sql_select_limit is 1 on this server"):
                    backed_up(engine, lab)
        finally:
            lab.sql("SET GLOBAL sql_select_limit = DEFAULT")

    def test_a_sealed_backup_is_read_back_and_restored(self, lab: MariaDBLab) -> None:
        lab.fill()
        key = pyrage.x25519.Identity.generate()
        identity = lab.folder.parent / "key.txt"
        identity.write_text(str(key))
        seal = Seal((str(key.to_public()),), identity)
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab, seal=seal)
            assert backup.path.name.endswith(".sql.zst.age")
            baseline = engine.verifier.fingerprint(None)
            image = engine.backups.image(backup, baseline, lab.folder, "image", seal)
            side = engine.rollback.restore_beside(image, backup, seal)
            assert engine.verifier.fingerprint(None, side) == baseline
            engine.rollback.clean()

    def test_an_unreadable_page_fails_the_dump_and_not_the_alternates(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab.damage_table()
        with engine_of(lab) as engine:
            with pytest.raises(Damaged, match="orders"):
                backed_up(engine, lab, 0)
            assert list(lab.folder.iterdir()) == []
            physical = backed_up(engine, lab, 1)
            by_table = engine.backups.back_up("table_dump", lab.folder, "shop", PLAIN)
            assert (physical.method, by_table.method) == ("mariabackup", "table_dump")
            assert by_table.snapshot["customers"].rows == 2000
            assert not by_table.snapshot["orders"].readable
            for backup in (physical, by_table):
                baseline = engine.verifier.fingerprint(None)
                image = engine.backups.image(backup, baseline, lab.folder, f"image-{backup.method}", PLAIN)
                side = engine.rollback.restore_beside(image, backup, PLAIN)
                assert engine.verifier.fingerprint(None, side) == {"customers": baseline["customers"]}
            catalog = engine.verifier.definitions()
            engine.rollback.swap(side, {}, MARKER)
            assert engine.verifier.definitions() == catalog
            assert engine.verifier.fingerprint(["customers"]) == {"customers": baseline["customers"]}
            engine.rollback.clean()

    def test_an_interrupted_backup_leaves_no_file(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            ended: list[BaseException] = []

            def work() -> None:
                try:
                    while True:
                        backed_up(engine, lab)
                except BaseException as error:
                    ended.append(error)

            thread = background(work)
            time.sleep(0.3)
            engine.interrupt()
            thread.join(5)
            assert [type(error) for error in ended] == [Interrupted]
        assert [p.name for p in lab.folder.iterdir() if p.name != "shop.sql.zst"] == []

    def test_a_physical_copy_is_restored_by_the_commands_that_are_told(self, lab: MariaDBLab, tmp_path: Path) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab, 1)
            before = engine.verifier.fingerprint(["orders"])
            told = str(restore._incomplete({"orders"}, backup))
            lab.sql("DELETE FROM orders WHERE id < 5000")
            unpacked = Path(tempfile.mkdtemp(dir=lab.folder))
            commands = told[told.index("zstd -dc") : told.index("; then")].replace("DIR", str(unpacked))
            subprocess.run(["bash", "-ec", commands], cwd=lab.folder, check=True, capture_output=True)
            lab.sql("ALTER TABLE orders DISCARD TABLESPACE")
            for ending in ("ibd", "cfg"):
                target = lab.server.data / lab.database / f"orders.{ending}"
                shutil.copy(unpacked / lab.database / f"orders.{ending}", target)
                owner = (lab.server.data / "ibdata1").stat()
                os.chown(target, owner.st_uid, owner.st_gid)
            lab.sql("ALTER TABLE orders IMPORT TABLESPACE")
            assert engine.verifier.fingerprint(["orders"]) == before
            shutil.rmtree(unpacked)
