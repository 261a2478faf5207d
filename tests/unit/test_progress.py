"""Overall progress, the time left with its basis, and being late: nothing of it is made up."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from maintenance.engines.values import Progress
from maintenance.models import ActionRecord, MaintenanceRun, MaintenanceSetting, RunTarget
from maintenance.workflow import progress
from maintenance.workflow.progress import Forecast

pytestmark = pytest.mark.django_db
Register = Callable[..., MaintenanceSetting]


def action(name: str, kind: str, size: int) -> dict[str, Any]:
    return {"object": name, "kind": kind, "bytes": size}


@pytest.fixture
def working(fake: Register) -> RunTarget:
    """In node G: of 1000 bytes to work on, 'big' is in hand and 'small' waits."""
    return at_work(fake(), plan=[action("big", "rewrite", 600), action("big", "clean", 100), action("small", "x", 300)])


def at_work(setting: MaintenanceSetting, ago: float = 30.0, **values: Any) -> RunTarget:
    now = timezone.now()
    run = MaintenanceRun.objects.create(
        maintenance_type="rebuild", target_databases=[setting.name], severity_level="high", reason="slow"
    )
    known: dict[str, Any] = {
        "node": "G",
        "status": "running",
        "started_at": now - timedelta(seconds=ago),
        "outage_started_at": now - timedelta(seconds=ago),
    }
    target = RunTarget.objects.create(
        run=run, setting=setting, database=setting.name, engine="fake", **{**known, **values}
    )
    if "plan" in values:
        ActionRecord.objects.create(target=target, object="big", action="rewrite", reason="")
    return target


def before(setting: MaintenanceSetting, *seconds: float) -> None:
    """Past outages of these lengths."""
    for length in seconds:
        end = timezone.now() - timedelta(days=1)
        at_work(
            setting,
            status="succeeded",
            node="K",
            outage_started_at=end - timedelta(seconds=length),
            outage_ended_at=end,
        )


def told(share: float | None) -> list[Progress]:
    return [Progress("big", share, "REWRITE big")]


def test_the_share_is_weighted_by_bytes_and_only_what_runs_counts(working: RunTarget) -> None:
    assert progress.shares(working, told(0.5))["share"] == pytest.approx(0.3)
    assert progress.shares(working, told(None))["share"] == 0.0
    ActionRecord.objects.update(state="finished")
    assert progress.shares(working, told(0.9))["share"] == pytest.approx(0.6), "the cleaning has not begun"


def test_the_pace_tells_the_time_left(working: RunTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0, 110.0])
    # Of this module alone: a thread that looks at the clock as well must not use up a look.
    monkeypatch.setattr("maintenance.workflow.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    forecast = Forecast(working.pk)
    assert forecast.look(told(0.0))["left_seconds"] is None
    assert forecast.look(told(0.4))["left_seconds"] is None, "three seconds are no basis"
    seen = forecast.look(told(0.5))
    assert seen["left_seconds"] == pytest.approx(10 * 0.7 / 0.3)
    assert seen["left_basis"] == "until the work is done, at its pace so far: 30% of the bytes in 10 s"


def test_without_a_pace_the_usual_length_is_told_as_such(fake: Register) -> None:
    setting = fake()
    before(setting, 100, 120, 140)
    seen = Forecast(at_work(setting).pk).look([])
    assert seen["left_seconds"] == pytest.approx(90, abs=2)
    assert seen["left_basis"] == "until the outage is over: its usual length, median of the last 3"
    assert Forecast(at_work(setting, ago=500).pk).look([])["left_seconds"] is None


@pytest.mark.parametrize(("ago", "late"), [(200, False), (220, True)])
def test_an_outage_far_longer_than_ever_is_late(ago: float, late: bool, fake: Register) -> None:
    setting = fake()
    before(setting, 100, 120, 140)
    assert bool(Forecast(at_work(setting, ago=ago).pk).look([])["late"]) is late


def test_work_that_will_miss_its_limit_is_late(fake: Register) -> None:
    setting = fake()
    setting.timeout_minutes, setting.reserve_minutes = 10, 5
    setting.save()
    sound = Forecast(at_work(setting, ago=250).pk).look([])
    assert not sound["late"]
    late = str(Forecast(at_work(setting, ago=350).pk).look([])["late"])
    assert re.search(r"ends 50\.\d s after its time limit", late)
