"""Going back to the image, and deaths on the way."""

from __future__ import annotations

import time

import pytest

from maintenance.engines.errors import Damaged, Unable
from maintenance.engines.values import Json
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import (
    PLAIN,
    another_process,
    content,
    gets_in,
    repaired,
    under_cut,
)


class TestRollback:
    def test_a_file_that_lost_its_header_gets_the_image_in_one_rename(self, wal_lab: SQLiteLab) -> None:
        lab = wal_lab
        lab.fill()
        before = content(lab)
        with lab.engine() as engine:
            backup = engine.backups.back_up("sqlite_backup", lab.folder, "shop", PLAIN)
            with under_cut(engine):
                image = engine.backups.image(backup, {}, lab.folder, "image", PLAIN)
            lab.write(0, bytes(200))
            # A journal of the broken file must not be played into the good one.
            lab.path.with_name("shop.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
            gate: Json = {
                "journal_mode": "wal",
                "mode": 0o644,
                "owner": lab.path.stat().st_uid,
                "group": lab.path.stat().st_gid,
            }
            side = engine.rollback.restore_beside(image, backup, PLAIN)
            engine.rollback.swap(side, gate, {})
            assert not gets_in(lab)
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
            engine.rollback.clean()
        assert content(lab) == before
        assert lab.sql("PRAGMA journal_mode") == [("wal",)]
        assert list(lab.path.parent.iterdir()) == [lab.path]

    def test_an_image_that_changed_is_not_restored(self, lab: SQLiteLab) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = engine.backups.back_up("sqlite_backup", lab.folder, "shop", PLAIN)
            with under_cut(engine):
                image = engine.backups.image(backup, {}, lab.folder, "image", PLAIN)
                with open(image.name, "r+b") as file:
                    file.seek(5000)
                    file.write(b"?")
                with pytest.raises(Damaged, match="not what was written"):
                    engine.rollback.restore_beside(image, backup, PLAIN)
            engine.rollback.clean()
            with pytest.raises(Unable, match="not there"):
                engine.rollback.restore_beside(image, backup, PLAIN)


CRASHES = """
import sys
from sqlalchemy import URL
from maintenance.engines.archive import Seal
from maintenance.engines import open_engine
from maintenance.engines.values import Image, Limits, Tag, Thresholds
from pathlib import Path
url, work, folder = URL.create("sqlite", database=sys.argv[1]), sys.argv[2], Path(sys.argv[3])
engine = open_engine(url, Tag(7, int(sys.argv[4])), Limits())
engine.lock.fence(); gate = engine.gate.read_state(); engine.gate.cut(gate, {})
small = Thresholds(minimum_bytes=10_000)
found = engine.diagnostics.diagnose(small)
backup = engine.backups.back_up("sqlite_backup", folder, "shop", Seal())
image = engine.backups.image(backup, {}, folder, "image", Seal())
print("ready", flush=True)
while True:
    if work == "swap":
        engine.rollback.swap(engine.rollback.restore_beside(image, backup, Seal()), gate, {})
    else:
        for action in engine.planner.plan(work, found, small, None, False):
            engine.actions.perform(action, False)
"""


class TestCrash:
    @pytest.mark.parametrize("work", ["rebuild", "repair", "swap"])
    def test_killed_at_any_moment_the_file_keeps_every_row(self, lab: SQLiteLab, work: str) -> None:
        lab.fill()
        before = content(lab)
        if work == "repair":
            lab.overwrite(lab.pages("orders", "internal")[0], b"\0")
        for number in range(1, 5):
            with another_process(CRASHES, str(lab.path), work, str(lab.folder), str(number)) as worker:
                time.sleep(0.03 * number)
                worker.kill()
                worker.wait()
            assert gets_in(lab)
        repaired(lab)
        assert content(lab) == before
        with lab.engine(token=9) as engine:
            engine.lock.fence()
            gate = engine.gate.read_state()
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
            engine.rollback.clean()
        assert list(lab.path.parent.iterdir()) == [lab.path]
