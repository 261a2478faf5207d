"""The target's server crashes in the midst of each step and is started again: no row is lost, service comes back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from maintenance.launch import Actor, Request
from maintenance.models import MaintenanceSetting
from tests.acceptance.test_maintain import ROWS, assert_open
from tests.acceptance.test_network import at_the_first, go, registered
from tests.engines.lab import Lab

KEEPER = ThreadPoolExecutor(1)
"""A private server ends with the thread that started it: this one lasts as long as the tests."""
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("verb", ["back_up", "cut", "image", "perform", "check", "open_gate"])
def test_a_crash_of_the_server(
    lab: Lab,
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    if lab.url.port is None:
        pytest.skip("a file has no server")
    monkeypatch.setattr("maintenance.ending.make_reports", lambda run: None)
    lab.fill()
    before = lab.sql(ROWS)
    registered(lab, lab.url)
    MaintenanceSetting.objects.update(transient_wait_seconds=4)  # as long as a restart takes
    with lab.engine(target=99) as engine:
        gate = engine.read_gate()
    at_the_first(monkeypatch, verb, lambda: crash(lab))
    run = go(someone, request_for("shop"))
    assert run.status in ("succeeded", "rolled_back", "failed"), run.ended_because
    assert lab.sql(ROWS) == before
    assert_open(lab)
    with lab.engine(target=99) as engine:
        assert engine.gate_differences(gate) == []


def crash(lab: Lab) -> None:
    """Without a word to anybody, and started again at once."""
    server: Any = lab.server  # type: ignore[attr-defined]
    server = getattr(server, "server", server)
    server.kill()
    KEEPER.submit(server.start).result()
