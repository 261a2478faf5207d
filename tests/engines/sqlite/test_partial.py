"""Maintenance of named tables."""

from __future__ import annotations

from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import (
    SMALL,
    content,
    under_cut,
)


class TestPartialMaintenance:
    def test_named_tables_are_never_a_reason_to_rewrite_the_file(self, lab: SQLiteLab) -> None:
        lab.fill()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL, ["orders"])
            kinds = [action.kind for action in engine.planner.plan("rebuild", found, SMALL, ["orders"], False)]
        assert kinds == ["remake_indexes", "analyze"]

    def test_a_damaged_index_of_a_named_table_is_repaired_in_place(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        lab.damage_index()
        with lab.engine() as engine:
            actions = engine.planner.plan(
                "repair", engine.diagnostics.diagnose(SMALL, ["orders"]), SMALL, ["orders"], False
            )
            assert [action.object for action in actions] == ["orders", "orders"]
            with under_cut(engine):
                for action in actions:
                    engine.actions.perform(action, False)
                assert all(check.passed for check in engine.verifier.check(["orders"]))
        assert content(lab) == before


def test_a_rebuild_of_the_file_makes_all_indexes_in_one_go_even_where_one_cannot_be_emptied(lab: SQLiteLab) -> None:
    lab.fill()
    before = content(lab)
    with lab.engine() as engine:
        actions = engine.planner.plan("rebuild", engine.diagnostics.diagnose(SMALL), SMALL, None, False)
    assert [action.kind for action in actions] == ["remake_all_indexes", "vacuum", "analyze_all"]
    lab.damage_index()
    with lab.engine() as engine, under_cut(engine):
        assert "1 indexes were made again" in engine.actions.perform(actions[0], False).sentence
        assert [
            check
            for check in engine.verifier.check(None, thorough=True)
            if not check.passed and "never used" not in check.detail
        ] == []
    assert content(lab) == before
