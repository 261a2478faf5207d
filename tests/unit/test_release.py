"""Service comes back in stages, and a stage that the database does not bear is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from tests.fakes import FakeEngine

pytestmark = pytest.mark.django_db(transaction=True)
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


@pytest.mark.parametrize(
    ("failures", "stages"),
    [
        (0, ["0.10", "0.50", "all"]),
        (1, ["0.10", "0.50", "0.10", "0.50", "all"]),
    ],
)
def test_a_stage_with_errors_is_taken_back_and_tried_again(
    fake: Register,
    request_for: Ask,
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    stages: list[str],
) -> None:
    setting = fake()
    setting.functional_checks, setting.stage_wait_seconds = ["SELECT shop_works"], 0
    setting.save()
    path = Path(str(setting.engine_url.database))
    opened: list[str] = []
    left = [failures]
    open_gate, query = FakeEngine.open, FakeEngine.query

    def noted(self: FakeEngine, gate: dict[str, object], share: float | None) -> None:
        opened.append("all" if share is None else f"{share:.2f}")
        open_gate(self, gate, share)

    def failing(self: FakeEngine, sql: str) -> list[tuple[object, ...]]:
        if json.loads(path.read_text())["gate"]["limit"] == 50 and left[0]:
            left[0] -= 1
            return [(False,)]
        return query(self, sql)

    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    monkeypatch.setattr(FakeEngine, "open", noted)
    monkeypatch.setattr(FakeEngine, "query", failing)
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    runner.advance(run.targets.get().pk)
    assert opened == stages
    assert MaintenanceRun.objects.get(pk=run.pk).status == "succeeded"
    lines = run.targets.get().steps.filter(part="step back").values_list("sentence", flat=True)
    assert len(lines) == failures
    assert all("Stepped back to 10 % because of: SELECT shop_works" in line for line in lines)
