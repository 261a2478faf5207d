"""MySQL's physical backup, by its CLONE plugin."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from demo.mysql import ThrowawayMySQL
from maintenance.engines import archive
from maintenance.engines.errors import Damaged
from maintenance.engines.mysql import physical, restore
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import PLAIN, backed_up, engine_of

pytestmark = pytest.mark.mysql


@pytest.fixture
def lab(mysql_server: MariaDBLab) -> Iterator[MariaDBLab]:
    made = mysql_server.fresh()
    made.fill()
    made.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'")
    yield made
    made.sql("UNINSTALL PLUGIN clone")


@pytest.mark.rare
def test_a_clone_holds_the_damage_too_and_a_second_server_starts_on_it(lab: MariaDBLab) -> None:
    lab.damage_table()
    with engine_of(lab) as engine:
        with pytest.raises(Damaged, match="orders"):
            backed_up(engine, lab, 0)
        backup = backed_up(engine, lab, 1)
        assert (backup.method, backup.verified, backup.path.name) == ("clone", True, "shop.clone.tar.zst")
        assert list(lab.folder.iterdir()) == [backup.path]
        assert engine.rollback.leftovers() == []
        assert not [path for path in (lab.server.folder / "tmp").iterdir() if path.name.startswith("dbmaint")]
        # What could be read at the cut is in the image; the rest is had by hand, and how is said.
        image = engine.backups.image(backup, engine.verifier.fingerprint(None), lab.folder, "image", PLAIN)
        side = engine.rollback.restore_beside(image, backup, PLAIN)
        assert set(engine.verifier.fingerprint(None, side)) == {"customers"}
        engine.rollback.clean()
        assert "start a second mysqld" in str(restore._incomplete({"orders"}, backup))
    second = ThrowawayMySQL(lab.server.folder.parent / "second", lab.server.options)
    try:
        for folder in (second.data, second.folder / "tmp"):
            folder.mkdir(parents=True)
        with archive.reading(backup.path, PLAIN) as stream:
            subprocess.run(["tar", "-x", "-C", str(second.data)], input=stream.read(), check=True)
        for path in (second.folder, *second.folder.rglob("*")):
            shutil.chown(path, lab.server.data.owner(), lab.server.data.group())
        second.start()
        cursor = second.connect(lab.database).cursor()
        cursor.execute("SELECT COUNT(*) FROM customers")
        assert cursor.fetchall() == ((2000,),)
    finally:
        second.remove()


def test_without_plugin_or_room_it_is_a_dump_by_table(lab: MariaDBLab, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine_of(lab) as engine:
        monkeypatch.setattr(physical, "ROOM", 1e9)
        assert backed_up(engine, lab, 1).method == "table_dump"
        monkeypatch.undo()
        lab.sql("UNINSTALL PLUGIN clone")
        assert backed_up(engine, lab, 1).method == "table_dump"
        lab.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'")


def test_what_a_killed_worker_left_of_a_clone_is_told_and_removed(lab: MariaDBLab) -> None:
    with engine_of(lab) as engine:
        with engine.server.session("looking") as session:
            left = physical._clone_folder(engine.server, session)
        left.mkdir()
        assert engine.rollback.leftovers() == [str(left)]
        assert engine.rollback.clean() == [str(left)]
        assert not left.exists()
