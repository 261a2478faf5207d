"""How databases stand (API-335), as machines read it."""

from __future__ import annotations

import pytest

from maintenance.api.shapes.states import DatabaseList, DatabaseStatus
from maintenance.models import DatabaseState, MaintenanceSetting, RunTarget
from maintenance.requests import launch
from maintenance.requests.launch import Actor
from tests import records
from tests.web.api.calling import SEEN, Ask, Caller, Register


@pytest.mark.django_db
class TestDatabases:
    def test_one_that_nobody_looked_at(self, machine: Caller, shop: MaintenanceSetting) -> None:
        told = machine().get("databases/shop/status").json()
        assert (told["state"], told["health"], told["measured_at"], told["findings"]) == ("unknown", None, None, [])

    def test_a_diagnosis(self, machine: Caller, shop: MaintenanceSetting) -> None:
        run = records.finished_run()
        RunTarget.objects.update(setting=shop)
        DatabaseState.objects.update(setting=shop, tables=[{"name": "orders", "bytes": 1}])
        told = machine().get("databases/shop/status").json()
        DatabaseStatus.model_validate(told)
        assert (told["state"], told["health"], told["source"]) == ("critical", 45, "diagnosis")
        assert set(told["findings"][0]) == {"code", "severity", "object", "evidence", "hint"}
        assert told["worst_finding"]["severity"] == "critical"
        assert told["last_verified_backup_at"] == "2026-07-01T03:00:19Z"
        assert (told["maintenance"], told["needs_operator"]) == (None, False)
        assert run.status == "succeeded"

    def test_the_run_that_holds_it(self, machine: Caller, shop: MaintenanceSetting, request_for: Ask) -> None:
        run = launch.launch(Actor("somebody", "command"), request_for("shop"))
        [told] = machine().get("databases").json()["databases"]
        assert told["maintenance"] == {
            "id": str(run.pk),
            "number": run.number,
            "url": f"http://testserver/api/v1/maintenance/{run.pk}",
        }

    @pytest.mark.parametrize("name", ["nowhere", "crm", "%00"])
    def test_unknown_or_switched_off(
        self, machine: Caller, shop: MaintenanceSetting, fake: Register, name: str
    ) -> None:
        fake("crm")
        MaintenanceSetting.objects.filter(name="crm").update(enabled=False)
        for answer in (machine().get(f"databases/{name}/status"), machine().post(f"databases/{name}/status", SEEN)):
            assert answer.status_code == 404
            assert answer.json()["detail"].endswith("registered are: shop.")

    def test_the_list_matches_its_description(self, machine: Caller, shop: MaintenanceSetting) -> None:
        answer = machine().get("databases")
        DatabaseList.model_validate(answer.json())
        assert answer["Cache-Control"] == "no-store"
