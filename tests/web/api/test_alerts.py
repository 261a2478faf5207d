"""Alertmanager's webhook: an alert becomes an incident, which a person takes to the launch form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from maintenance.api.shapes.alerts import IncidentList
from maintenance.auditing import chain
from maintenance.models import AuditEntry, Incident, MaintenanceRun, MaintenanceSetting
from tests.web.api.calling import Caller

ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "TableBloat", "database": "shop", "severity": "critical", "maintenance_type": "rebuild"},
    "annotations": {"summary": "orders is half empty", "description": "longer"},
    "startsAt": "2026-07-01T03:00:00.123Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus.example/graph?g0.expr=x",
    "fingerprint": "c1b2d3e4f5a69788",
}
SENT: dict[str, Any] = {
    "version": "4",
    "groupKey": '{}:{alertname="TableBloat"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "dbmaint",
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager.example",
    "alerts": [ALERT],
}


def sent(**changes: Any) -> dict[str, Any]:
    return {**SENT, "alerts": [{**ALERT, **changes}]}


@pytest.mark.django_db
class TestIncidents:
    def test_an_alert_opens_one_and_starts_nothing(self, machine: Caller, shop: MaintenanceSetting) -> None:
        answer = machine("monitoring", "alert").post("alerts", SENT)
        assert answer.status_code == 200
        IncidentList.model_validate(answer.json())
        [told] = answer.json()["incidents"]
        incident = Incident.objects.get()
        assert (told["database"], told["alert"], told["severity_level"]) == ("shop", "TableBloat", "critical")
        assert (told["open"], told["page"]) == (True, f"http://testserver/launch/?incident={incident.pk}")
        assert (incident.setting, incident.summary) == (shop, "orders is half empty")
        assert not MaintenanceRun.objects.exists()
        entry = AuditEntry.objects.order_by("-id")[0]
        assert (entry.actor, entry.operation) == ("monitoring", "incident.opened")
        assert chain.verify().whole

    def test_told_again_it_stays_one(self, machine: Caller, shop: MaintenanceSetting) -> None:
        caller = machine()
        caller.post("alerts", SENT)
        caller.post("alerts", sent(annotations={"summary": "now three quarters"}))
        assert Incident.objects.get().summary == "now three quarters"
        assert AuditEntry.objects.filter(operation="incident.opened").count() == 1

    def test_resolved_closes_it_and_firing_later_opens_another(self, machine: Caller, shop: MaintenanceSetting) -> None:
        caller = machine()
        caller.post("alerts", SENT)
        answer = caller.post("alerts", sent(status="resolved", endsAt="2026-07-01T04:00:00Z"))
        assert answer.json()["incidents"][0]["open"] is False
        closed = Incident.objects.get()
        assert closed.closed_at is not None
        assert closed.closed_at.isoformat() == "2026-07-01T04:00:00+00:00"
        caller.post("alerts", sent(startsAt="2026-07-02T03:00:00Z"))
        assert Incident.objects.filter(closed_at=None).count() == 1

    def test_resolved_without_an_incident_is_nothing(self, machine: Caller, shop: MaintenanceSetting) -> None:
        answer = machine().post("alerts", sent(status="resolved", endsAt="2026-07-01T04:00:00Z"))
        assert (answer.status_code, answer.json()) == (200, {"incidents": []})

    def test_one_a_person_closed_stays_closed_while_the_alert_goes_on(
        self, machine: Caller, shop: MaintenanceSetting, as_: Callable[[str], Client]
    ) -> None:
        caller = machine()
        caller.post("alerts", SENT)
        as_("dba").post(f"/incidents/{Incident.objects.get().pk}/close/")
        caller.post("alerts", SENT)
        assert Incident.objects.get().closed_by == "dba"

    @pytest.mark.parametrize(
        ("labels", "database", "severity"),
        [
            ({"alertname": "x"}, None, "medium"),
            ({"alertname": "x", "database": "nowhere", "severity": "page"}, None, "critical"),
            ({"database": "shop", "severity": "warning"}, "shop", "medium"),
            ({"database": "shop", "severity": "error", "maintenance_type": "explode"}, "shop", "high"),
        ],
    )
    def test_labels_that_say_less(
        self, machine: Caller, shop: MaintenanceSetting, labels: dict[str, str], database: str | None, severity: str
    ) -> None:
        [told] = machine().post("alerts", sent(labels=labels)).json()["incidents"]
        assert (told["database"], told["severity_level"]) == (database, severity)
        assert Incident.objects.get().maintenance_type == ""

    @pytest.mark.parametrize(
        ("field", "body"),
        [
            ("version", {**SENT, "version": "3"}),
            ("alerts", {"version": "4"}),
            ("alerts", {**SENT, "alerts": [ALERT] * 1001}),
            ("alerts.0.status", sent(status="burning")),
            ("alerts.0.startsAt", sent(startsAt="2026-07-01T03:00:00")),
            ("alerts.0.fingerprint", sent(fingerprint="")),
            ("alerts.0.labels.alertname", sent(labels={"alertname": 5})),
            ("alerts.0.annotations.summary", sent(annotations={"summary": "a\0b"})),
        ],
    )
    def test_bad_input_is_refused_with_the_field_named(
        self, machine: Caller, shop: MaintenanceSetting, field: str, body: dict[str, Any]
    ) -> None:
        answer = machine().post("alerts", body)
        assert answer.status_code == 422
        assert [e["field"] for e in answer.json()["errors"]] == [field]
        assert not Incident.objects.exists()


@pytest.mark.django_db
class TestOnThePages:
    @pytest.fixture
    def incident(self, machine: Caller, shop: MaintenanceSetting) -> Incident:
        machine().post("alerts", SENT)
        return Incident.objects.get()

    def test_the_dashboard_shows_it_until_it_is_closed(self, incident: Incident, as_: Callable[[str], Client]) -> None:
        dba = as_("dba")
        page = dba.get("/").content.decode()
        assert "orders is half empty" in page
        assert f"/launch/?incident={incident.pk}" in page
        assert f"?incident={incident.pk}" not in as_("manager").get("/").content.decode()
        dba.post(f"/incidents/{incident.pk}/close/")
        assert "orders is half empty" not in dba.get("/").content.decode()

    def test_it_pre_fills_the_launch_form(self, incident: Incident, as_: Callable[[str], Client]) -> None:
        form = as_("dba").get(f"/launch/?incident={incident.pk}").context["form"]
        assert form.initial == {
            "databases": ["shop"],
            "severity_level": "critical",
            "maintenance_type": "rebuild",
            "reason": "TableBloat: orders is half empty",
        }

    @pytest.mark.parametrize("number", ["4711", "x", "", "9" * 30])
    def test_one_that_is_not_there(self, as_: Callable[[str], Client], people: dict[str, User], number: str) -> None:
        answer = as_("dba").get(f"/launch/?incident={number}")
        assert (answer.status_code, answer.context["form"].initial) == (200, {})
