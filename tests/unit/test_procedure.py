"""The procedure on a fake database: every way through the flowchart ends as it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db.models import F

from maintenance import tasks
from maintenance.engines.errors import Unable
from maintenance.models import MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.results.outcome import outcome
from maintenance.workflow import recovery, runner
from tests.fakes import FakeEngine
from tests.unit.walking import assert_in_service, go, state_of, walked

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_reports"), pytest.mark.whole]
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


def test_a_maintenance_walks_the_main_way(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake()
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("succeeded", "ABCDEFGHIJK")
    told = outcome(run)["targets"][0]
    assert {a["object"] for a in told["actions"]} == {"orders", "customers", "empty"}
    assert all(t["fingerprint_equal"] for t in told["integrity"]["tables"])
    assert [q["verdict"] for q in told["benchmark"]] == ["improved", "improved"]
    assert_in_service(setting)


@pytest.mark.long
def test_what_a_dead_attempt_was_writing_is_taken_away(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    backups, elsewhere = Path(setting.backup_dir), Path(setting.alternate_backup_dir)
    elsewhere.mkdir()
    torn = [
        backups / f"shop-run{run.pk}-catch-up.image.sql.zst.part",
        backups / f"shop-run{run.pk}-primary-dump.sql.zst.check.zst",
        elsewhere / f"shop-run{run.pk}-x.part.dump",
    ]
    opened = backups / f".shop-run{run.pk}-alternate-mariabackup.x1y2"
    others = backups / f"shop-run{run.pk + 1}-primary-dump.part.dump"
    for path in (*torn, others):
        path.touch()
    opened.mkdir()
    (opened / "main").touch()
    runner.advance(run.targets.get().pk)
    assert [path for path in (*torn, opened) if path.exists()] == []
    assert others.exists()
    assert [path.name for path in backups.glob(f"shop-run{run.pk}-*")] != []


@pytest.mark.long
def test_only_the_named_tables_are_worked_on(fake: Register, request_for: Ask, someone: Actor) -> None:
    fake()
    run = go(someone, request_for("shop", target_tables=["customers"]))
    told = outcome(run)["targets"][0]
    assert [a["object"] for a in told["actions"]] == ["customers"]
    assert [t["table"] for t in told["integrity"]["tables"]] == ["customers"]


def test_optimize_without_need_has_no_outage(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake()
    setting.bloat_share = 0.9
    setting.save()
    run = go(someone, request_for("shop", maintenance_type="optimize"))
    assert (run.status, walked(run), run.outage_seconds) == ("succeeded", "ABCK", 0)
    assert "cut" not in state_of(setting)["calls"]


def test_a_failing_diagnosis_asks_for_people(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake(diagnose=["permanent"])
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("failed", "ABLQ")
    assert "told to fail" in run.ended_because
    assert_in_service(setting)


def test_a_target_that_others_maintain_asks_for_people(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(engine: FakeEngine) -> int:
        raise Unable("taking the maintenance lock of", "shop", "another console holds it")

    monkeypatch.setattr(FakeEngine, "fence", taken)
    fake()
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("failed", "LQ")
    sentences = list(run.targets.get().steps.filter(node="L").values_list("sentence", flat=True))
    assert sentences == ["Failed while taking the maintenance lock of shop: another console holds it"]
    assert sentences[0] in run.ended_because


@pytest.mark.long
def test_a_failing_backup_takes_the_alternate_and_goes_on(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake(back_up=["permanent", "permanent"])
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("succeeded", "ABCDMREFGHIJK")
    files = outcome(run)["targets"][0]["backup_files"]
    assert [(f["role"], f["method"], f["verified"]) for f in files] == [
        ("primary", "dump", False),
        ("alternate", "dump", False),
        ("alternate", "copy", True),
    ]
    assert_in_service(setting)


@pytest.mark.long
def test_a_full_backup_disk_is_not_waited_for(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake(back_up=["resource"])
    setting.resource_wait_seconds = 3600
    setting.save()
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("succeeded", "ABCDMREFGHIJK")


def test_without_any_backup_the_outage_never_begins(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake(back_up=["integrity"] * 4)
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run), run.outage_seconds) == ("failed", "ABCDMRU", 0)
    assert "cut" not in state_of(setting)["calls"]


@pytest.mark.long
def test_a_failed_action_rolls_back(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake(perform=["permanent"])
    before = state_of(setting)["tables"]
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("rolled_back", "ABCDEFGNSU")
    assert state_of(setting)["tables"] == before
    assert_in_service(setting)


@pytest.mark.parametrize("kind", ["permanent", "transient", "resource", "unreachable"])
def test_a_cut_that_never_took_hold_fails_and_leaves_all_open(
    kind: str, fake: Register, request_for: Ask, someone: Actor
) -> None:
    setting = fake(cut=[kind] * 9)
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("failed", "ABCDEFSU")
    assert "told to fail" in run.ended_because
    assert_in_service(setting)


@pytest.mark.parametrize("verb", ["fingerprint", "image", "check"])
def test_what_fails_before_the_first_change_is_opened_without_reading_it_all_again(
    verb: str, fake: Register, request_for: Ask, someone: Actor
) -> None:
    setting = fake(**{verb: ["permanent"]})
    run = go(someone, request_for("shop", maintenance_type="repair"))
    calls = state_of(setting)["calls"]
    assert (run.status, walked(run)) == ("failed", "ABCDEFSU")
    assert [c for c in calls[calls.index("cut") + 1 :] if c.split()[0] == "cut"] == [], "it is not cut once more"
    assert sum(c.split()[0] == "fingerprint" for c in calls) <= 1
    assert_in_service(setting)


def test_transient_errors_are_tried_again(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake(perform=["transient", "transient"], cut=["transient"])
    run = go(someone, request_for("shop"))
    assert run.status == "succeeded"
    assert_in_service(setting)


@pytest.mark.long
def test_without_gain_there_is_one_more_round_and_then_honesty(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maintenance.workflow.steps.benchmark.shrank", lambda ctx: False)
    setting = fake()
    setting.benchmark_queries = ["select 1"]
    setting.bloat_share = 0.0
    setting.save()
    path = Path(str(setting.engine_url.database))
    state = json.loads(path.read_text())
    state["slow"] = {"orders": 100.0}
    path.write_text(json.dumps(state))
    monkeypatch.setattr(
        "tests.fakes.FakeEngine.perform",
        lambda self, action, allow: __import__("maintenance.engines.values", fromlist=["x"]).Performed(
            __import__("maintenance.engines.messages", fromlist=["x"]).msg("Did nothing."), None, None
        ),
    )
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("succeeded", "ABCDEFGHIPTGHIJK")
    assert "Not measurably faster" in run.targets.get().steps.filter(node="I", part="").last().sentence  # type: ignore[union-attr]
    assert_in_service(setting)


def test_a_rollback_that_cannot_restore_stays_closed_and_calls_people(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    setting = fake(perform=["damage"], restore_beside=["permanent"])
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("needs_operator", "ABCDEFGHOSX")
    assert state_of(setting)["marker"] is not None
    assert "told to fail" in run.ended_because


@pytest.mark.long
def test_an_outage_lasts_until_the_release(fake: Register, request_for: Ask, someone: Actor) -> None:
    """The run has ended; the database is closed, and every figure goes on."""
    fake(perform=["damage"], restore_beside=["permanent"])
    run = go(someone, request_for("shop"))
    hour = timedelta(hours=1)
    run.targets.update(outage_started_at=F("outage_started_at") - hour, finished_at=F("finished_at") - hour)
    tasks.sweep(recovery.Watch(), recovery.Recoverers())
    run.refresh_from_db()
    target = run.targets.get()
    assert target.outage_seconds > 3600
    assert [run.outage_seconds, target.out_seconds] == pytest.approx([target.outage_seconds] * 2, abs=5)
    told = outcome(run)
    assert told["outage_seconds"] == pytest.approx(target.outage_seconds, abs=5)
    assert (told["targets"][0]["outage_lasts"], told["targets"][0]["outage_seconds"] > 3600) == (True, True)
    call_command("release", "shop")
    run.refresh_from_db()
    target.refresh_from_db()
    assert outcome(run)["targets"][0]["outage_lasts"] is False
    assert run.outage_seconds == target.out_seconds == target.outage_seconds > 3600
    before = target.outage_seconds
    tasks.sweep(recovery.Watch(), recovery.Recoverers())
    assert run.targets.get().outage_seconds == before


@pytest.mark.long
def test_a_release_without_the_control_database_is_told_to_it_later(
    fake: Register, request_for: Ask, someone: Actor, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = fake(perform=["damage"], restore_beside=["permanent"])
    run = go(someone, request_for("shop"))
    call_command("release", "shop")
    opened = run.targets.get().outage_ended_at
    run.targets.update(outage_ended_at=None)  # As it was not written, because the control database did not answer.
    with pytest.raises(launch.BadInput, match="waits for an operator"):
        launch.launch(someone, request_for("shop"))
    calls = state_of(setting)["calls"]
    call_command("release", "shop")
    assert "the control database knows it now" in capsys.readouterr().out
    told = run.targets.get().outage_ended_at
    assert opened
    assert told
    assert abs(told - opened) < timedelta(seconds=5)
    assert state_of(setting)["calls"] == calls
    assert launch.launch(someone, request_for("shop"), enqueue=False)
    with pytest.raises(SystemExit) as again:
        call_command("release", "shop")
    assert again.value.code == 2


def test_one_failing_database_does_not_stop_the_others(fake: Register, request_for: Ask, someone: Actor) -> None:
    fake("shop", perform=["permanent"])
    fake("crm")
    run = go(someone, request_for())
    assert run.status == "rolled_back"
    assert {t.database: t.status for t in run.targets.all()} == {"shop": "rolled_back", "crm": "succeeded"}
