"""What a killed application leaves beside the file: committed rows in its -wal, half a transaction in its -journal."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import PLAIN, SMALL, another_process, content, under_cut

WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for pragma in ("journal_mode = " + sys.argv[2], "wal_autocheckpoint = 0", "cache_size = 5", "synchronous = OFF"):
    connection.execute("PRAGMA " + pragma)
connection.execute("UPDATE orders SET note = 'committed' WHERE id < 4000")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE orders SET note = 'never committed'")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("kind", ["rebuild", "repair"])
def test_every_committed_row_of_a_killed_application_goes_through_and_no_other(
    tmp_path: Path, mode: str, kind: str
) -> None:
    lab = SQLiteLab(tmp_path / "shop", mode)
    lab.fill()
    of_an_index = lab.pages("orders_status", "leaf")[1]
    with another_process(WRITER, str(lab.path), mode) as writer:
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
    left = lab.path.with_name(lab.path.name + {"wal": "-wal", "delete": "-journal"}[mode])
    assert left.stat().st_size > 100_000, "there is something to read from it"
    if kind == "repair":
        lab.overwrite(of_an_index, b"\xff")
    with lab.engine() as engine:
        found = engine.diagnostics.diagnose(SMALL)
        backup = engine.backups.back_up(engine.backups.methods[0], lab.folder, "shop", PLAIN)
        with under_cut(engine):
            before = engine.verifier.fingerprint(None)
            assert before["orders"].rows == 8000
            for action in engine.planner.plan(kind, found, SMALL, None, False):  # type: ignore[arg-type]
                assert engine.actions.perform(action, False).losses == ()
            assert [check for check in engine.verifier.check(None) if not check.passed] == []
            assert engine.verifier.fingerprint(None) == before
            image = engine.backups.image(backup, before, lab.folder, "image", PLAIN)
            side = engine.rollback.restore_beside(image, backup, PLAIN)
            assert engine.verifier.fingerprint(None, side) == before
        engine.rollback.clean()
        assert engine.rollback.leftovers() == []
    rows = content(lab)
    assert len(rows) == 8000
    assert {row[3] for row in rows if int(str(row[0])) < 4000} == {"committed"}
    assert not [row for row in rows if row[3] == "never committed"]
