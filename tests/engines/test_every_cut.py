"""The cut and the fingerprints under it, of every engine."""

from __future__ import annotations

import threading
import time

import pytest

from tests.engines.lab import Lab
from tests.engines.working import KEPT, MARKER, NEW_ORDER, SMALL, count_orders, perform_all, under_cut


class TestCut:
    def test_a_reconnecting_application_gets_nothing_in(self, lab: Lab) -> None:
        lab.fill()
        stop, written, refused = threading.Event(), [0], [0]

        def storm() -> None:
            number = 100_000
            while not stop.is_set():
                number += 1
                try:
                    with lab.application() as client:
                        client.execute(NEW_ORDER.format(number=number))
                    written[0] += 1
                except Exception:  # the driver's own, which differs by product
                    refused[0] += 1
                    time.sleep(0.001)

        client = threading.Thread(target=storm)
        client.start()
        try:
            while written[0] < 3:
                time.sleep(0.01)
            with lab.engine() as engine, under_cut(engine) as gate:
                assert engine.gate.differences(gate) != []
                first, before = count_orders(engine), refused[0]
                while refused[0] < before + 3:
                    time.sleep(0.01)
                assert count_orders(engine) == first
            seen, until = written[0], time.monotonic() + 10
            while written[0] == seen and time.monotonic() < until:
                time.sleep(0.01)
            assert written[0] > seen
        finally:
            stop.set()
            client.join()

    def test_a_session_that_was_there_before_cannot_go_on(self, lab: Lab) -> None:
        lab.fill()
        with lab.application() as client:
            client.execute("SELECT count(*) FROM orders")
            with lab.engine() as engine, under_cut(engine), pytest.raises(Exception):  # noqa: B017, PT011
                client.execute("SELECT count(*) FROM orders")

    def test_everything_is_exactly_as_before_after_the_last_stage(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            engine.lock.fence()
            gate = engine.gate.read_state()
            assert engine.gate.differences(gate) == []
            engine.gate.cut(gate, MARKER)
            engine.gate.cut(gate, MARKER)
            for share in (0.1, 0.5, None, None):
                engine.gate.open(gate, share)
            assert engine.gate.differences(gate) == []
            assert engine.gate.read_state() == gate
        with lab.application() as client:
            client.execute(NEW_ORDER.format(number=100_001))

    def test_after_a_crash_the_next_claim_finds_the_state_before_and_releases(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine(token=1) as crashed, lab.engine(token=2) as engine:
            crashed.lock.fence()
            gate = crashed.gate.read_state()
            crashed.gate.cut(gate, MARKER)
            engine.lock.fence()
            assert engine.gate.read_state() == gate
            engine.gate.cut(gate, MARKER)
            assert count_orders(engine) == KEPT
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
        with lab.application() as client:
            assert client.execute("SELECT count(*) FROM orders") is not None


class TestFingerprint:
    def test_rebuilding_keeps_every_row_and_every_definition(self, lab: Lab) -> None:
        names = lab.difficult()
        with lab.engine() as engine, under_cut(engine):
            before, catalog = engine.verifier.fingerprint(None), engine.verifier.definitions()
            assert set(names) <= set(before)
            assert all(found.readable for found in before.values())
            perform_all(engine, engine.planner.plan("rebuild", engine.diagnostics.diagnose(SMALL), SMALL, None, False))
            assert engine.verifier.fingerprint(None) == before
            assert engine.verifier.definitions() == catalog
            assert [check for check in engine.verifier.check(None) if not check.passed] == []

    def test_one_changed_cell_is_seen(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            orders = engine.sessions.resolve(["orders"])[0]
            before = engine.verifier.fingerprint(orders)
            number = int(str(engine.benchmark.query("SELECT min(id) FROM orders")[0][0]))
            lab.sql(f"UPDATE orders SET note = 'another' WHERE id = {number}")
            after = engine.verifier.fingerprint(orders)
        assert before[orders[0]].rows == after[orders[0]].rows == KEPT
        assert before[orders[0]].digest != after[orders[0]].digest

    def test_the_order_of_the_rows_does_not_matter(self, lab: Lab) -> None:
        lab.fill()
        # With a key: numbers that a product gives to rows by itself are part of what must stay.
        for name, order in (("straight", "id"), ("shuffled", "note DESC, id")):
            lab.sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, customer_id INTEGER, note VARCHAR(500))")
            lab.sql(f"INSERT INTO {name} SELECT id, customer_id, note FROM orders ORDER BY {order}")
        with lab.engine() as engine:
            found = engine.verifier.fingerprint(engine.sessions.resolve(["straight", "shuffled"])[0])
        first, second = found.values()
        assert first == second
        assert first.rows == KEPT

    def test_a_changed_definition_is_seen(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            before = engine.verifier.definitions()
            lab.sql("CREATE INDEX orders_note ON orders (customer_id, status)")
            assert engine.verifier.definitions() != before
