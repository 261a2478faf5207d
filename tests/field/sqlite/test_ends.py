"""How a run ends on a file that cannot be locked, opened or mended: free, and byte for byte as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Console, console, migrated
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import (
    PLAIN,
    READER,
    SMALL,
    another_process,
    content,
    gets_in,
    perform_all,
    plan,
    under_cut,
)

__all__ = ["console", "migrated"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def filled(place: Path, journal_mode: str) -> SQLiteLab:
    lab = SQLiteLab(place / "shop", journal_mode)
    lab.fill()
    return lab


def maintained(console: Console, lab: SQLiteLab, kind: str, *more: str) -> dict[str, Any]:
    console.configure()
    console.register(lab, "shop", "cut_seconds=1", "lock_seconds=1")
    _, outcome = console.maintain(kind, "--database", "shop", *more)
    target = outcome["targets"][0]
    assert isinstance(target, dict)
    return target


def test_a_file_that_is_open_elsewhere_ends_failed_and_free(console: Console, tmp_path: Path) -> None:
    lab = filled(tmp_path, "wal")
    before = digest(lab.path)
    with another_process(READER, str(lab.path)) as reader:
        target = maintained(console, lab, "rebuild")
        assert gets_in(lab)
    assert (target["status"], target["outage_lasts"]) == ("failed", False)
    assert f"process {reader.pid} " in target["ended_because"]
    assert digest(lab.path) == before
    assert not [path.name for path in lab.path.parent.iterdir() if "dbm" in path.name]


def without_schema(lab: SQLiteLab) -> None:
    lab.write(100, bytes(3996))


def shortened(lab: SQLiteLab) -> None:
    without_schema(lab)
    with open(lab.path, "r+b") as file:
        file.truncate(lab.path.stat().st_size - 10)


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
@pytest.mark.parametrize("spoil", [without_schema, shortened])
def test_a_file_without_its_schema_ends_free(
    console: Console, tmp_path: Path, journal_mode: str, spoil: Callable[[SQLiteLab], None]
) -> None:
    lab = filled(tmp_path, journal_mode)
    spoil(lab)
    before = digest(lab.path)
    target = maintained(console, lab, "repair", "--allow-data-loss")
    if target["status"] == "needs_operator":
        done = console.run("release", "shop")
        assert done.returncode == 0, done.stderr
    assert target["status"] in ("succeeded", "failed", "rolled_back"), target["ended_because"]
    assert not target["outage_lasts"]
    if target["status"] == "succeeded":
        assert [loss["object"] for loss in target["data_loss"]] == ["shop.db"]
        assert lab.sql("SELECT count(*) FROM lost_and_found WHERE nfield = 4") == [(8000,)]
    else:
        assert digest(lab.path) == before


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_a_rolled_back_file_is_the_file_before(tmp_path: Path, journal_mode: str) -> None:
    lab = filled(tmp_path, journal_mode)
    before, inode = digest(lab.path), lab.path.stat().st_ino
    with lab.engine() as engine:
        backup = engine.backups.back_up("sqlite_backup", lab.folder, "shop", PLAIN)
        with under_cut(engine) as gate:
            image = engine.backups.image(backup, {}, lab.folder, "image", PLAIN)
            assert not engine.rollback.differs(image)
            perform_all(engine, plan(engine, "rebuild"))
            assert engine.rollback.differs(image)
            engine.rollback.swap(engine.rollback.restore_beside(image, backup, PLAIN), gate, {})
            assert not engine.rollback.differs(image)
            assert not gets_in(lab)
        engine.rollback.clean()
    assert (digest(lab.path), lab.path.stat().st_ino) == (before, inode)
    assert lab.sql("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("cut", [5000, 307_000, 12_288])
def test_a_cut_file_that_cannot_be_mended_does_not_grow(console: Console, tmp_path: Path, cut: int) -> None:
    lab = filled(tmp_path, "delete")
    rows = content(lab)
    with open(lab.path, "r+b") as file:
        file.truncate(lab.path.stat().st_size - cut)
    before = digest(lab.path)
    target = maintained(console, lab, "repair")
    if target["status"] == "succeeded":  # the missing end held pages of an index alone
        assert cut == 5000
        assert content(lab) == rows
    else:
        assert target["status"] in ("rolled_back", "failed"), target["ended_because"]
        assert digest(lab.path) == before


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_a_file_whose_rows_stay_lost_is_given_back_as_it_was(tmp_path: Path, journal_mode: str) -> None:
    lab = filled(tmp_path, journal_mode)
    lab.damage_table()
    before = digest(lab.path)
    with lab.engine() as engine:
        found = engine.diagnostics.diagnose(SMALL)
        backup = engine.backups.back_up("sqlite_backup", lab.folder, "shop", PLAIN)
        with under_cut(engine) as gate:
            image = engine.backups.image(backup, {}, lab.folder, "image", PLAIN)
            perform_all(engine, engine.planner.plan("repair", found, SMALL, None, True), True)
            engine.rollback.swap(engine.rollback.restore_beside(image, backup, PLAIN), gate, {})
        engine.rollback.clean()
    assert digest(lab.path) == before


def test_to_take_the_lock_changes_no_byte(tmp_path: Path) -> None:
    """SQLite corrects a wrong number of pages in the header with the first transaction that may write."""
    lab = filled(tmp_path, "delete")
    lab.write(28, bytes(4))
    before = digest(lab.path)
    with lab.engine() as engine, under_cut(engine):
        assert not gets_in(lab)
    assert digest(lab.path) == before
