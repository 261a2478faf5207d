"""The plan that a person confirmed is the one that is carried out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from maintenance.engines.values import Action
from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from tests import fakes
from tests.fakes import FakeEngine
from tests.unit.walking import assert_in_service, walked

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_reports"), pytest.mark.whole]
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


def confirmed(actor: Actor, request: Request, changed: Callable[[], object] = lambda: None) -> MaintenanceRun:
    """A run of a plan that was made first; `changed` happens between the confirmation and the work."""
    agreed = launch.plan_now(actor.name, request)
    run = launch.launch(actor, request, enqueue=False, agreed=agreed)
    changed()
    runner.advance(run.targets.get().pk)
    return MaintenanceRun.objects.get(pk=run.pk)


def decided(run: MaintenanceRun) -> str:
    return run.targets.get().steps.get(node="C", part="").sentence


@pytest.mark.long
def test_exactly_the_confirmed_plan_is_carried_out(fake: Register, request_for: Ask, someone: Actor) -> None:
    fake()
    run = confirmed(someone, request_for("shop"))
    assert "exactly the plan of" in decided(run)
    assert run.agreed_plan is not None
    assert run.targets.get().plan == run.agreed_plan.actions("shop")


@pytest.mark.long
def test_a_changed_database_is_planned_again_and_told(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake()

    def grows() -> None:
        with fakes.opened(setting.engine_url.database or "") as state:
            state["tables"]["returns"], state["bytes"]["returns"] = [7], 500
            del state["tables"]["empty"]

    run = confirmed(someone, request_for("shop"), grows)
    assert run.status == "succeeded"
    assert "New: rebuild returns. No longer needed: rebuild empty." in decided(run)


def test_rows_are_never_lost_by_a_plan_nobody_saw(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    plain = FakeEngine.plan

    def damaged(self: FakeEngine, *given: Any) -> list[Action]:
        return [replace(action, kind="salvage", needs_data_loss=True) for action in plain(self, *given)]

    run = confirmed(
        someone,
        request_for("shop", allow_data_loss=True),
        lambda: monkeypatch.setattr(FakeEngine, "plan", damaged),
    )
    assert (run.status, walked(run)) == ("failed", "ABCU")
    assert "look at a new plan and confirm that" in run.ended_because
    assert_in_service(setting)
