"""The zoo of damage."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from maintenance.engines.base import Engine
from maintenance.engines.errors import Damaged, Unable
from maintenance.engines.messages import msg
from maintenance.engines.sqlite import SQLite
from maintenance.engines.values import Action
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import (
    SMALL,
    content,
    gets_in,
    plan,
    repaired,
    under_cut,
)


class TestRepair:
    def test_an_index_entry_that_is_only_wrong_is_found_and_made_again(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        data = lab.path.read_bytes()
        page = lab.pages("orders_status", "leaf")[1]
        lab.write(data.index(b"status ", (page - 1) * 4096), b"statuz ")
        with lab.engine() as engine:
            assert [f.code for f in engine.diagnostics.diagnose(SMALL).findings if f.severity == "high"] == [
                "index_damaged"
            ]
            assert next(a.kind for a in plan(engine, "repair")) == "reindex"
        assert repaired(lab) == []
        assert content(lab) == before

    def test_the_index_of_a_constraint_comes_back_with_its_table(self, lab: SQLiteLab) -> None:
        lab.difficult()
        with lab.engine() as engine:
            before, catalog = engine.verifier.fingerprint(None), engine.verifier.definitions()
        lab.overwrite(lab.pages("sqlite_autoindex_customers_1", "leaf")[1], b"\xff")
        assert repaired(lab) == []
        with lab.engine() as engine:
            assert engine.verifier.fingerprint(None) == before
            assert engine.verifier.definitions() == catalog
        with pytest.raises(sqlite3.IntegrityError):
            lab.sql("INSERT INTO customers (name) VALUES ('NAME 3')")

    def test_rows_behind_a_lost_root_page_all_come_back_without_leave_to_lose_any(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        lab.overwrite(lab.pages("orders", "internal")[0], b"\0")
        assert repaired(lab) == []
        assert content(lab) == before

    def test_deleted_rows_stay_deleted_when_the_tree_is_lost(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.sql("DELETE FROM orders WHERE id BETWEEN 5000 AND 15000")
        before = content(lab)
        lab.overwrite(lab.pages("orders", "internal")[0], b"\xff")
        assert repaired(lab) == []
        assert content(lab) == before

    def test_the_lost_rows_are_named(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        page = lab.pages("orders", "leaf")[3]
        lab.damage_table()
        lab.overwrite(page, b"\xff")
        (loss,) = repaired(lab, allow_data_loss=True)
        after = content(lab)
        lost = sorted(set(before) - set(after))
        assert set(after) < set(before)
        assert (loss.rows, page in loss.pages) == (len(lost), True)
        assert str(lost[0][0]) in loss.detail

    def test_without_an_index_to_count_by_the_loss_is_of_unknown_size(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.sql("DROP INDEX orders_status")
        lab.damage_table()
        (loss,) = repaired(lab, allow_data_loss=True)
        assert loss.rows is None

    def test_two_damaged_tables_do_not_get_each_others_rows(self, lab: SQLiteLab) -> None:
        lab.fill()
        copies = "SELECT id, customer_id, status, note FROM copies"
        lab.sql("CREATE TABLE copies AS SELECT id, customer_id, status, 'copy of ' || note AS note FROM orders")
        lab.sql("CREATE INDEX copies_id ON copies (id)")
        before = content(lab), lab.sql(copies)
        inner = lab.pages("orders", "internal"), lab.pages("copies", "internal")
        lab.overwrite(inner[0][1], b"\0")
        lab.overwrite(inner[1][0], b"\0")
        losses = repaired(lab, allow_data_loss=True)
        after = content(lab), lab.sql(copies)
        assert set(after[0]) <= set(before[0])
        assert set(after[1]) <= set(before[1])
        lost = {"orders": len(before[0]) - len(after[0]), "copies": len(before[1]) - len(after[1])}
        assert {loss.object: loss.rows for loss in losses} == lost

    def test_repairs_asked_for_at_once_do_not_get_in_each_others_way(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.sql("CREATE INDEX customers_name ON customers (name)")
        with lab.engine() as engine:
            before = engine.verifier.fingerprint(None)
        for table in ("orders", "customers"):
            lab.overwrite(lab.pages(table, "internal")[0], b"\0")
        with lab.engine() as engine:
            actions = [action for action in plan(engine, "repair") if action.stage == 0]
            assert len(actions) == 2
            with under_cut(engine), ThreadPoolExecutor(2) as pool:
                done = list(pool.map(lambda action: engine.actions.perform(action, False), actions))
            assert [performed.losses for performed in done] == [(), ()]
            assert engine.verifier.fingerprint(None) == before

    def test_every_kind_of_table_survives_being_made_again_from_its_pages(self, lab: SQLiteLab) -> None:
        names = lab.difficult()
        lab.script(
            # Rows that do not have the column, long rows with overflow pages, and numbers of every size.
            "ALTER TABLE typed ADD COLUMN added TEXT DEFAULT 'since then'",
            "INSERT INTO typed (id, payload, weight) VALUES (9000000000, randomblob(70000), 1.5)",
            "INSERT INTO typed (id, weight) SELECT -id, -id * 1000000007 * 100 FROM customers",
        )
        with lab.engine() as engine:
            before, catalog = engine.verifier.fingerprint(None), engine.verifier.definitions()
            with under_cut(engine):
                for name in names:
                    assert moved(engine, name) == before[name]
            assert engine.verifier.fingerprint(None) == before
            assert engine.verifier.definitions() == catalog
        assert lab.sql("SELECT count(*) FROM letters WHERE letters MATCH 'dear'") == [(290,)]
        lab.sql("INSERT INTO letters (letters) VALUES ('integrity-check')")
        assert lab.sql("SELECT label FROM places WHERE west <= 7.2 AND east >= 7.2") == [("Name 7",)]
        assert lab.sql("SELECT rtreecheck('places')") == [("ok",)]

    def test_another_text_encoding_is_read_right(self, tmp_path: Path) -> None:
        lab = SQLiteLab(tmp_path / "shop")
        lab.path.unlink()
        lab.path.touch()
        lab.sql("PRAGMA encoding = 'UTF-16be'")
        with closing(sqlite3.connect(lab.path)) as connection:
            connection.execute("PRAGMA encoding = 'UTF-16be'")
            connection.execute("CREATE TABLE t (a TEXT)")
            connection.executemany("INSERT INTO t VALUES (?)", [("注文 😀",), ("",), ("x" * 9000,)])
            connection.commit()
        with lab.engine() as engine, under_cut(engine):
            before = engine.verifier.fingerprint(None)["t"]
            assert moved(engine, "t") == before

    def test_a_lost_magic_is_written_again(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        mode = lab.path.stat().st_mode
        lab.write(0, b"\xff" * 16)
        with lab.engine() as engine, under_cut(engine):
            # What is in it can be proven although SQLite cannot open it.
            assert engine.verifier.fingerprint(None)["orders"].rows == 8000
            assert not gets_in(lab)
        assert repaired(lab) == []
        assert content(lab) == before
        assert lab.path.stat().st_mode == mode

    def test_what_is_left_of_a_file_that_was_cut_short_is_saved(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        os.truncate(lab.path, lab.path.stat().st_size * 7 // 10 // 4096 * 4096)
        with pytest.raises(Damaged):
            repaired(lab)
        (loss,) = repaired(lab, allow_data_loss=True)
        after = content(lab)
        assert set(after) < set(before)
        assert len(after) > 4000
        assert (loss.object, loss.rows) == ("orders", None)

    def test_rows_whose_tables_are_lost_with_the_first_page_are_kept_beside(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        lab.overwrite(1, b"\xff")
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            assert [finding.code for finding in found.findings] == ["file_damaged"]
            plan = engine.planner.plan("repair", found, SMALL, None, True)
            assert [action.kind for action in plan] == ["salvage_file"]
            with under_cut(engine), pytest.raises(Damaged, match="not allowed"):
                engine.actions.perform(plan[0], False)
        (loss,) = repaired(lab, allow_data_loss=True)
        assert "lost_and_found" in loss.detail
        rows = lab.sql("SELECT id, c1, c2, c3 FROM lost_and_found WHERE nfield = 4 ORDER BY id")
        assert rows == before

    def test_a_file_with_nothing_readable_is_a_finding_and_not_a_crash(self, lab: SQLiteLab) -> None:
        lab.path.write_bytes(b"\xff" * 40960)
        with lab.engine() as engine:
            plan = engine.planner.plan("repair", engine.diagnostics.diagnose(SMALL), SMALL, None, True)
            with under_cut(engine), pytest.raises(Damaged, match="no page of the file follows the format"):
                engine.actions.perform(plan[0], True)
        assert lab.path.read_bytes() == b"\xff" * 40960

    @pytest.mark.parametrize("page_size", [1024, 4096])
    def test_a_lost_first_page_is_written_again_from_the_pages_of_the_schema(
        self, lab: SQLiteLab, page_size: int
    ) -> None:
        with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {page_size}")
            connection.execute("VACUUM")
        lab.fill()
        columns = ", ".join(f"column_{number} TEXT" for number in range(20))
        lab.script(*(f"CREATE TABLE more_{number} (id INTEGER PRIMARY KEY, {columns})" for number in range(60)))
        lab.sql("INSERT INTO more_7 (id, column_3) VALUES (1, 'kept')")
        lab.sql("PRAGMA user_version = 12")
        before = content(lab)
        with lab.engine() as engine:
            catalog = engine.verifier.definitions()
        lab.write(0, b"\xff" * page_size)
        (loss,) = repaired(lab, allow_data_loss=True)
        assert "user_version" in loss.detail
        assert content(lab) == before
        assert lab.sql("SELECT column_3 FROM more_7") == [("kept",)]
        with lab.engine() as engine:
            assert {name for name, digest in engine.verifier.definitions().items() if catalog[name] != digest} == {
                "settings"
            }
            assert [check for check in engine.verifier.check(None) if not check.passed] == []
            assert [
                finding.code
                for finding in engine.diagnostics.diagnose(SMALL).findings
                if finding.severity == "critical"
            ] == []

    def test_an_action_done_twice_is_done_once(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.damage_index()
        with lab.engine() as engine:
            actions = plan(engine, "repair")
            with under_cut(engine):
                for action in [*actions, *actions]:
                    engine.actions.perform(action, False)
                assert all(check.passed for check in engine.verifier.check(None))

    def test_an_unknown_action_is_refused(self, lab: SQLiteLab) -> None:
        with lab.engine() as engine, pytest.raises(Unable):
            engine.actions.perform(Action("orders", "drop_everything", msg("why"), msg("none"), 0, 0), True)


def moved(engine: Engine, name: str) -> object:
    """The fingerprint of a table after its rows were read page by page and put into a new one."""
    from maintenance.engines.sqlite.repair.replace import move_by_pages

    assert isinstance(engine, SQLite)
    move_by_pages(engine.file, name, allow_data_loss=False)
    return engine.verifier.fingerprint([name])[name]
