"""Who calls, and what each token and person may."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from maintenance.api import callers
from maintenance.api.entrance import api
from maintenance.models import ApiToken, MaintenanceRun, MaintenanceSetting
from tests.web.api.calling import ALL, ASKED, CALLS, MAY, Caller, Machine


@pytest.mark.django_db
class TestWhoCalls:
    def test_without_anything(self) -> None:
        for answer in (Machine().get("databases"), Machine().post("maintenance", ASKED)):
            assert answer.status_code == 401
            assert answer["WWW-Authenticate"].startswith("Bearer")
            assert "bearer token" in answer.json()["detail"]

    @pytest.mark.parametrize("wrong", ["unknown", "", "ü", "x" * 5000])
    def test_an_unknown_token(self, wrong: str) -> None:
        answer = Machine(Authorization=f"Bearer {wrong}").get("databases")
        assert (answer.status_code, answer.json()["detail"]) == (401, "The token is unknown, revoked or expired.")

    def test_another_scheme(self) -> None:
        assert Machine(Authorization="Basic ZGJhOmRiYQ==").get("databases").status_code == 401

    def test_an_expired_token(self, machine: Caller) -> None:
        assert machine("dba", "read", days=-0.001).get("databases").status_code == 401

    def test_a_token_of_somebody_who_left(self, machine: Caller, people: dict[str, User]) -> None:
        caller = machine()
        assert caller.get("databases").status_code == 200
        User.objects.filter(username="dba").update(is_active=False)
        assert caller.get("databases").status_code == 401

    def test_only_the_digest_is_kept_and_the_use_is_noted(self, machine: Caller) -> None:
        caller = machine()
        token = ApiToken.objects.get()
        assert caller.token not in str(token.__dict__)
        assert token.last_used_at is None
        caller.get("databases")
        token.refresh_from_db()
        first = token.last_used_at
        assert first is not None
        caller.get("databases")
        token.refresh_from_db()
        assert token.last_used_at == first

    def test_a_session_reads_but_changes_only_with_csrf(
        self, people: dict[str, User], shop: MaintenanceSetting
    ) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(people["dba"])
        browser = Machine(client=client)
        assert browser.get("databases").status_code == 200
        answer = browser.post("maintenance", ASKED)
        assert (answer.status_code, MaintenanceRun.objects.count()) == (403, 0)
        assert "CSRF" in answer.json()["detail"]
        client.get("/accounts/password/")
        token = client.cookies["csrftoken"].value
        answer = browser.post("maintenance", ASKED, **{"X-CSRFToken": token})
        assert (answer.status_code, MaintenanceRun.objects.count()) == (403, 0)
        assert "/account/prove/" in answer.json()["detail"]
        assert (
            client.post("/account/prove/", {"password": "dba-password"}, headers={"X-CSRFToken": token}).status_code
            == 302
        )
        assert browser.post("maintenance", ASKED, **{"X-CSRFToken": token}).status_code == 202

    def test_a_bad_token_is_not_mended_by_a_session(self, people: dict[str, User]) -> None:
        client = Client()
        client.force_login(people["dba"])
        assert Machine("no-such-token", client).get("databases").status_code == 401

    def test_the_pace_is_limited(self, machine: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(callers, "A_MINUTE", 3)
        caller = machine()
        codes = [caller.get("databases").status_code for _ in range(8)]
        answer = caller.get("databases")
        assert codes[0] == 200
        # The minute may turn between two of the calls.
        assert answer.status_code == 429 or 429 in codes
        if answer.status_code == 429:
            assert 1 <= int(answer["Retry-After"]) <= 60
        assert machine().get("databases").status_code == 200


@pytest.mark.django_db
class TestWhoMay:
    @pytest.mark.parametrize(("method", "path"), CALLS)
    def test_the_scope_of_the_token(self, machine: Caller, shop: MaintenanceSetting, method: str, path: str) -> None:
        scope, _ = CALLS[method, path]
        answer = self.call(machine("dba", *(s for s in ALL if s != scope)), method, path, 1)
        assert (answer.status_code, answer.json()["detail"]) == (
            403,
            f"The token a test does not have the scope {scope}.",
        )

    @pytest.mark.parametrize(("method", "path"), CALLS)
    @pytest.mark.parametrize("who", ["dba", "manager", "administrator", "auditor", "outsider", "monitoring"])
    def test_the_permissions_of_the_person(
        self, machine: Caller, people: dict[str, User], shop: MaintenanceSetting, who: str, method: str, path: str
    ) -> None:
        caller = machine(who)
        _, group = CALLS[method, path]
        answer = self.call(caller, method, path, 4711)
        if who in MAY[group]:
            assert answer.status_code not in (401, 403)
        else:
            assert answer.status_code == 403
            assert who in answer.json()["detail"]

    def test_the_table_names_every_call(self) -> None:
        described = {
            (method.upper(), path.removeprefix("/api/v1/").replace("{name}", "shop"))
            for path, methods in api.get_openapi_schema()["paths"].items()
            for method in methods
        }
        assert described == set(CALLS)

    def call(self, caller: Machine, method: str, path: str, id: int) -> Any:
        path = path.replace("{id}", str(id))
        return caller.get(path) if method == "GET" else caller.post(path, {"wrong": True})
