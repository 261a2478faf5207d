"""Which failed checks are the fault of the work."""

from __future__ import annotations

from dataclasses import asdict

from maintenance.engines.values import Check
from maintenance.workflow.steps.verify import failed_checks, kept

ORPHANS = Check("foreign key", "orders", False, "2 rows", of_rows=True)
BROKEN = Check("structure", "orders", False, "page 3")


def test_a_failure_that_was_there_before_is_not_new() -> None:
    assert failed_checks([BROKEN], [asdict(BROKEN)], repairing=False) == []
    assert failed_checks([BROKEN], [], repairing=False) == ["structure of orders: page 3"]


def test_a_repair_has_to_mend_the_structure() -> None:
    assert failed_checks([BROKEN], [asdict(BROKEN)], repairing=True) == ["structure of orders: page 3"]


def test_the_same_rows_break_the_same_constraints() -> None:
    assert failed_checks([ORPHANS], [], repairing=False, same_rows=True) == []
    assert failed_checks([ORPHANS], [], repairing=False) == ["foreign key of orders: 2 rows"]


def test_the_same_rows_say_nothing_of_the_structure() -> None:
    assert failed_checks([BROKEN], [], repairing=False, same_rows=True) == ["structure of orders: page 3"]


def test_what_guarded_the_data_has_to_guard_it_still() -> None:
    before = {"orders": ["ENCRYPTED=YES", "key 1"], "customers": ["key 1"]}
    now = {"orders": ["key 1"], "customers": ["key 1", "ENCRYPTED=YES"], "fresh": ["key 1"]}
    checks = kept("encryption", before, now)
    assert [(check.object, check.passed) for check in checks] == [("orders", False), ("customers", True)]
    assert failed_checks(checks, []) == ["encryption of orders: lost: ENCRYPTED=YES"]
    assert kept("encryption", None, now) == []
