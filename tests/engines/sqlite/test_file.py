"""The file itself: missing, linked, of somebody else; and how its rows are summed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maintenance.engines.errors import AccessDenied, Unable, Unreachable
from maintenance.engines.sqlite import SQLite
from maintenance.engines.sqlite.fingerprints import fingerprint_rows
from maintenance.engines.values import Tag
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import (
    SHORT,
    SMALL,
)


class TestTheFile:
    def test_a_missing_file_is_not_made(self, tmp_path: Path) -> None:
        lab = SQLiteLab(tmp_path / "shop")
        lab.path.unlink()
        with lab.engine() as engine:
            for ask in (
                engine.sessions.facts,
                engine.gate.read_state,
                engine.lock.fence,
                lambda: engine.diagnostics.diagnose(SMALL),
            ):
                with pytest.raises(Unreachable, match="no such file"):
                    ask()
        assert list(lab.path.parent.iterdir()) == []

    def test_a_folder_and_a_relative_path_are_refused(self, lab: SQLiteLab, tmp_path: Path) -> None:
        with pytest.raises(Unreachable, match="not a file"):
            SQLite(lab.url.set(database=str(tmp_path)), Tag(7, 1), SHORT).sessions.facts()
        with pytest.raises(Unable, match="absolute"):
            SQLite(lab.url.set(database="shop.db"), Tag(7, 1), SHORT).sessions.facts()

    def test_a_link_leads_to_the_same_database(self, lab: SQLiteLab, tmp_path: Path) -> None:
        link = tmp_path / "link.db"
        link.symlink_to(lab.path)
        with lab.engine() as engine:
            assert SQLite(lab.url.set(database=str(link)), Tag(7, 1), SHORT).sessions.facts() == engine.sessions.facts()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_of_somebody_else_is_access_denied(self, lab: SQLiteLab) -> None:
        lab.path.chmod(0)
        with lab.engine() as engine, pytest.raises(AccessDenied):
            engine.sessions.facts()


def test_equal_rows_do_not_cancel_each_other_and_types_count() -> None:
    one = fingerprint_rows([(1, "a")])
    assert fingerprint_rows([(1, "a")] * 3)[1] != one[1]
    assert fingerprint_rows([(1.0, "a")]) != one
    assert fingerprint_rows([(1, b"a")]) != one
    assert fingerprint_rows([(1, None)]) != fingerprint_rows([(1, "")])
