"""How often a run whose worker died is continued, ended safely, and at last left to people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from maintenance.engines.values import Action
from maintenance.models import MaintenanceRun, MaintenanceSetting, RunTarget
from maintenance.models.evidence import Proof
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.results.outcome import outcome
from maintenance.workflow import crashpoints, runner
from tests.fakes import FakeEngine
from tests.unit.test_crashes import Died, state_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)


def die_at(target: RunTarget, *points: str) -> None:
    """One worker after the other dies at the first of these points that it comes to."""

    def die(name: str) -> None:
        if name in points:
            raise Died(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crashpoints, "point", die)
        with pytest.raises(Died):
            runner.advance(target.pk)
    RunTarget.objects.filter(pk=target.pk).update(lease_until=None)


@pytest.mark.parametrize(
    ("point", "deaths", "status", "way_out"),
    [
        ("action.started", 1, "succeeded", "K"),
        ("action.started", 2, "rolled_back", "SU"),
        ("fake.cut.after", 2, "failed", "SU"),
        ("fake.back_up.after", 1, "succeeded", "K"),
        ("fake.back_up.after", 2, "failed", "DU"),
    ],
)
@pytest.mark.long
def test_a_run_is_continued_once_and_then_ended_safely(
    point: str,
    deaths: int,
    status: str,
    way_out: str,
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    before = state_of(setting)["tables"]
    for _ in range(deaths):
        die_at(run.targets.get(), point)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == status, run.ended_because
    nodes = run.targets.get().steps.filter(part="").order_by("id").values_list("node", flat=True)
    assert "".join(nodes).endswith(way_out)
    assert ("Its worker died 2 times." in run.ended_because) is (deaths == 2)
    assert state_of(setting)["marker"] is None
    assert state_of(setting)["tables"] == before


@pytest.mark.parametrize("may_lose", [True, False])
def test_what_a_worker_gave_up_before_it_died_is_not_told_as_nothing(
    may_lose: bool,
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake()
    plain = FakeEngine.plan

    def damaged(self: FakeEngine, *given: Any) -> list[Action]:
        return [replace(action, needs_data_loss=may_lose) for action in plain(self, *given)]

    monkeypatch.setattr(FakeEngine, "plan", damaged)
    run = launch.launch(someone, request_for("shop", allow_data_loss=True), enqueue=False)
    die_at(run.targets.get(), "fake.perform.after")
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == "succeeded", run.ended_because
    (target,) = outcome(run)["targets"]
    begun = [action["object"] for action in target["actions"] if action["state"] == "interrupted"]
    assert begun
    assert [(loss["object"], loss["rows"]) for loss in target["data_loss"]] == [(o, None) for o in begun if may_lose]


@pytest.mark.parametrize(("deaths", "status"), [(3, "rolled_back"), (4, "needs_operator")])
@pytest.mark.long
def test_a_run_that_keeps_dying_on_its_way_out_is_left_to_people_the_fifth_time(
    deaths: int,
    status: str,
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    for _ in range(2):
        die_at(run.targets.get(), "action.started")
    for _ in range(deaths - 2):
        die_at(run.targets.get(), "fake.open_gate.before")
    runner.advance(run.targets.get().pk)
    ended = MaintenanceRun.objects.get(pk=run.pk)
    assert ended.status == status, ended.ended_because
    assert (state_of(setting)["marker"] is not None) is (status == "needs_operator"), "left closed for people only"


@pytest.mark.parametrize(
    ("point", "status"),
    [("benchmark.started", "rolled_back"), ("resume.started", "rolled_back"), ("complete.started", "failed")],
)
@pytest.mark.long
def test_a_run_that_is_taken_up_without_its_proof_never_ends_as_succeeded(
    point: str,
    status: str,
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
) -> None:
    """However the proof got lost. Once service is back the data may not be rolled away, and the end is honest."""
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    before = state_of(setting)["tables"]
    die_at(run.targets.get(), point)
    run.targets.get().steps.filter(node="H", part="proof 1").delete()
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == status, run.ended_because
    assert "Nothing proves that all rows are there" in run.ended_because
    assert state_of(setting)["tables"] == before
    assert state_of(setting)["marker"] is None


@pytest.mark.parametrize("point", ["benchmark.started", "resume.started", "complete.started"])
@pytest.mark.long
def test_a_proof_that_found_something_never_ends_as_succeeded(
    point: str,
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
) -> None:
    fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    die_at(run.targets.get(), point)
    line = run.targets.get().steps.get(node="H", part="proof 1")
    line.keep(replace(line.evidence(Proof), problems=("orders had 4 rows and has 3",)))
    line.save()
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status in ("rolled_back", "failed")
    assert "orders had 4 rows and has 3" in run.ended_because
