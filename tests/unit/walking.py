"""Runs on a fake database, walked to their end."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from maintenance.auditing import chain
from maintenance.models import MaintenanceRun, MaintenanceSetting, ScopeHold
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from tests.fakes import OPEN


def state_of(setting: MaintenanceSetting) -> dict[str, Any]:
    path = setting.engine_url.database
    assert path is not None
    return dict(json.loads(Path(path).read_text()))


def go(actor: Actor, request: Request) -> MaintenanceRun:
    run = launch.launch(actor, request, enqueue=False)
    for target in run.targets.all():
        runner.advance(target.pk)
    return MaintenanceRun.objects.get(pk=run.pk)


def walked(run: MaintenanceRun) -> str:
    lines = run.targets.get().steps.filter(part="").order_by("id")
    return "".join(lines.values_list("node", flat=True))


def assert_in_service(setting: MaintenanceSetting, kept: Collection[str] = ("broken",)) -> None:
    state = state_of(setting)
    assert state["gate"] == OPEN
    assert state["marker"] is None
    assert not set(state["sides"]) - set(kept)
    assert not ScopeHold.objects.exists()
    assert chain.verify().whole
