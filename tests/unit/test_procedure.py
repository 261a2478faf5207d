"""The procedure on a fake database: every way through the flowchart ends as it should."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models import F

from maintenance import tasks
from maintenance.auditing import chain
from maintenance.engines.errors import Unable
from maintenance.engines.messages import msg
from maintenance.engines.values import Action, Diagnosis, Fingerprint, Json, Load, Loss, Performed
from maintenance.models import MaintenanceRun, MaintenanceSetting, ScopeHold
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.results.outcome import outcome
from maintenance.workflow import heartbeat, recovery, runner
from tests import fakes
from tests.fakes import OPEN, FakeEngine

pytestmark = pytest.mark.django_db(transaction=True)
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reports have tests of their own, and take most of the time of a run."""
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)


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


@pytest.mark.long
def test_a_constraint_that_the_rows_broke_long_ago_does_not_undo_a_rebuild(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    """It is asked only after the work, where the rows are proved the same, so the work cannot have broken it."""
    setting = fake()
    with fakes.opened(str(setting.engine_url.database)) as state:
        state["orphans"] = True
    run = go(someone, request_for(maintenance_type="rebuild"))
    assert run.status == "succeeded", run.ended_because
    told = outcome(run)["targets"][0]["integrity"]["checks"]
    assert [check["passed"] for check in told if check["name"] == "foreign key"] == [False]
    assert_in_service(setting)


@pytest.mark.long
def test_an_optimization_checks_the_structure_of_what_it_works_on(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    fake()
    run = go(someone, request_for(maintenance_type="optimize"))
    told = outcome(run)["targets"][0]
    worked_on = {action["object"] for action in told["actions"]}
    assert {check["object"] for check in told["integrity"]["checks"] if check["name"] == "structure"} == worked_on
    assert {table["table"] for table in told["integrity"]["tables"]} == {"orders", "customers", "empty"}


def test_a_maintenance_walks_the_main_way(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake()
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("succeeded", "ABCDEFGHIJK")
    told = outcome(run)["targets"][0]
    assert {a["object"] for a in told["actions"]} == {"orders", "customers", "empty"}
    assert all(t["fingerprint_equal"] for t in told["integrity"]["tables"])
    assert [q["verdict"] for q in told["benchmark"]] == ["improved", "improved"]
    assert_in_service(setting)


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


@pytest.mark.long
def test_what_lost_rows_or_could_not_be_read_is_not_called_proven(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform, fingerprint = FakeEngine.perform, FakeEngine.fingerprint
    salvaged: list[str] = []

    def salvaging(self: FakeEngine, action: Action, allow_data_loss: bool) -> Performed:
        done = perform(self, action, allow_data_loss)
        if action.object != "orders":
            return done
        salvaged.append(action.object)
        return replace(done, losses=(Loss("orders", 1, (7,), msg("page 7 is torn")),))

    def unreadable(self: FakeEngine, *given: Any) -> dict[str, Fingerprint]:
        prints = fingerprint(self, *given)
        return {**prints, "customers": prints["customers"] if salvaged else Fingerprint(None, None, "page 3")}

    monkeypatch.setattr(FakeEngine, "perform", salvaging)
    monkeypatch.setattr(FakeEngine, "fingerprint", unreadable)
    fake()
    run = go(someone, request_for("shop", allow_data_loss=True))
    proof = run.targets.get().steps.get(node="H", part="proof 1")
    assert "Compared 1 table:" in proof.sentence
    assert "Not compared, because rows could not be read: customers, orders." in proof.sentence
    assert proof.result is not None
    assert (proof.result["compared"], proof.result["rows"]) == (1, 0)


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


@pytest.mark.long
def test_lost_rows_are_found_repaired_at_most_once_and_rolled_back(
    fake: Register, request_for: Ask, someone: Actor
) -> None:
    setting = fake(perform=["damage"])
    before = state_of(setting)["tables"]
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("rolled_back", "ABCDEFGHOSU")
    assert "broken" in state_of(setting)["sides"], "kept for people to look at"
    parts = list(run.targets.get().steps.filter(node="H").values_list("part", flat=True))
    assert parts == ["", "proof 1", "repair 1", "proof 2"]
    assert state_of(setting)["tables"] == before
    assert "orders had 4 rows and has 3" in run.ended_because
    assert_in_service(setting)


def lose_encryption(monkeypatch: pytest.MonkeyPatch, image: list[str]) -> None:
    """Any work makes the tables plain; a side copy is encrypted as `image` says."""
    perform = FakeEngine.perform

    def work(self: FakeEngine, action: Action, allow: bool) -> Performed:
        with fakes.opened(self.path) as state:
            state["encrypted"], state["encrypted by the image"] = [], image
        return perform(self, action, allow)

    def swap(self: FakeEngine, side: str, gate: Json, marker: Json) -> str:
        with fakes.opened(self.path) as state:
            state["encrypted"] = state["encrypted by the image"]
        return original(self, side, gate, marker)

    original = FakeEngine.swap
    monkeypatch.setattr(FakeEngine, "perform", work)
    monkeypatch.setattr(FakeEngine, "swap", swap)


@pytest.mark.long
def test_a_table_that_lost_its_encryption_is_rolled_back_though_its_rows_are_equal(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    with fakes.opened(str(setting.engine_url.database)) as state:
        state["encrypted"] = ["orders"]
    lose_encryption(monkeypatch, image=["orders"])
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("rolled_back", "ABCDEFGHOSU")
    assert "encryption of orders: lost: encrypted with key 1" in run.ended_because
    assert state_of(setting)["encrypted"] == ["orders"]
    assert_in_service(setting)


def test_a_copy_that_is_not_encrypted_never_takes_the_place_of_what_was(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    with fakes.opened(str(setting.engine_url.database)) as state:
        state["encrypted"] = ["orders"]
    lose_encryption(monkeypatch, image=[])
    run = go(someone, request_for("shop"))
    assert run.status == "needs_operator"
    assert "swap" not in " ".join(state_of(setting)["calls"])


@pytest.mark.parametrize(("image", "status"), [(["paid"], "rolled_back"), ([], "needs_operator")])
def test_an_object_that_got_lost_is_brought_back_though_every_row_is_equal(
    fake: Register,
    request_for: Ask,
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    image: list[str],
    status: str,
) -> None:
    setting = fake()
    with fakes.opened(str(setting.engine_url.database)) as state:
        state["views"], state["views of the image"] = ["paid"], image
    perform = FakeEngine.perform

    def work(self: FakeEngine, action: Action, allow: bool) -> Performed:
        with fakes.opened(self.path) as state:
            state["views"] = []
        return perform(self, action, allow)

    monkeypatch.setattr(FakeEngine, "perform", work)
    run = go(someone, request_for("shop"))
    assert run.status == status
    assert "view paid is missing" in run.ended_because
    assert state_of(setting)["views"] == image


def test_an_account_that_need_not_use_tls_any_more_fails_the_proof(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    demanded = iter([["shop_app"]])
    monkeypatch.setattr(FakeEngine, "tls", lambda self: {name: ["REQUIRE SSL"] for name in next(demanded, [])})
    run = go(someone, request_for("shop"))
    assert run.status == "rolled_back"
    assert "TLS of shop_app: lost: REQUIRE SSL" in run.ended_because
    assert_in_service(setting)


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


def write_while_cut(monkeypatch: pytest.MonkeyPatch, damaging: bool = False) -> None:
    """Somebody gets past the cut, and a row of his comes to customers while orders is worked on."""
    perform = FakeEngine.perform

    def beside(self: FakeEngine, action: Action, allow: bool) -> Performed:
        done = perform(self, action, allow)
        with fakes.opened(self.path) as state:
            state["tables"]["customers"].append(99)
            if damaging:
                state["tables"]["orders"] = state["tables"]["orders"][1:]
        return done

    monkeypatch.setattr(FakeEngine, "perform", beside)
    monkeypatch.setattr(FakeEngine, "writers", lambda self: [msg("job 7 of pg_cron")])


def test_rows_that_others_wrote_stay_and_are_named(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    plan = FakeEngine.plan
    monkeypatch.setattr(FakeEngine, "plan", lambda *given: [a for a in plan(*given) if a.object == "orders"])
    write_while_cut(monkeypatch)
    run = go(someone, request_for("shop"))
    assert (run.status, walked(run)) == ("failed", "ABCDEFGHOSU")
    assert "others wrote to customers" in run.ended_because
    assert "job 7 of pg_cron" in run.ended_because
    assert 99 in state_of(setting)["tables"]["customers"]
    assert "restore_beside" not in " ".join(state_of(setting)["calls"])
    image = f"image{run.targets.get().pk}"
    assert set(state_of(setting)["sides"]) == {image}, "the state of the cut is kept for people to look at"
    assert_in_service(setting, {image})


def test_rows_that_others_wrote_are_not_rolled_away_with_what_the_work_spoilt(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    plan = FakeEngine.plan
    monkeypatch.setattr(FakeEngine, "plan", lambda *given: [a for a in plan(*given) if a.object == "orders"])
    write_while_cut(monkeypatch, damaging=True)
    run = go(someone, request_for("shop"))
    assert run.status == "needs_operator"
    assert 99 in state_of(setting)["tables"]["customers"]
    assert "restore_beside" not in " ".join(state_of(setting)["calls"])


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
    assert "Not faster beyond noise" in run.targets.get().steps.filter(node="I", part="").last().sentence  # type: ignore[union-attr]
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


def test_a_cancel_ends_in_service(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    target = run.targets.get()
    original = heartbeat.Heart.start

    def start(heart: heartbeat.Heart) -> None:
        """The cancel arrives while the work is being done."""
        perform = heart.ctx.engine.actions.perform

        def cancelling(action: Any, allow_data_loss: bool) -> Any:
            if action.object == "orders":
                launch.cancel(someone, run)
                heart.beat()
            return perform(action, allow_data_loss)

        monkeypatch.setattr(heart.ctx.engine.actions, "perform", cancelling)
        original(heart)

    monkeypatch.setattr(heartbeat.Heart, "start", start)
    runner.advance(target.pk)
    run.refresh_from_db()
    assert (run.status, walked(run)) == ("cancelled", "ABCDEFGSU")
    assert f"Cancelled by {someone.name} during" in run.ended_because
    assert_in_service(setting)


def test_a_cancel_while_measuring_ends_in_service_and_is_no_success(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)

    def start(heart: heartbeat.Heart) -> None:
        def cancelling(*args: Any) -> Load:
            launch.cancel(someone, run)
            heart.beat()
            return Load(1, 0.0, 0, 0, None, None)

        monkeypatch.setattr(heart.ctx.engine.benchmark, "load_test", cancelling)
        original(heart)

    original = heartbeat.Heart.start
    monkeypatch.setattr(heartbeat.Heart, "start", start)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert (run.status, walked(run)) == ("cancelled", "ABCDEFGHIJK")
    assert f"Cancelled by {someone.name} during" in run.ended_because, "whoever it was came after the work began"
    assert_in_service(setting)


def test_a_cancel_before_the_worker_came_ends_at_once(fake: Register, request_for: Ask, someone: Actor) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    launch.cancel(someone, run)
    assert MaintenanceRun.objects.get(pk=run.pk).status == "cancelled"
    assert runner.advance(run.targets.get().pk) is False
    assert_in_service(setting)


def test_the_time_limit_rolls_back(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    setting.timeout_minutes, setting.reserve_minutes = 30, 30
    setting.save()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    original = heartbeat.Heart.start

    def start(heart: heartbeat.Heart) -> None:
        cut = heart.ctx.engine.gate.cut

        def late(*args: Any) -> Any:
            if heart.ctx.reason is None:
                heart.beat()
            return cut(*args)

        monkeypatch.setattr(heart.ctx.engine.gate, "cut", late)
        original(heart)

    monkeypatch.setattr(heartbeat.Heart, "start", start)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == "timed_out"
    assert_in_service(setting)


def test_being_late_is_told_once(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """The heart asks every 50 ms here; people get one message for it."""
    fake()
    settings.LEASE_SECONDS = 0.2
    announced: list[str] = []
    monkeypatch.setattr("maintenance.notifications.events.announce", lambda run, event, *words: announced.append(event))
    monkeypatch.setattr("maintenance.workflow.progress.LATE", -1)
    monkeypatch.setattr("maintenance.workflow.progress.ENOUGH_RUNS", 0)
    usual = {"runs": 3, "seconds": 1.0, "longest": 1.0}
    monkeypatch.setattr("maintenance.workflow.progress.usual_outage", lambda *about: usual)
    plain = FakeEngine.perform

    def slow(self: FakeEngine, *given: Any) -> Any:
        time.sleep(0.3)
        return plain(self, *given)

    monkeypatch.setattr(FakeEngine, "perform", slow)
    run = go(someone, request_for("shop"))
    assert run.targets.get().late_at is not None
    assert announced.count("late") == 1
