"""The line between the console and a real server is cut in the midst of the work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from sqlalchemy import URL

from chaos.faults import part_with
from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from tests.acceptance.test_maintain import ROWS, assert_open
from tests.engines.lab import Lab
from tests.proxy import Proxy, proxy

pytestmark = pytest.mark.django_db(transaction=True)
SILENCE = 6.0


@pytest.fixture
def line(lab: Lab, tmp_path: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The lab, registered by way of a proxy."""
    if lab.url.port is None:
        pytest.skip("no line leads to a file")
    settings.SILENCE_SECONDS, settings.LEASE_SECONDS = SILENCE, 8.0
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    lab.fill()
    if lab.url.get_backend_name() != "postgresql":
        lab.sql("SET GLOBAL event_scheduler = ON")
    with proxy(lab.url.port) as made:
        registered(lab, lab.url.set(host="127.0.0.1", port=made.port))
        yield made


def registered(lab: Lab, url: URL) -> None:
    """As target `shop`, with short waits."""
    Path(settings.CONFIG_FILE).write_text(json.dumps({"backup_roots": [str(lab.folder)]}))
    setting = MaintenanceSetting(
        name="shop",
        url=url.render_as_string(hide_password=False),
        backup_dir=str(lab.folder),
        stage_wait_seconds=0,
        load_seconds=0.1,
        benchmark_repeats=2,
        transient_wait_seconds=0.2,
        minimum_bytes=100_000,
        lock_seconds=4,
        cut_seconds=5,
        switch_seconds=3,
    )
    setting.full_clean()
    setting.save()


def at_the_first(monkeypatch: pytest.MonkeyPatch, verb: str, happens: Callable[[], None]) -> None:
    """`happens` a moment after this verb of the engine was begun first, while a statement of it waits."""
    door: Any = runner
    opening = door.open_engine
    times: list[str] = []

    def opened(*args: Any) -> Any:
        engine = opening(*args)
        part = part_with(engine, verb)
        usual = getattr(part, verb)

        def first(*given: Any) -> Any:
            if not times:
                times.append(verb)
                happens()
            return usual(*given)

        setattr(part, verb, first)
        return engine

    monkeypatch.setattr(runner, "open_engine", opened)


def go(someone: Actor, request: Request) -> MaintenanceRun:
    run = launch.launch(someone, request, enqueue=False)
    runner.advance(run.targets.get().pk)
    return MaintenanceRun.objects.get(pk=run.pk)


@pytest.mark.every(4, 1)
@pytest.mark.parametrize("how", ["stall", "reset"])
def test_a_line_that_breaks_is_noticed_in_time_and_the_work_goes_on(
    lab: Lab,
    line: Proxy,
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    before = lab.sql(ROWS)
    at_the_first(monkeypatch, "perform", getattr(line, how))
    begun = time.monotonic()
    run = go(someone, request_for("shop"))
    assert run.status == "succeeded", run.ended_because
    assert time.monotonic() - begun < 90
    assert lab.sql(ROWS) == before
    assert_open(lab)


@pytest.mark.rare
def test_a_line_that_stays_cut_ends_with_people_and_the_database_opens_by_itself(
    lab: Lab, line: Proxy, request_for: Callable[..., Request], someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lab.sql(ROWS)
    at_the_first(monkeypatch, "image", line.cut)
    run = go(someone, request_for("shop"))
    assert run.status == "needs_operator"
    assert "without this console: " in run.targets.get().steps.filter(node="X", part="").get().sentence
    until = time.monotonic() + 45
    while time.monotonic() < until:
        try:
            assert_open(lab)
            break
        except Exception:
            time.sleep(0.5)
    assert_open(lab)
    assert lab.sql(ROWS) == before
