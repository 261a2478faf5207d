"""Rollback and repair of every engine."""

from __future__ import annotations

from maintenance.engines.errors import Damaged
from tests.engines.lab import Lab
from tests.engines.working import (
    KEPT,
    MARKER,
    NEW_ORDER,
    PLAIN,
    SMALL,
    backed_up,
    imaged,
    perform_all,
    spoil,
    under_cut,
)


class TestRollback:
    def test_rows_committed_after_the_backup_survive(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = backed_up(engine, lab)
            with lab.application() as client:
                client.execute(NEW_ORDER.format(number=100_001))
            with under_cut(engine) as gate:
                baseline, image = imaged(engine, lab, backup)
                spoil(engine, lab, "DELETE FROM orders WHERE id < 500")
                assert engine.verifier.fingerprint(None) != baseline
                side = engine.rollback.restore_beside(image, backup, PLAIN)
                assert engine.verifier.fingerprint(None, side) == baseline
                broken = engine.rollback.swap(side, gate, MARKER)
                assert engine.rollback.swap(side, gate, MARKER) == broken
                assert engine.verifier.fingerprint(None) == baseline
                assert broken
            assert engine.gate.differences(gate) == []
            engine.rollback.clean()
        with lab.application() as client:
            assert list(client.execute("SELECT note FROM orders WHERE id = 100001")) == [("after the backup",)]

    def test_a_difficult_schema_comes_back_as_it_was(self, lab: Lab) -> None:
        lab.difficult()
        with lab.engine() as engine:
            backup = backed_up(engine, lab)
            with under_cut(engine) as gate:
                baseline, image = imaged(engine, lab, backup)
                catalog = engine.verifier.definitions()
                side = engine.rollback.restore_beside(image, backup, PLAIN)
                assert engine.verifier.fingerprint(None, side) == baseline
                # Some products can give views, routines and the like their place only after the swap.
                assert engine.verifier.definitions(side).items() <= catalog.items()
                engine.rollback.swap(side, gate, MARKER)
                assert engine.verifier.fingerprint(None) == baseline
                assert engine.verifier.definitions() == catalog
            engine.rollback.clean()
            assert engine.gate.differences(gate) == []


class TestRepair:
    def test_a_damaged_index_is_made_again_without_losing_a_row(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            before = engine.verifier.fingerprint(None)
        lab.damage_index()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            with under_cut(engine):
                plan = engine.planner.plan("repair", found, SMALL, None, False)
                assert plan or engine.planner.plan("rebuild", found, SMALL, None, False)
                assert perform_all(engine, plan or engine.planner.plan("rebuild", found, SMALL, None, False)) == []
                assert engine.verifier.fingerprint(None) == before
                assert [check for check in engine.verifier.check(None) if not check.passed] == []

    def test_rows_that_cannot_be_read_are_not_given_up_without_leave(self, lab: Lab) -> None:
        lab.fill()
        orders = lab.damage_table()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            with under_cut(engine):
                before = engine.verifier.fingerprint([orders])
                plan = engine.planner.plan("repair", found, SMALL, None, False)
                try:
                    assert perform_all(engine, plan) == []
                except Damaged:
                    pass
                assert engine.verifier.fingerprint([orders]) == before

    def test_with_leave_every_lost_row_is_counted(self, lab: Lab) -> None:
        lab.fill()
        orders = lab.damage_table()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            with under_cut(engine):
                losses = perform_all(engine, engine.planner.plan("repair", found, SMALL, None, True), True)
                after = engine.verifier.fingerprint([orders])[orders]
                assert [check for check in engine.verifier.check(None) if not check.passed] == []
        assert after.readable
        assert after.rows is not None
        assert after.rows > KEPT / 2
        assert losses or after.rows == KEPT
        assert all(loss.object == orders and loss.detail for loss in losses)
        if all(loss.rows is not None for loss in losses):
            assert after.rows + sum(loss.rows or 0 for loss in losses) == KEPT
