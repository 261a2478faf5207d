"""A rehearsal: the very plan and steps on a copy, with nothing of production touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.models import (
    BackupFile,
    DatabaseState,
    MaintenanceRun,
    MaintenanceSetting,
    Notification,
    RunTarget,
    ScopeHold,
    StepRecord,
)
from maintenance.observation.health import standings
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.results import estimates, rehearsal, statistics
from maintenance.results.outcome import outcome
from maintenance.views.runs import clocks
from maintenance.workflow import crashpoints, runner
from tests import fakes, records
from tests.unit.test_crashes import Camera
from tests.unit.test_deaths import die_at

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.whole]
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)


def asked(actor: Actor, request: Request) -> MaintenanceRun:
    return launch.launch(actor, request, enqueue=False, rehearsal=True)


def ended(run: MaintenanceRun) -> MaintenanceRun:
    for target in run.targets.all():
        runner.advance(target.pk)
    return MaintenanceRun.objects.get(pk=run.pk)


def database(setting: MaintenanceSetting) -> dict[str, Any]:
    """The fake database without the log of what it was asked, and without the faults that were used up."""
    state = json.loads(Path(str(setting.engine_url.database)).read_text())
    return {key: value for key, value in state.items() if key not in ("calls", "faults")}


def asked_of(setting: MaintenanceSetting) -> set[str]:
    state = json.loads(Path(str(setting.engine_url.database)).read_text())
    return {call.split(" ")[0] for call in state["calls"]}


def assert_nothing_is_left(setting: MaintenanceSetting, run: MaintenanceRun) -> None:
    path = Path(str(setting.engine_url.database))
    assert [p.name for p in path.parent.glob(f"{path.name}.*")] == []
    assert not [file.path for file in BackupFile.objects.filter(target__run=run) if Path(file.path).is_file()]
    assert not BackupFile.objects.filter(target__run=run, removed_at=None).exclude(path="").exists()
    assert not ScopeHold.objects.exists()
    assert chain.verify().whole


@pytest.fixture
def applications(settings: Any, tmp_path: Path) -> Path:
    """One application, whose commands leave a file; returns it."""
    touched = tmp_path / "touched"
    commands = {verb: ["touch", str(touched)] for verb in ("stop", "start", "check")}
    settings.CONFIG_FILE.write_text(json.dumps({"applications": {"shop-web": {**commands, "timeout_seconds": 5}}}))
    return touched


@pytest.mark.parametrize("kind", ["optimize", "rebuild", "repair"])
def test_a_rehearsal_does_all_of_it_on_a_copy(
    kind: str, fake: Register, request_for: Ask, someone: Actor, applications: Path
) -> None:
    setting = fake()
    MaintenanceSetting.objects.filter(pk=setting.pk).update(applications=["shop-web"])
    before = database(setting)
    run = ended(asked(someone, request_for("shop", maintenance_type=kind)))
    assert run.status == "succeeded", run.ended_because
    assert database(setting) == before
    assert asked_of(setting) == {"diagnose", "copy_for_rehearsal"}, "the database itself is only looked at and copied"
    assert not applications.exists(), "no application was asked or told anything"
    assert_nothing_is_left(setting, run)
    [told] = outcome(run)["targets"]
    assert told["outage_seconds"] == 0
    assert {a["action"] for a in told["actions"]} == {kind}
    assert told["integrity"]["problems"] == []
    assert told["rehearsal"]["copy"]["by_file"]
    expected = told["rehearsal"]
    assert 0 < expected["expected_outage_low"] < expected["expected_outage_seconds"] < expected["expected_outage_high"]
    assert [piece["step"] for piece in expected["pieces"] if piece["part"] == "fingerprint"] == ["cut_connections"]
    assert not Notification.objects.exists()


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        ({"diagnose": ["permanent"]}, "failed"),
        ({"copy_for_rehearsal": ["permanent"] * 3}, "failed"),
        ({"back_up": ["permanent"]}, "succeeded"),
        ({"cut": ["permanent"]}, "failed"),
        ({"perform": ["permanent"]}, "rolled_back"),
        ({"perform": ["damage"], "restore_beside": ["permanent"]}, "failed"),
        ({"open_gate": ["permanent"]}, "failed"),
        ({"measure": ["permanent"]}, "succeeded"),
    ],
)
def test_what_would_fail_fails_on_the_copy_alone(
    faults: dict[str, list[str]], status: str, fake: Register, request_for: Ask, someone: Actor
) -> None:
    """Where the maintenance would call people, the rehearsal fails: production needs nobody."""
    setting = fake(**faults)
    before = database(setting)
    run = ended(asked(someone, request_for("shop")))
    assert run.status == status, run.ended_because
    assert database(setting) == before
    assert asked_of(setting) - {"clean"} <= {"diagnose", "copy_for_rehearsal"}
    assert_nothing_is_left(setting, run)


@pytest.mark.long
def test_a_death_at_any_point_leaves_no_copy_and_no_trace(
    fake: Register,
    request_for: Ask,
    someone: Actor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    camera = Camera(tmp_path)
    monkeypatch.setattr(crashpoints, "point", camera)
    setting = fake(perform=["damage"])
    before = database(setting)
    target = asked(someone, request_for("shop")).targets.get()
    deaths = camera.of(target.pk, range(1, 1000, 9))
    for death in deaths:
        camera.back_to(death)
        camera.of(target.pk)
        run = MaintenanceRun.objects.get(pk=target.run_id)
        assert run.status in ("succeeded", "rolled_back", "failed"), (death.point, run.ended_because)
        assert database(setting) == before, death.point
        assert_nothing_is_left(setting, run)
    assert len(deaths) > 8


@pytest.mark.long
def test_a_rehearsal_whose_workers_keep_dying_needs_no_operator(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    setting = fake()
    before = database(setting)
    run = asked(someone, request_for("shop"))
    for _ in range(2):
        die_at(run.targets.get(), "action.started")
    for _ in range(2):
        die_at(run.targets.get(), "fake.open_gate.before")
    run = ended(run)
    assert run.status == "failed", run.ended_because
    assert database(setting) == before
    assert_nothing_is_left(setting, run)


def test_a_database_that_cannot_be_rehearsed_on_is_refused_in_one_sentence(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    setting = fake()
    with fakes.opened(str(setting.engine_url.database)) as state:
        state["not to be copied"] = True
    with pytest.raises(launch.BadInput, match="shop: it cannot be copied"):
        asked(someone, request_for("shop"))
    assert not MaintenanceRun.objects.exists()


def test_a_rehearsal_counts_in_no_figures(fake: Register, request_for: Ask, someone: Actor) -> None:
    fake()
    run = ended(asked(someone, request_for("shop")))
    assert run.status == "succeeded"
    assert statistics.success()["all"] == 0
    assert statistics.faster()["count"] == 0
    assert statistics.recent() == []
    assert estimates.usual_outage("shop", "optimize") is None
    assert estimates.usual_durations("shop", "optimize") == []
    assert not DatabaseState.objects.filter(source=DatabaseState.Source.AFTER).exists()
    [standing] = standings()
    assert (standing.last, standing.backup_at) == (None, None)


@pytest.mark.long
def test_a_launch_refers_to_the_rehearsal_of_the_same_work(fake: Register, request_for: Ask, someone: Actor) -> None:
    fake()
    first = ended(asked(someone, request_for("shop")))
    ended(asked(someone, request_for("shop", maintenance_type="optimize")))
    run = ended(launch.launch(someone, request_for("shop"), enqueue=False))
    assert run.rehearsed_in == first
    assert outcome(run)["rehearsed_in"] == str(first.pk)
    other = launch.launch(someone, request_for("shop", target_tables=["orders"]), enqueue=False)
    assert other.rehearsed_in is None


def test_a_rehearsal_waits_for_nobody_and_holds_the_lock(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake()
    MaintenanceSetting.objects.filter(pk=setting.pk).update(approval_severities=["high", "critical", "medium"])
    run = asked(someone, request_for("shop"))
    assert run.status == "queued"
    with pytest.raises(launch.Locked):
        launch.launch(someone, request_for("shop"), enqueue=False)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "failed"},
        {"finished_at": timezone.now() - timedelta(days=8)},
        {"allow_data_loss": True},
        {"maintenance_type": "repair"},
        {"target_tables": ["orders"]},
        {"target_databases": ["crm"]},
        {"rehearsal": False},
    ],
)
@pytest.mark.long
def test_a_launch_refers_to_no_rehearsal_that_says_nothing_of_it(
    change: dict[str, Any], fake: Register, request_for: Ask, someone: Actor
) -> None:
    fake()
    earlier = ended(asked(someone, request_for("shop")))
    MaintenanceRun.objects.filter(pk=earlier.pk).update(**change)
    assert launch.launch(someone, request_for("shop"), enqueue=False).rehearsed_in is None


def took(run: MaintenanceRun, **seconds: float) -> None:
    """Let steps of its journal have taken so long."""
    for line in run.targets.get().steps.filter(node__in=rehearsal.OUT):
        length = timedelta(seconds=seconds.get(line.step, 0.0) if not line.part else seconds.get(line.part, 0.0))
        StepRecord.objects.filter(pk=line.pk).update(finished_at=line.started_at + length)


@pytest.mark.usefixtures("applications")
@pytest.mark.long
def test_the_expected_outage_is_what_the_steps_took_and_the_applications_the_last_time(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    setting = fake()
    run = ended(asked(someone, request_for("shop")))
    took(run, cut_connections=2, maintain=10, verify=3, resume=1, fingerprint=100)
    expected = rehearsal.expected_outage(run.targets.get())
    assert expected is not None
    assert (expected.seconds, expected.low, expected.high) == (16, 12, 20)
    real = records.finished_run(tables=1).targets.get()
    records.add_step(real, "E", "stop_applications", 20, 4, part="stop shop-web")
    records.add_step(real, "J", "resume", 60, 2, part="start shop-web")
    MaintenanceSetting.objects.filter(pk=setting.pk).update(applications=["shop-web"])
    later = ended(asked(someone, request_for("shop")))
    took(later, maintain=10)
    expected = rehearsal.expected_outage(later.targets.get())
    assert expected is not None
    assert expected.seconds == 16
    assert rehearsal.expected_outage(run.targets.get()).seconds == 16, "what came later changes no report"  # type: ignore[union-attr]


@pytest.mark.long
def test_the_interval_spans_how_maintenances_after_a_rehearsal_took(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    fake()
    first = ended(asked(someone, request_for("shop")))
    took(first, maintain=10)
    for seconds in (8, 11, 13):
        real = ended(launch.launch(someone, request_for("shop"), enqueue=False))
        target = real.targets.get()
        begun = timezone.now()
        RunTarget.objects.filter(pk=target.pk).update(
            outage_started_at=begun, outage_ended_at=begun + timedelta(seconds=seconds)
        )
    again = ended(asked(someone, request_for("shop")))
    took(again, maintain=20)
    expected = rehearsal.expected_outage(again.targets.get())
    assert expected is not None
    assert [round(s, 6) for s in (expected.low, expected.seconds, expected.high)] == [16, 20, 26]
    assert "3 maintenances" in expected.basis
    [clock] = clocks(again.targets.get(), over=True)
    assert clock.note.startswith("expected outage, 00:00:16 to 00:00:26")


def test_a_rehearsal_that_did_not_come_to_its_end_tells_no_outage(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    fake(perform=["permanent"])
    run = ended(asked(someone, request_for("shop")))
    assert rehearsal.expected_outage(run.targets.get()) is None
    assert clocks(run.targets.get(), over=True) == []


def test_a_console_that_cannot_begin_any_more_names_the_copy_that_it_leaves(
    fake: Register, request_for: Ask, someone: Actor, settings: Any
) -> None:
    setting = fake()
    run = asked(someone, request_for("shop"))
    die_at(run.targets.get(), "action.started")
    settings.CONFIG_FILE.write_text("{ this is not JSON")
    for _ in range(runner.LAST_ATTEMPT):
        RunTarget.objects.filter(run=run).update(lease_until=None)
        runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == "failed"
    assert (
        f"its copy {setting.engine_url.database}.rehearsal{run.targets.get().pk} is to be removed" in run.ended_because
    )
