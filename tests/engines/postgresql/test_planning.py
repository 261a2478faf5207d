"""From what diagnosis sees to what is to be done."""

from __future__ import annotations

import psycopg2
import pytest

from maintenance.engines.values import Thresholds
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import engine, wait_until


def test_a_damaged_index_is_found_without_amcheck_being_installed_and_planned_for_repair(lab: PostgreSQLLab) -> None:
    lab.fill()
    orders = lab.damage_index()
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        plan = made.planner.plan("repair", diagnosis, Thresholds(), None, False)
    assert {("damaged_index", orders), ("table_bloat", orders)} <= {(f.code, f.object) for f in diagnosis.findings}
    assert [(a.kind, a.object) for a in plan] == [("reindex", orders), ("analyze", orders)]
    assert lab.sql("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'") == [(0,)]
    assert lab.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'dbm%'") == [(0,)]


def test_optimize_plans_only_what_crosses_a_threshold_with_its_figures(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made:
        plan = made.planner.plan("optimize", made.diagnostics.diagnose(Thresholds()), Thresholds(), None, False)
    assert [(a.kind, a.object) for a in plan] == [("vacuum_full", "public.orders"), ("vacuum", "public.orders")]
    assert "60%" in plan[0].reason
    assert plan[0].stage < plan[1].stage


def test_a_question_that_fails_becomes_a_finding_and_not_a_crash(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab, user="shop_app") as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
    assert "cannot_tell" in {finding.code for finding in diagnosis.findings}
    assert len(diagnosis.tables) == 2


def test_sequences_behind_and_leftover_indexes_are_found_planned_and_put_right(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql("SELECT setval('orders_id_seq', 10)")
    with pytest.raises(psycopg2.Error):
        lab.sql("CREATE UNIQUE INDEX CONCURRENTLY orders_x_ccnew ON orders (status)")
    with engine(lab) as made:
        plan = made.planner.plan("repair", made.diagnostics.diagnose(Thresholds()), Thresholds(), None, False)
        kinds = [a.kind for a in plan]
        assert kinds == ["drop_index", "set_sequences", "analyze"]
        for planned in plan:
            made.actions.perform(planned, False)
            made.actions.perform(planned, False)  # As after a crash just behind it.
        assert all(check.passed for check in made.verifier.check(None))
    assert lab.sql("SELECT last_value FROM orders_id_seq") == [(19999,)]


def test_counters_that_began_anew_make_no_table_empty(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql("VACUUM (ANALYZE) orders")
    lab.sql("SELECT pg_stat_reset()")
    lab.sql("DELETE FROM orders WHERE id IN (SELECT id FROM orders LIMIT 80)")
    wait_until("the server counts them", lambda: lab.sql("SELECT 1 FROM pg_stat_user_tables WHERE n_dead_tup = 80"))
    with engine(lab) as made:
        [orders] = [t for t in made.diagnostics.diagnose(Thresholds()).tables if t.name == "public.orders"]
    assert orders.dead_share is not None
    assert 0 < orders.dead_share < 0.05


def test_the_bloat_of_a_table_whose_rows_nobody_counted_is_not_known(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql("CREATE TABLE fresh (id int) WITH (autovacuum_enabled = false)")
    lab.sql("INSERT INTO fresh SELECT generate_series(1, 80000)")
    lab.sql("SELECT pg_stat_reset()")
    lab.sql("DELETE FROM fresh WHERE id <= 80")
    wait_until("the server counts them", lambda: lab.sql("SELECT 1 FROM pg_stat_user_tables WHERE n_dead_tup = 80"))
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        plan = made.planner.plan("optimize", diagnosis, Thresholds(), None, False)
    assert [t.bloat_share for t in diagnosis.tables if t.name == "public.fresh"] == [None]
    assert ("vacuum_full", "public.fresh") not in [(a.kind, a.object) for a in plan]
