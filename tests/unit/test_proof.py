"""What is not proven is not called a success."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from maintenance.engines.messages import msg
from maintenance.engines.values import Action, Fingerprint, Json, Loss, Performed
from maintenance.models import MaintenanceSetting
from maintenance.requests.launch import Actor, Request
from maintenance.results.outcome import outcome
from tests import fakes
from tests.fakes import FakeEngine
from tests.unit.walking import assert_in_service, go, state_of, walked

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_reports"), pytest.mark.whole]
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


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
