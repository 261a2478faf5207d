"""Maintenance itself: verified by its effect, told while it runs, ended when it must end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from maintenance.engines.errors import Interrupted, Transient, Unable
from maintenance.engines.values import Progress, Thresholds
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import action, engine, wait_until


def test_work_that_the_server_skips_is_a_failure(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab, user="shop_app") as made:
        for kind in ("vacuum", "vacuum_full", "analyze"):
            with pytest.raises(Unable, match=r"skipping|only table"):
                made.actions.perform(action(kind), False)


def test_rebuilding_shrinks_the_table_and_changes_no_row_nor_definition(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.difficult()
    with engine(lab) as made:
        rows, definitions = made.verifier.fingerprint(None), made.verifier.definitions()
        for planned in made.planner.plan("rebuild", made.diagnostics.diagnose(Thresholds()), Thresholds(), None, False):
            done = made.actions.perform(planned, False)
            if planned.kind == "vacuum_full" and planned.object == "public.orders":
                assert done.bytes_after is not None
                assert done.bytes_before is not None
                assert done.bytes_after < done.bytes_before / 2
        assert made.verifier.fingerprint(None) == rows
        assert made.verifier.definitions() == definitions
        assert all(check.passed for check in made.verifier.check(None)), made.verifier.check(None)
        lab.sql('ALTER TABLE "Order" ALTER COLUMN "select" SET DEFAULT 1')
        changed = made.verifier.definitions()
        assert {name for name in changed if changed[name] != definitions[name]} == {'table public."Order"'}


def test_progress_is_told_while_work_runs(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql(
        "INSERT INTO orders (customer_id, status, note) SELECT 1, 'new', repeat('x', 300) "
        "FROM generate_series(1, 150000)"
    )
    seen = []
    with engine(lab) as made:
        worker = threading.Thread(target=made.actions.perform, args=(action("vacuum_full"), False))
        worker.start()
        while worker.is_alive():
            seen += made.actions.progress()
        worker.join()
    assert {item.object for item in seen if item.object} == {"public.orders"}
    assert all(item.share is None or 0 <= item.share <= 1 for item in seen)
    assert any(item.statement.startswith("VACUUM") and item.seconds is not None for item in seen)
    assert {item.blockers for item in seen} == {()}


def test_who_blocks_the_work_is_told(lab: PostgreSQLLab) -> None:
    lab.fill()
    seen: list[Progress] = []
    with engine(lab) as made, closing(lab.server.connect(lab.name, "postgres")) as other:
        pid = other.info.backend_pid
        other.cursor().execute("BEGIN; SELECT count(*) FROM orders")
        worker = threading.Thread(target=made.actions.perform, args=(action("vacuum_full"), False))
        worker.start()

        def told() -> bool:
            seen.extend(made.actions.progress())
            return any(item.blockers for item in seen)

        wait_until("who blocks is told", told)
        other.cursor().execute("ROLLBACK")
        worker.join()
    waiting = [item for item in seen if item.blockers]
    assert [item.object for item in waiting] == [""]
    assert waiting[0].blockers == (f"pid {pid} postgres 127.0.0.1",)


def test_an_interrupt_ends_work_on_the_server_and_what_comes_later(lab: PostgreSQLLab) -> None:
    lab.fill()
    caught: list[BaseException] = []
    with engine(lab) as made:
        made.lock.fence()

        def work() -> None:
            try:
                made.benchmark.query("SELECT pg_sleep(60)")
            except BaseException as error:
                caught.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        sleeping = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
        wait_until("it sleeps", lambda: lab.sql(f"SELECT 1 {sleeping} AND state = 'active'"))
        begun = time.monotonic()
        made.interrupt()
        worker.join(5)
        assert time.monotonic() - begun < 5
        assert isinstance(caught[0], Interrupted)
        with pytest.raises(Interrupted):
            made.sessions.facts()
        assert lab.sql(f"SELECT count(*) {sleeping}") == [(0,)]
        made.clear_interrupt()
        assert made.benchmark.query("SELECT 1") == [(1,)]


def test_work_of_a_killed_process_is_given_up_by_the_server(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql(
        "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.01); RETURN 1; END $$"
    )
    lab.sql("CREATE INDEX slow ON orders (slow(id)) WHERE id > 19500")
    [before] = lab.sql("SELECT pg_relation_filenode('orders')")
    program = f"""
from sqlalchemy import make_url
from maintenance.engines import open_engine
from maintenance.engines.values import Action, Limits, Tag
from maintenance.engines.messages import msg
engine = open_engine(make_url({str(lab.url)!r}), Tag(7, 1), Limits())
engine.lock.fence()
engine.actions.perform(Action("public.orders", "vacuum_full", msg("because"), msg("none"), 1, 0), False)
"""
    child = subprocess.Popen([sys.executable, "-c", program])
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'VACUUM (FULL)%' AND state = 'active'"
    wait_until("it works", lambda: lab.sql(busy) == [(1,)])
    child.kill()
    child.wait()
    with engine(lab, token=2) as made:
        made.lock.fence()
        assert lab.sql(busy) == [(0,)]
        assert lab.sql("SELECT pg_relation_filenode('orders')") == [before]
        assert made.verifier.fingerprint(["public.orders"])["public.orders"].rows == 8000


def test_a_lock_that_is_not_given_is_transient(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab, lock_seconds=0.5) as made, lab.application("postgres") as holder:
        holder.execute("BEGIN; LOCK TABLE orders")
        with pytest.raises(Transient, match="lock timeout"):
            made.actions.perform(action("vacuum_full"), False)


def test_a_functional_check_cannot_write(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made:
        assert made.benchmark.query("SELECT count(*), ';' FROM customers; ") == [(2000,)]
        for statement in (
            "DELETE FROM orders",
            "COMMIT; DELETE FROM orders",
            "SET TRANSACTION READ WRITE; DELETE FROM orders",
        ):
            with pytest.raises(Unable):
                made.benchmark.query(statement)
    assert lab.sql("SELECT count(*) FROM orders") == [(8000,)]


def test_blocks_fall_after_a_rebuild_and_an_error_is_in_the_sample(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made:
        queries = made.benchmark.queries(None)
        assert queries == made.benchmark.queries(None)
        before = made.benchmark.measure(queries[0], 3)
        made.actions.perform(action("vacuum_full"), False)
        made.actions.perform(action("vacuum"), False)
        after = made.benchmark.measure(queries[0], 3)
        assert before.cost is not None
        assert after.cost is not None
        assert after.cost < before.cost / 2
        assert len(after.times_ms) == 3
        assert "UndefinedTable (42P01)" in str(made.benchmark.measure("SELECT * FROM nowhere", 1).error)
        assert "ReadOnlySqlTransaction" in str(made.benchmark.measure("DELETE FROM orders", 1).error)


def test_a_query_that_ends_its_session_does_not_end_the_measuring_of_the_others(lab: PostgreSQLLab) -> None:
    counting, ending = "SELECT count(*) FROM pg_class", "SELECT public.terminate()"
    lab.sql(
        "CREATE FUNCTION terminate() RETURNS bool LANGUAGE sql SECURITY DEFINER AS "
        "'SELECT pg_terminate_backend(pg_backend_pid())'"
    )
    with engine(lab) as made:
        first, ended, last = made.benchmark.measure_all([counting, ending, counting], 2)
    assert ended.error == "an error of class Transient"
    for sample in (first, last):
        assert (sample.query, sample.error, len(sample.times_ms)) == (counting, None, 2)
