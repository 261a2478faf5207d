"""When a run may be called succeeded, and what keeps it from it: a table of cases, and cases drawn at random."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maintenance.engines.values import Check, Fingerprint
from maintenance.workflow.steps.verify import still_guarded
from maintenance.workflow.verdict import Evidence, failed_checks, may_succeed, objections

ORPHANS = Check("foreign key", "orders", False, "2 rows", of_rows=True)
BROKEN = Check("structure", "orders", False, "page 3")
FOUR, THREE, OTHER = Fingerprint(4, "a"), Fingerprint(3, "b"), Fingerprint(4, "c")
TORN = Fingerprint(None, None, "page 3")
WHOLE = Evidence(
    before={"orders": FOUR, "customers": THREE},
    after={"orders": FOUR, "customers": THREE},
    checks_before=[Check("structure", "orders", True)],
    checks=[Check("structure", "orders", True)],
    definitions_before=["index orders_at"],
    definitions=["index orders_at", "index fresh"],
)

OBJECTIONABLE = {
    "a row is gone": (replace(WHOLE, after={"orders": THREE, "customers": THREE}), "orders had 4 rows and has 3"),
    "a value differs": (replace(WHOLE, after={"orders": OTHER, "customers": THREE}), "or their content differs"),
    "a table is gone": (replace(WHOLE, after={"orders": FOUR}), "customers is not there any more"),
    "a table is not read": (
        replace(WHOLE, after={"orders": TORN, "customers": THREE}),
        "orders cannot be read: page 3",
    ),
    "a table is still not read": (
        replace(WHOLE, before={"orders": TORN}, after={"orders": TORN}),
        "orders cannot be read, as before the work: page 3",
    ),
    "a table that was not read is gone": (
        replace(WHOLE, before={"orders": TORN}, after={}),
        "orders is not there any more",
    ),
    "rows were lost by consent, and it cannot be read": (
        replace(WHOLE, after={"orders": TORN, "customers": THREE}, lost_by_consent={"orders"}),
        "orders cannot be read",
    ),
    "rows were lost by consent, of another table": (
        replace(WHOLE, after={"orders": THREE, "customers": THREE}, lost_by_consent={"customers"}),
        "orders had 4 rows",
    ),
    "the structure is broken anew": (replace(WHOLE, checks=[BROKEN]), "structure of orders: page 3"),
    "the structure is broken as before": (
        replace(WHOLE, checks_before=[BROKEN], checks=[BROKEN], rows_stay=True),
        "structure of orders: page 3",
    ),
    "a constraint fails anew": (replace(WHOLE, checks=[ORPHANS]), "foreign key of orders: 2 rows"),
    "a constraint fails with other rows": (
        replace(WHOLE, checks=[ORPHANS], rows_stay=True, after={"orders": FOUR, "customers": FOUR}),
        "foreign key of orders: 2 rows",
    ),
    "an index is gone": (replace(WHOLE, definitions=[]), "index orders_at is missing"),
}
FINE = {
    "nothing changed": WHOLE,
    "a constraint fails as before": replace(WHOLE, checks_before=[ORPHANS], checks=[ORPHANS]),
    "the same rows break the same constraint": replace(WHOLE, checks=[ORPHANS], rows_stay=True),
    "rows were lost by consent": replace(
        WHOLE, after={"orders": THREE, "customers": THREE}, lost_by_consent={"orders"}
    ),
    "what was not read is read": replace(WHOLE, before={"orders": TORN}, after={"orders": FOUR}),
    "a table came to it": replace(WHOLE, after={**WHOLE.after, "fresh": FOUR}),
}


@pytest.mark.parametrize("case", OBJECTIONABLE)
def test_it_may_not_be_called_succeeded(case: str) -> None:
    evidence, words = OBJECTIONABLE[case]
    assert not may_succeed(evidence)
    assert words in "; ".join(map(str, objections(evidence)))


@pytest.mark.parametrize("case", FINE)
def test_it_may_be_called_succeeded(case: str) -> None:
    assert objections(FINE[case]) == []
    assert may_succeed(FINE[case])


STRUCTURES = ("structure", "table structure", "index structure", "index can be read", "index", "readable")


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_check_of_the_structure_counts_though_it_failed_before(name: str) -> None:
    broken = Check(name, "orders", False, "page 3")
    assert not may_succeed(replace(WHOLE, checks_before=[broken], checks=[broken], rows_stay=True))


PRINTS = st.one_of(
    st.builds(Fingerprint, st.integers(0, 2), st.sampled_from("ab")),
    st.just(TORN),
)
TABLES = st.dictionaries(st.sampled_from(["a", "b", "c"]), PRINTS)
CHECKS = st.lists(
    st.builds(
        Check,
        st.sampled_from([*STRUCTURES, "foreign key", "sequence", "functional"]),
        st.sampled_from(["a", "b"]),
        st.booleans(),
        st.just("words"),
        st.booleans(),
    )
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.builds(
        Evidence,
        TABLES,
        TABLES,
        CHECKS,
        CHECKS,
        st.frozensets(st.sampled_from("xyz")),
        st.frozensets(st.sampled_from("xyz")),
        st.frozensets(st.sampled_from("abc")),
        st.booleans(),
    )
)
def test_success_is_never_more_than_what_was_proven(evidence: Evidence) -> None:
    """Whatever else is the case: a run that succeeded has read every table, with the rows or the consent."""
    if not may_succeed(evidence):
        return
    for name, was in evidence.before.items():
        now = evidence.after[name]
        assert now.readable
        assert not was.readable or was == now or name in evidence.lost_by_consent
    assert all(check.passed for check in evidence.checks if check.name in STRUCTURES)
    assert set(evidence.definitions_before) <= set(evidence.definitions)
    failing = {(c.name, c.object) for c in evidence.checks if not c.passed and not c.of_rows}
    assert failing <= {(c.name, c.object) for c in evidence.checks_before if not c.passed}


def test_what_guarded_the_data_has_to_guard_it_still() -> None:
    before = {"orders": ["ENCRYPTED=YES", "key 1"], "customers": ["key 1"]}
    now = {"orders": ["key 1"], "customers": ["key 1", "ENCRYPTED=YES"], "fresh": ["key 1"]}
    checks = still_guarded("encryption", before, now)
    assert [(check.object, check.passed) for check in checks] == [("orders", False), ("customers", True)]
    assert failed_checks(checks, []) == ["encryption of orders: lost: ENCRYPTED=YES"]
    assert still_guarded("encryption", {}, now) == []
