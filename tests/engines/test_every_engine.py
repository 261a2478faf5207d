"""What every engine promises to the procedure. The same sentences for each product."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from maintenance.engines import open_engine
from maintenance.engines.errors import AccessDenied, EngineError, Interrupted, Unreachable
from maintenance.engines.values import Limits, Tag
from tests.engines.lab import Lab
from tests.engines.working import KEPT, MARKER, PLAIN, SMALL, backed_up, count_orders, imaged, perform_all, under_cut


class TestWhoIsIt:
    def test_the_same_database_says_the_same_of_itself_twice(self, lab: Lab) -> None:
        with lab.engine() as engine, lab.engine(token=2) as again:
            assert engine.sessions.facts() == again.sessions.facts()
            product = {"mysql": "MySQL", "mariadb": "MariaDB", "sqlite": "SQLite", "postgresql": "PostgreSQL"}[
                engine.name
            ]
            assert product in engine.sessions.facts().version
            assert product in engine.diagnostics.diagnose(SMALL).version
            assert not engine.sessions.facts().is_replica

    def test_a_database_that_cannot_be_reached_is_one_clear_sentence_without_the_password(self, lab: Lab) -> None:
        if lab.url.get_backend_name() == "sqlite":
            url = lab.url.set(database=f"{lab.url.database}.absent")
        else:
            url = lab.url.set(username="nobody_here", password="hunter2-secret")
        engine = open_engine(url, Tag(7, 1), Limits())
        try:
            with pytest.raises((AccessDenied, Unreachable)) as told:
                engine.sessions.facts()
        finally:
            engine.close()
        assert "hunter2-secret" not in str(told.value)
        assert str(told.value).startswith("Failed while ")
        assert "\n" not in str(told.value)

    def test_tables_are_found_by_every_way_to_write_their_names(self, lab: Lab) -> None:
        names = lab.difficult()
        with lab.engine() as engine:
            assert engine.sessions.resolve(names) == (names, [])
            assert engine.sessions.resolve(["no_such_table", names[0], names[0]]) == ([names[0]], ["no_such_table"])


class TestDiagnosis:
    def test_deleted_rows_are_found_as_bloat(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            orders = engine.sessions.resolve(["orders"])[0][0]
        assert any("bloat" in f.code or "dead" in f.code for f in found.findings if f.object == orders)
        assert found.size_bytes > 0
        assert found.health < 100

    def test_optimize_plans_work_for_the_bloated_table_and_none_for_a_tidy_database(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            plan = engine.planner.plan("optimize", found, SMALL, None, False)
            assert plan
            with under_cut(engine):
                perform_all(engine, plan)
                again = engine.diagnostics.diagnose(SMALL)
                left = engine.planner.plan("optimize", again, SMALL, None, False)
        assert [action.kind for action in left] == []
        assert again.size_bytes < found.size_bytes

    def test_a_sound_database_needs_no_repair_and_rebuild_does_everything(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            # An engine whose check would harm a sick server plans the check itself.
            assert all("check" in action.kind for action in engine.planner.plan("repair", found, SMALL, None, False))
            rebuild = engine.planner.plan("rebuild", found, SMALL, None, False)
        assert rebuild
        assert all(action.reason and action.lock for action in rebuild)

    def test_planning_for_one_table_leaves_the_others_alone(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            orders = engine.sessions.resolve(["orders"])[0]
            plan = engine.planner.plan("rebuild", engine.diagnostics.diagnose(SMALL, orders), SMALL, orders, False)
        assert plan
        assert all("orders" in action.object and "customers" not in action.object for action in plan)


class TestBenchmark:
    def test_the_same_work_costs_the_same_twice_and_the_list_stays(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine, under_cut(engine):
            queries = engine.benchmark.queries(None)
            assert queries
            assert queries == engine.benchmark.queries(None)
            for query in queries:
                first, second = engine.benchmark.measure(query, 3), engine.benchmark.measure(query, 3)
                assert first.error is None
                assert len(first.times_ms) == 3
                assert (first.cost, first.cost_unit) == (second.cost, second.cost_unit)

    def test_an_error_is_part_of_the_sample(self, lab: Lab) -> None:
        with lab.engine() as engine:
            sample = engine.benchmark.measure("SELECT * FROM no_such_table", 2)
        assert sample.error
        assert sample.times_ms == ()

    @pytest.mark.parametrize("statement", ["DELETE FROM orders", "DROP TABLE orders", "CREATE TABLE new (a INTEGER)"])
    def test_a_functional_check_cannot_write(self, lab: Lab, statement: str) -> None:
        lab.fill()
        with lab.engine() as engine:
            with pytest.raises(EngineError):
                engine.benchmark.query(statement)
            assert count_orders(engine) == KEPT

    def test_a_statement_behind_a_semicolon_does_not_leave_the_transaction_that_cannot_write(self, lab: Lab) -> None:
        """Who does not know each product's quoting may take the semicolon for a part of a text or a comment."""
        lab.fill()
        with lab.engine() as engine:
            for statement in (
                "SELECT 1; COMMIT; DROP TABLE orders",
                r"SELECT E'\''; COMMIT; DROP TABLE orders; --'",
                "SELECT 1 AS a$b$; COMMIT; DROP TABLE orders; SELECT 1 AS a$b$",
                "SELECT 1 --\r; COMMIT; DROP TABLE orders",
                "/* /* */ ' */ SELECT 1; COMMIT; DROP TABLE orders; --'",
            ):
                with suppress(EngineError):
                    engine.benchmark.query(statement)
                engine.benchmark.measure(statement, 1)
                assert count_orders(engine) == KEPT, statement

    def test_a_short_load_test_counts_its_requests(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine, under_cut(engine):
            load = engine.benchmark.load_test(["SELECT count(*) FROM customers"], 0.3, 2)
        assert load.requests > 0
        assert load.errors == 0

    def test_a_load_test_goes_on_behind_a_question_that_fails(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine, under_cut(engine):
            load = engine.benchmark.load_test(["SELECT count(*) FROM customers", "SELECT nothing FROM customers"], 1, 2)
        assert load.errors > 0
        assert load.requests > load.errors
        assert load.p50_ms is not None


class TestInterrupt:
    def test_work_ends_within_five_seconds_and_nothing_begins_until_it_is_cleared(self, lab: Lab) -> None:
        lab.fill()
        ended: list[BaseException] = []
        with lab.engine() as engine:

            def work() -> None:
                try:
                    engine.benchmark.query(
                        "SELECT count(*) FROM orders a, orders b, orders c WHERE a.id + b.id + c.id = 1"
                    )
                except BaseException as error:
                    ended.append(error)

            worker = threading.Thread(target=work)
            worker.start()
            time.sleep(0.5)
            assert worker.is_alive()
            begun = time.monotonic()
            engine.interrupt()
            worker.join(10)
            assert time.monotonic() - begun < 5
            assert [type(error) for error in ended] == [Interrupted]
            with pytest.raises(Interrupted):
                engine.verifier.fingerprint(None)
            engine.clear_interrupt()
            assert count_orders(engine) == KEPT


class TestAfterwards:
    def test_nothing_of_ours_is_left(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            catalog = engine.verifier.definitions()
            backup = backed_up(engine, lab)
            with under_cut(engine) as gate:
                _, image = imaged(engine, lab, backup)
                side = engine.rollback.restore_beside(image, backup, PLAIN)
                engine.rollback.swap(side, gate, MARKER)
            assert engine.rollback.leftovers() != []
            assert engine.rollback.clean() != []
            assert engine.rollback.leftovers() == []
            assert engine.rollback.clean() == []
            assert engine.verifier.definitions() == catalog
            assert engine.gate.differences(gate) == []
        # An image that is a dump belongs to the backup.
        assert set(lab.folder.iterdir()) <= {backup.path, image.path}

    def test_what_is_to_be_kept_stays(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = backed_up(engine, lab)
            with under_cut(engine) as gate:
                _, image = imaged(engine, lab, backup)
                broken = engine.rollback.swap(engine.rollback.restore_beside(image, backup, PLAIN), gate, MARKER)
            engine.rollback.clean(keep=[broken])
            assert any(broken in left for left in engine.rollback.leftovers())
            engine.rollback.clean()
            assert engine.rollback.leftovers() == []


def test_an_administrator_lacks_nothing_and_a_stranger_is_told_what_to_ask_for(lab: Lab) -> None:
    with lab.engine() as engine:
        assert [grant.statement for grant in engine.privileges.grants() if not grant.given] == []
        asked = engine.privileges.grants("stranger")
    assert asked
    assert all(grant.purpose for grant in asked)
    assert not asked[0].given
    assert "stranger" in asked[0].statement
