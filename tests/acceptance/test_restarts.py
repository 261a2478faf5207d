"""The target's server crashes in the midst of each step and is started again: no row is lost, service comes back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from maintenance.engines.errors import Unable
from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.requests.launch import Actor, Request
from tests.acceptance.test_maintain import ROWS, assert_open
from tests.acceptance.test_network import at_the_first, go, registered
from tests.acceptance.test_rollback import breaking
from tests.engines.lab import Lab

Ask = Callable[..., Request]
KEEPER = ThreadPoolExecutor(1)
"""A private server ends with the thread that started it: this one lasts as long as the tests."""
pytestmark = pytest.mark.django_db(transaction=True)


WORKING = [
    "diagnose", "back_up", "arm", "cut", "recount", "image", "disarm", "perform", "check_again", "fingerprint",
    "measure_all", "load_test", "open", "clean",
]  # fmt: skip
"""At least one verb of every step, from B (diagnose) to K (clean up)."""
ROLLING_BACK = ["restore_beside", "swap"]


@pytest.mark.every(9, 7)
@pytest.mark.parametrize("verb", WORKING)
def test_a_crash_of_the_server(
    lab: Lab, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    run = crashed_at(lab, monkeypatch, verb, lambda: go(someone, request_for("shop")))
    assert run.status in ("succeeded", "rolled_back", "failed"), run.ended_because


@pytest.mark.every(5, 3)
@pytest.mark.parametrize("verb", ROLLING_BACK)
def test_a_crash_of_the_server_during_the_rollback(
    lab: Lab, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    if lab.url.port is not None:
        breaking(lab, monkeypatch, Unable("rewriting", "orders", "it broke"))
    run = crashed_at(lab, monkeypatch, verb, lambda: go(someone, request_for("shop")))
    assert run.status == "rolled_back", run.ended_because


def crashed_at(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, verb: str, maintain: Callable[[], MaintenanceRun]
) -> MaintenanceRun:
    """A maintenance during which the server crashed once. What was there before is there after it."""
    if lab.url.port is None:
        pytest.skip("a file has no server")
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    lab.fill()
    before = lab.sql(ROWS)
    registered(lab, lab.url)
    MaintenanceSetting.objects.update(transient_wait_seconds=4)  # as long as a restart takes
    with lab.engine(target=99) as engine:
        gate = engine.gate.read_state()
    crashes: list[str] = []
    at_the_first(monkeypatch, verb, lambda: crashes.append(crash(lab)))
    run = maintain()
    assert crashes, f"{verb} was never begun"
    assert lab.sql(ROWS) == before
    assert_open(lab)
    with lab.engine(target=99) as engine:
        assert engine.gate.differences(gate) == []
    return run


def crash(lab: Lab) -> str:
    """Without a word to anybody, and started again at once. Returns the server's name."""
    server: Any = lab.server  # type: ignore[attr-defined]
    server = getattr(server, "server", server)
    server.kill()
    KEEPER.submit(server.start).result()
    return lab.url.get_backend_name()
