"""Damage that is known, found late, or stays, on the way through the procedure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from maintenance.engines.values import Action, Diagnosis, Fingerprint, Performed
from maintenance.models import MaintenanceSetting
from maintenance.requests.launch import Actor, Request
from maintenance.results.outcome import outcome
from tests import fakes
from tests.fakes import FakeEngine
from tests.unit.walking import assert_in_service, go, state_of, walked

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_reports"), pytest.mark.whole]
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


def broken(setting: MaintenanceSetting) -> None:
    """The structure of every table of the fake fails its check from now on."""
    with fakes.opened(str(setting.engine_url.database)) as state:
        state["broken"] = True


def test_a_repair_plans_again_with_what_the_deep_look_found(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    broken(setting)
    plan, perform = FakeEngine.plan, FakeEngine.perform

    def only_what_is_known(self: FakeEngine, kind: Any, diagnosis: Diagnosis, *given: Any) -> list[Action]:
        known = replace(diagnosis, tables=tuple(t for t in diagnosis.tables if t.damaged or t.name == "orders"))
        return plan(self, kind, known, *given)

    def mend(self: FakeEngine, action: Action, allow: bool) -> Performed:
        done = perform(self, action, allow)
        with fakes.opened(self.path) as state:
            state["broken"] = action.object != "empty" and state["broken"]
        return done

    monkeypatch.setattr(FakeEngine, "plan", only_what_is_known)
    monkeypatch.setattr(FakeEngine, "perform", mend)
    run = go(someone, request_for("shop", maintenance_type="repair"))
    assert run.status == "succeeded"
    assert {a["object"] for a in outcome(run)["targets"][0]["actions"]} == {"orders", "customers", "empty"}
    assert "Planned with it: 2 operations" in run.targets.get().steps.get(part="plan again").sentence


@pytest.mark.long
def test_a_repair_that_leaves_the_structure_broken_never_succeeds(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    setting = fake()
    broken(setting)
    run = go(someone, request_for("shop", maintenance_type="repair"))
    assert (run.status, walked(run)) == ("rolled_back", "ABCDEFGHOSU")
    assert "structure of orders" in run.ended_because
    assert_in_service(setting)


def test_damage_that_no_work_is_planned_for_ends_the_run_before_the_work(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    broken(setting)
    plan = FakeEngine.plan
    monkeypatch.setattr(FakeEngine, "plan", lambda *given: [a for a in plan(*given) if a.object == "orders"])
    run = go(someone, request_for("shop", maintenance_type="rebuild"))
    assert run.status == "failed"
    assert "begin one of type repair" in run.ended_because
    assert not any(call.startswith("perform") for call in state_of(setting)["calls"])
    assert_in_service(setting)


@pytest.mark.parametrize("kind", ["optimize", "rebuild"])
def test_damage_that_diagnosis_knows_ends_the_run_before_the_outage(
    kind: str, fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    diagnose, plan = FakeEngine.diagnose, FakeEngine.plan

    def damaged(self: FakeEngine, *given: Any) -> Diagnosis:
        found = diagnose(self, *given)
        return replace(found, tables=tuple(replace(t, damaged=t.name == "customers") for t in found.tables))

    monkeypatch.setattr(FakeEngine, "diagnose", damaged)
    monkeypatch.setattr(FakeEngine, "plan", lambda *given: [a for a in plan(*given) if a.object == "orders"])
    run = go(someone, request_for("shop", maintenance_type=kind))
    assert (run.status, walked(run), run.outage_seconds) == ("failed", "ABCU", 0)
    assert "customers are damaged" in run.ended_because
    assert_in_service(setting)


@pytest.mark.parametrize("kind", ["optimize", "rebuild", "repair"])
def test_a_table_that_cannot_be_read_is_never_under_succeeded(
    kind: str, fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    fingerprint = FakeEngine.fingerprint

    def unreadable(self: FakeEngine, *given: Any) -> dict[str, Fingerprint]:
        return {**fingerprint(self, *given), "customers": Fingerprint(None, None, "page 3")}

    monkeypatch.setattr(FakeEngine, "fingerprint", unreadable)
    run = go(someone, request_for("shop", maintenance_type=kind))
    assert run.status in ("failed", "rolled_back")
    assert "page 3" in run.ended_because
    assert_in_service(setting)
