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
            found = engine.diagnose(SMALL, ["orders"])
            kinds = [action.kind for action in engine.plan("rebuild", found, SMALL, ["orders"], False)]
        assert kinds == ["remake_indexes", "analyze"]

    def test_a_damaged_index_of_a_named_table_is_repaired_in_place(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        lab.damage_index()
        with lab.engine() as engine:
            actions = engine.plan("repair", engine.diagnose(SMALL, ["orders"]), SMALL, ["orders"], False)
            assert [action.object for action in actions] == ["orders", "orders"]
            with under_cut(engine):
                for action in actions:
                    engine.perform(action, False)
                assert all(check.passed for check in engine.check(["orders"]))
        assert content(lab) == before
