"""The shape of it all: addresses, errors, the OpenAPI description, and that no secret comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import Resolver404, resolve
from pydantic import BaseModel

from maintenance.api.shapes.starting import MaintenanceRequest
from maintenance.api.shapes.states import FindingReport, StateReport, TableReport
from maintenance.models import AuditEntry, DatabaseState, MaintenanceSetting
from tests.web.api.calling import ASKED, CALLS, CANARY, Caller, Machine


@pytest.mark.django_db
class TestShape:
    @pytest.mark.parametrize("path", ["", "nothing", "maintenance/", "maintenance/x/y"])
    def test_an_unknown_address(self, machine: Caller, path: str) -> None:
        assert machine().get(path).status_code == 404
        assert Machine().post(path).status_code == 404

    def test_a_wrong_method(self) -> None:
        answer = Client().delete("/api/v1/maintenance")
        assert (answer.status_code, answer["Content-Type"]) == (405, "application/problem+json")
        assert set(answer["Allow"].split(", ")) == {"GET", "POST"}

    @pytest.mark.long
    def test_the_description_is_whole(self, machine: Caller) -> None:
        answer = machine().get("openapi.json")
        assert answer.status_code == 200
        described = answer.json()
        assert described["openapi"].startswith("3.1")
        operations = [o for methods in described["paths"].values() for o in methods.values()]
        assert len({o["operationId"] for o in operations}) == len(operations) == len(CALLS)
        schemes = described["components"]["securitySchemes"]
        for operation in operations:
            assert operation["description"]
            assert {name for way in operation["security"] for name in way} == set(schemes) == {"Bearer", "Session"}
            for status, told in operation["responses"].items():
                assert told["description"]
                if int(status) >= 400:
                    assert list(told["content"]) == ["application/problem+json"]
                else:
                    assert told["content"]
        for path, methods in described["paths"].items():
            for operation in methods.values():
                named = {f"{{{p['name']}}}" for p in operation["parameters"] if p["in"] == "path"}
                assert named == {part for part in path.split("/") if part.startswith("{")}
        assert all(self.found(described, ref) for ref in self.references(described))

    def references(self, value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            value = list(value.values())
        if isinstance(value, list):
            for part in value:
                yield from self.references(part)

    def found(self, described: Any, reference: str) -> bool:
        for part in reference.removeprefix("#/").split("/"):
            described = described.get(part, {})
        return bool(described)

    def test_the_docs_page_loads_nothing_from_elsewhere(self) -> None:
        from django.contrib.staticfiles import finders

        answer = Client().get("/api/v1/docs")
        page = answer.content.decode()
        assert answer.status_code == 200
        assert "://" not in page
        assert '"validatorUrl": null' in page
        for asset in ("swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-init.js", "favicon.svg"):
            assert f"/static/ninja/{asset}" in page
            assert finders.find(f"ninja/{asset}")

    def test_every_shape_of_a_request_refuses_what_it_does_not_know(self) -> None:
        sent = [MaintenanceRequest, StateReport, FindingReport, TableReport]
        assert all(issubclass(s, BaseModel) and s.model_config.get("extra") == "forbid" for s in sent)

    def test_pages_of_the_console_stay_html(self) -> None:
        with pytest.raises(Resolver404):
            resolve("/nothing/")
        assert Client().get("/nothing/")["Content-Type"].startswith("text/html")


@pytest.mark.django_db
@pytest.mark.long
def test_no_password_and_no_token_in_any_answer_or_log(
    machine: Caller, people: dict[str, User], shop: MaintenanceSetting, caplog: pytest.LogCaptureFixture
) -> None:
    """`Machine` looks at each answer; here they are all called once more, and the log is read too."""
    caller = machine()
    DatabaseState.objects.create(setting=shop, source="diagnosis", state="well")
    run = caller.post("maintenance", ASKED).json()
    for (method, path), _ in CALLS.items():
        address = path.replace("{id}", run["id"])
        caller.get(address) if method == "GET" else caller.post(address, ASKED)
    for secret in (CANARY, caller.token):
        assert secret not in caplog.text
        assert secret.encode() not in Client().get("/metrics").content
        assert not any(secret in json.dumps([e.before, e.after]) for e in AuditEntry.objects.all())
