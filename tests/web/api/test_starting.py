"""API-336: launch, plan, cancel, approve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from maintenance.api.shapes.starting import Plan
from maintenance.models import AuditEntry, MaintenanceRun, MaintenanceSetting, RunTarget
from maintenance.requests import launch
from tests import records
from tests.web.api.calling import ASKED, CANARY, Caller, Register, waiting

pytestmark = pytest.mark.whole


@pytest.mark.django_db
class TestLaunching:
    def test_it_is_accepted(self, machine: Caller, shop: MaintenanceSetting) -> None:
        answer = machine("dba", "launch").post("maintenance", ASKED)
        run = MaintenanceRun.objects.get()
        assert answer.status_code == 202
        assert answer.json() == {
            "id": str(run.pk),
            "number": run.number,
            "status": "queued",
            "url": f"http://testserver/api/v1/maintenance/{run.pk}",
            "page": f"http://testserver/runs/{run.pk}/",
        }
        assert answer["Location"] == answer.json()["url"]
        assert (run.requested_by_name, run.origin, run.target_databases) == ("dba", "api", ["shop"])
        assert AuditEntry.objects.get(operation="run.launched").actor == "dba"

    def test_all_databases_by_that_word_only(self, machine: Caller, shop: MaintenanceSetting, fake: Register) -> None:
        fake("crm")
        caller = machine()
        nothings: tuple[list[str] | None, ...] = (None, [])
        for nothing in nothings:
            assert caller.post("maintenance", {**ASKED, "target_databases": nothing}).status_code == 422
        without = {k: v for k, v in ASKED.items() if k != "target_databases"}
        assert caller.post("maintenance", without).status_code == 422
        assert caller.post("maintenance", {**ASKED, "target_databases": "all"}).status_code == 202
        assert MaintenanceRun.objects.get().target_databases == ["crm", "shop"]

    @pytest.mark.parametrize(
        ("field", "change"),
        [
            ("maintenance_type", {"maintenance_type": "polish"}),
            ("severity_level", {"severity_level": "urgent"}),
            ("reason", {"reason": ""}),
            ("reason", {"reason": None}),
            ("target_databases", {"target_databases": "shop"}),
            ("target_databases.0", {"target_databases": [1]}),
            ("target_tables", {"target_tables": "orders"}),
            ("allow_data_loss", {"allow_data_loss": "yes"}),
            ("allow_dataloss", {"allow_dataloss": True}),
        ],
    )
    def test_bad_input_names_the_field(
        self, machine: Caller, shop: MaintenanceSetting, field: str, change: dict[str, Any]
    ) -> None:
        answer = machine().post("maintenance", {**ASKED, **change})
        assert answer.status_code == 422
        assert [e["field"] for e in answer.json()["errors"]] == [field]

    @pytest.mark.parametrize(
        ("status", "change", "words"),
        [
            (404, {"target_databases": ["nowhere"]}, "There is no database nowhere; registered are: shop."),
            (422, {"target_tables": ["nothing"]}, "There is no table nothing in shop."),
            (422, {"reason": "  "}, "A reason is required"),
            (403, {"allow_data_loss": True}, "dba may not allow data loss"),
        ],
    )
    def test_what_the_door_refuses(
        self, machine: Caller, shop: MaintenanceSetting, status: int, change: dict[str, Any], words: str
    ) -> None:
        answer = machine().post("maintenance", {**ASKED, **change})
        assert answer.status_code == status
        assert answer.json()["detail"].startswith(words)
        assert not MaintenanceRun.objects.exists()

    def test_a_held_lock_says_by_which_run(self, machine: Caller, shop: MaintenanceSetting) -> None:
        caller = machine()
        first = caller.post("maintenance", ASKED).json()
        answer = caller.post("maintenance", ASKED)
        assert answer.status_code == 409
        assert answer.json()["detail"].startswith(f"{first['number']} of shop holds the lock since")
        assert answer.json()["held_by"] == {k: first[k] for k in ("id", "number", "url")}

    def test_a_database_that_cannot_be_reached_shows_no_password(self, machine: Caller, tmp_path: Path) -> None:
        setting = MaintenanceSetting(name="far", url="postgresql://dba@127.0.0.1:1/far", backup_dir=str(tmp_path))
        setting.password = CANARY
        setting.save()
        answer = machine().post("maintenance", {**ASKED, "target_databases": ["far"]})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("far: ")

    def test_a_bug_is_told_without_its_inside(
        self, machine: Caller, shop: MaintenanceSetting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any, **more: Any) -> None:
            raise ZeroDivisionError(CANARY)

        monkeypatch.setattr("maintenance.requests.launch.launch", fail)
        answer = machine().post("maintenance", ASKED)
        assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")


@pytest.mark.django_db
class TestSameKey:
    def test_it_answers_with_the_same_run(self, machine: Caller, shop: MaintenanceSetting) -> None:
        caller = machine()
        first, second = (caller.post("maintenance", ASKED, **{"Idempotency-Key": "a-1"}) for _ in range(2))
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json() == second.json()
        assert MaintenanceRun.objects.count() == RunTarget.objects.count() == 1
        assert AuditEntry.objects.filter(operation="run.launched").count() == 1

    def test_even_after_its_end(self, machine: Caller, shop: MaintenanceSetting) -> None:
        caller = machine()
        run = caller.post("maintenance", ASKED, **{"Idempotency-Key": "a-1"}).json()
        caller.post(f"maintenance/{run['id']}/cancel")
        again = caller.post("maintenance", ASKED, **{"Idempotency-Key": "a-1"}).json()
        assert (again["id"], again["status"]) == (run["id"], "cancelled")
        assert caller.post("maintenance", ASKED, **{"Idempotency-Key": "a-2"}).json()["id"] != run["id"]

    def test_for_another_request_it_is_refused(self, machine: Caller, shop: MaintenanceSetting) -> None:
        caller = machine()
        run = caller.post("maintenance", ASKED, **{"Idempotency-Key": "a-1"}).json()
        for change in ({"reason": "another"}, {"target_databases": ["crm"]}, {"target_tables": ["orders"]}):
            answer = caller.post("maintenance", {**ASKED, **change}, **{"Idempotency-Key": "a-1"})
            assert answer.status_code == 422
            assert run["number"] in answer.json()["detail"]

    def test_of_another_person_it_is_another_key(
        self, machine: Caller, people: dict[str, User], shop: MaintenanceSetting
    ) -> None:
        people["outsider"].groups.add(Group.objects.get(name="DBA"))
        assert machine().post("maintenance", ASKED, **{"Idempotency-Key": "a-1"}).status_code == 202
        assert machine("outsider").post("maintenance", ASKED, **{"Idempotency-Key": "a-1"}).status_code == 409

    def test_two_at_once_get_the_one_run(
        self, machine: Caller, shop: MaintenanceSetting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other request commits between our look and our launch."""
        caller, real = machine(), launch.launch

        def slow(*args: Any, **more: Any) -> MaintenanceRun:
            real(*args, **more)
            return real(*args, **more)

        monkeypatch.setattr("maintenance.requests.launch.launch", slow)
        assert caller.post("maintenance", ASKED, **{"Idempotency-Key": "a-1"}).status_code == 202
        assert MaintenanceRun.objects.count() == 1

    @pytest.mark.parametrize("key", ["", "x" * 201, "two words", "鍵"])
    def test_a_bad_key(self, machine: Caller, shop: MaintenanceSetting, key: str) -> None:
        answer = machine().post("maintenance", ASKED, **{"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


@pytest.mark.django_db
class TestPlanning:
    def test_the_plan_says_what_and_why_and_changes_nothing(self, machine: Caller, shop: MaintenanceSetting) -> None:
        answer = machine().post("maintenance/plan", ASKED)
        assert answer.status_code == 200
        Plan.model_validate(answer.json())
        [target] = answer.json()["targets"]
        assert {"object", "kind", "reason", "lock", "bytes", "disk_bytes"} <= set(target["actions"][0])
        assert target["estimate"] == {"outage_seconds": None, "duration_seconds": None, "based_on_runs": 0}
        assert not MaintenanceRun.objects.exists()

    def test_the_estimate_is_what_it_took_before(self, machine: Caller, shop: MaintenanceSetting) -> None:
        records.finished_run()
        [target] = machine().post("maintenance/plan", ASKED).json()["targets"]
        assert target["estimate"] == {"outage_seconds": 41.5, "duration_seconds": 78.0, "based_on_runs": 1}

    def test_it_is_carried_out_by_its_number(self, machine: Caller, shop: MaintenanceSetting) -> None:
        caller = machine()
        number = caller.post("maintenance/plan", ASKED).json()["plan"]
        other = caller.post("maintenance", {**ASKED, "maintenance_type": "repair", "plan": number})
        assert (other.status_code, "made for other parameters" in other.json()["detail"]) == (422, True)
        assert caller.post("maintenance", {**ASKED, "plan": number + 1}).status_code == 422
        assert caller.post("maintenance", {**ASKED, "plan": number}).status_code == 202
        assert MaintenanceRun.objects.get().agreed_plan_id == number

    def test_it_is_rehearsed_by_its_number(self, machine: Caller, shop: MaintenanceSetting) -> None:
        caller = machine()
        number = caller.post("maintenance/plan", ASKED).json()["plan"]
        answer = caller.post("maintenance/rehearsal", {**ASKED, "plan": number})
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        run = MaintenanceRun.objects.get()
        assert (run.rehearsal, run.agreed_plan_id) == (True, number)
        told = caller.get(f"maintenance/{run.pk}").json()
        assert (told["rehearsal"], told["targets"][0]["rehearsal"]["copy"]) == (True, None)

    def test_an_unknown_database(self, machine: Caller, shop: MaintenanceSetting) -> None:
        assert machine().post("maintenance/plan", {**ASKED, "target_databases": ["x"]}).status_code == 404


@pytest.mark.django_db
class TestSecondPerson:
    def test_an_approval_starts_the_run(
        self, machine: Caller, people: dict[str, User], shop: MaintenanceSetting
    ) -> None:
        people["outsider"].groups.add(Group.objects.get(name="DBA"))
        caller = machine()
        run = waiting(people)
        own = caller.post(f"maintenance/{run.pk}/approve")
        assert (own.status_code, "a second person" in own.json()["detail"]) == (403, True)
        answer = machine("outsider").post(f"maintenance/{run.pk}/approve")
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        again = machine("outsider").post(f"maintenance/{run.pk}/approve")
        assert (again.status_code, "does not wait" in again.json()["detail"]) == (409, True)

    def test_what_waits_is_told_so(self, machine: Caller, shop: MaintenanceSetting) -> None:
        MaintenanceSetting.objects.update(approval_severities=["high"])
        answer = machine().post("maintenance", ASKED)
        assert (answer.status_code, answer.json()["status"]) == (202, "awaiting_approval")

    def test_cancel(self, machine: Caller, people: dict[str, User], shop: MaintenanceSetting) -> None:
        caller, run = machine(), waiting(people)
        answer = caller.post(f"maintenance/{run.pk}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
        again = caller.post(f"maintenance/{run.pk}/cancel")
        assert (again.status_code, "has ended" in again.json()["detail"]) == (409, True)

    @pytest.mark.parametrize("what", ["cancel", "approve"])
    @pytest.mark.parametrize("id", ["4711", "99999999999999999999", "x"])
    def test_a_run_that_is_not_there(self, machine: Caller, what: str, id: str) -> None:
        assert machine().post(f"maintenance/{id}/{what}").status_code == 404
