"""What machines get: every status code, who may what, one shape of errors, and never a password."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client, RequestFactory
from django.urls import Resolver404, resolve
from django.utils import timezone
from pydantic import BaseModel

from maintenance import audit, launch, metrics, tokens
from maintenance.api import callers, shapes
from maintenance.api.entrance import api
from maintenance.launch import Actor, Request
from maintenance.models import (
    ApiToken,
    AuditEntry,
    BackupFile,
    DatabaseState,
    MaintenanceRun,
    MaintenanceSetting,
    RunTarget,
    Status,
    Worker,
)
from reports.outcome import outcome
from tests import records

Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]
Caller = Callable[..., "Machine"]
CANARY = "canary-Xq7-not-to-be-seen"
ALL = ("read", "monitor", "launch")
ASKED: dict[str, Any] = {
    "maintenance_type": "rebuild",
    "target_databases": ["shop"],
    "severity_level": "high",
    "reason": "checkout times out",
}
SEEN: dict[str, Any] = {
    "schema_version": 1,
    "state": "degraded",
    "health": 61,
    "findings": [{"code": "slow_queries", "severity": "high", "object": "orders", "evidence": "p95 is 4 s"}],
    "tables": [{"name": "orders", "bytes": 4000, "bloat_share": 0.5}],
    "size_bytes": 6100,
    "connections": 88,
    "max_connections": 100,
    "measured_at": "2026-07-01T03:00:00+09:00",
}


class Machine:
    """Calls the API with a token, and looks at each answer for what may never be there."""

    def __init__(self, token: str = "", client: Client | None = None, **headers: str) -> None:
        self.client = client or Client()
        self.token = token
        self.headers = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}

    def get(self, path: str, **headers: str) -> Any:
        return self.checked(self.client.get(f"/api/v1/{path}", headers={**self.headers, **headers}))

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        content = body if isinstance(body, (str, bytes)) else json.dumps({} if body is None else body)
        sent = {**self.headers, **headers}
        return self.checked(self.client.post(f"/api/v1/{path}", content, content_type="application/json", headers=sent))

    def checked(self, answer: Any) -> Any:
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        assert CANARY.encode() not in content
        assert not self.token or self.token.encode() not in content, "the token is in the answer"
        if answer.status_code >= 400:
            assert answer["Content-Type"] == "application/problem+json"
            problem = shapes.Problem.model_validate_json(content)
            assert (problem.type, problem.status) == ("about:blank", answer.status_code)
            assert problem.title
            assert problem.detail
        return answer


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def machine(people: dict[str, User]) -> Caller:
    """A caller with a token of one of the people, 'monitoring' too."""
    people["monitoring"] = User.objects.create_user("monitoring", password="monitoring-password")
    people["monitoring"].groups.add(Group.objects.get(name="Monitoring"))

    def make(who: str = "dba", *scopes: str, days: float = 1) -> Machine:
        plain, _ = tokens.issue(people[who], "a test", scopes or ALL, timedelta(days=days), "a test")
        return Machine(plain)

    return make


@pytest.fixture
def shop(fake: Register) -> MaintenanceSetting:
    """A database whose password must never be seen."""
    setting = fake("shop")
    setting.password = CANARY
    setting.save()
    return setting


def waiting(people: dict[str, User], by: str = "dba") -> MaintenanceRun:
    """A run that waits for a second person."""
    MaintenanceSetting.objects.update(approval_severities=["high"])
    return launch.launch(Actor(by, "web", people[by]), Request("rebuild", ["shop"], "high", "slow"))


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


READ_STATE, READ_RUNS, START, REPORT = "state", "runs", "start", "report"
CALLS: dict[tuple[str, str], tuple[str, str]] = {
    ("GET", "databases"): ("read", READ_STATE),
    ("GET", "databases/shop/status"): ("read", READ_STATE),
    ("POST", "databases/shop/status"): ("monitor", REPORT),
    ("POST", "maintenance"): ("launch", START),
    ("POST", "maintenance/plan"): ("launch", START),
    ("GET", "maintenance"): ("read", READ_RUNS),
    ("GET", "maintenance/{id}"): ("read", READ_RUNS),
    ("POST", "maintenance/{id}/cancel"): ("launch", START),
    ("POST", "maintenance/{id}/approve"): ("launch", START),
    ("GET", "maintenance/{id}/report.pdf"): ("read", READ_RUNS),
    ("GET", "maintenance/{id}/performance.csv"): ("read", READ_RUNS),
}
"""Each call -> the scope it needs, and who may (below)."""
MAY = {
    READ_STATE: {"dba", "manager", "administrator", "monitoring"},
    READ_RUNS: {"dba", "manager", "administrator", "auditor", "monitoring"},
    START: {"dba"},
    REPORT: {"dba", "monitoring"},
}


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
        shapes.DatabaseStatus.model_validate(told)
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
        shapes.DatabaseList.model_validate(answer.json())
        assert answer["Cache-Control"] == "no-store"


@pytest.mark.django_db
class TestMonitoring:
    def test_its_states_are_kept_and_read_back(self, machine: Caller, shop: MaintenanceSetting) -> None:
        caller = machine("monitoring", "monitor", "read")
        answer = caller.post("databases/shop/status", SEEN)
        assert answer.status_code == 201
        state = DatabaseState.objects.get()
        assert (state.source, state.state, state.health, state.connections) == ("monitoring", "degraded", 61, 88)
        assert state.measured_at.isoformat() == "2026-06-30T18:00:00+00:00"
        told = caller.get("databases/shop/status").json()
        assert (told["source"], told["measured_at"]) == ("monitoring", "2026-06-30T18:00:00Z")
        assert told["findings"] == [{**SEEN["findings"][0], "hint": ""}]
        assert told["tables"][0]["bloat_share"] == 0.5
        assert shapes.DatabaseStatus.model_validate(answer.json())
        entry = AuditEntry.objects.order_by("-id")[0]
        assert (entry.actor, entry.operation, entry.object) == ("monitoring", "state.reported", "shop")
        assert audit.verify().whole

    def test_the_least_that_is_enough(self, machine: Caller, shop: MaintenanceSetting) -> None:
        answer = machine().post("databases/shop/status", {"schema_version": 1, "state": "unreachable"})
        assert answer.status_code == 201
        assert timezone.now() - DatabaseState.objects.get().measured_at < timedelta(minutes=1)

    @pytest.mark.parametrize(
        ("field", "change"),
        [
            ("schema_version", {"schema_version": 2}),
            ("schema_version", {"schema_version": None}),
            ("state", {"state": "fine"}),
            ("health", {"health": 101}),
            ("health", {"health": "61"}),
            ("health", {"health": True}),
            ("helth", {"helth": 61}),
            ("connections", {"connections": -1}),
            ("size_bytes", {"size_bytes": 2**63}),
            ("measured_at", {"measured_at": "2026-07-01T03:00:00"}),
            ("measured_at", {"measured_at": "2999-07-01T03:00:00Z"}),
            ("version", {"version": "a\0b"}),
            ("error", {"error": "\ud800"}),
            ("findings.0.severity", {"findings": [{"code": "x", "severity": "awful"}]}),
            ("findings.0.code", {"findings": [{"code": "<b>", "severity": "high"}]}),
            ("findings", {"findings": [{"code": "x", "severity": "high"}] * 501}),
            ("tables.0.bloat_share", {"tables": [{"name": "t", "bytes": 1, "bloat_share": float("nan")}]}),
            ("tables.0.name", {"tables": [{"bytes": 1}]}),
        ],
    )
    def test_bad_input_is_refused_with_the_field_named(
        self, machine: Caller, shop: MaintenanceSetting, field: str, change: dict[str, Any]
    ) -> None:
        answer = machine().post("databases/shop/status", {**SEEN, **change})
        assert answer.status_code == 422
        assert [e["field"] for e in answer.json()["errors"]] == [field]
        assert answer.json()["errors"][0]["message"]
        assert not DatabaseState.objects.exists()

    @pytest.mark.parametrize("body", ["", "[]", "null", '"x"'])
    def test_no_object(self, machine: Caller, shop: MaintenanceSetting, body: str) -> None:
        answer = machine().post("databases/shop/status", body.encode())
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body")

    @pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 200_000])
    def test_no_json(self, machine: Caller, shop: MaintenanceSetting, body: bytes) -> None:
        assert machine().post("databases/shop/status", body).status_code == 400

    def test_too_much(self, machine: Caller, shop: MaintenanceSetting) -> None:
        assert machine().post("databases/shop/status", b" " * 3_000_000).status_code == 413


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

        monkeypatch.setattr("maintenance.launch.launch", fail)
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

        monkeypatch.setattr("maintenance.launch.launch", slow)
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
        shapes.Plan.model_validate(answer.json())
        [target] = answer.json()["targets"]
        assert {"object", "kind", "reason", "lock", "bytes", "disk_bytes"} <= set(target["actions"][0])
        assert target["estimate"] == {"outage_seconds": None, "duration_seconds": None, "based_on_runs": 0}
        assert not MaintenanceRun.objects.exists()

    def test_the_estimate_is_what_it_took_before(self, machine: Caller, shop: MaintenanceSetting) -> None:
        records.finished_run()
        [target] = machine().post("maintenance/plan", ASKED).json()["targets"]
        assert target["estimate"] == {"outage_seconds": 41.5, "duration_seconds": 78.0, "based_on_runs": 1}

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


@pytest.mark.django_db
class TestHistory:
    def test_pages(self, machine: Caller) -> None:
        for _ in range(5):
            records.empty_run()
        caller = machine()
        first = caller.get("maintenance?page_size=2&status=failed").json()
        shapes.RunPage.model_validate(first)
        assert (first["count"], first["pages"], len(first["runs"]), first["previous"]) == (5, 3, 2, None)
        assert first["next"] == "http://testserver/api/v1/maintenance?page_size=2&status=failed&page=2"
        last = caller.get("maintenance?page_size=2&page=3").json()
        assert (len(last["runs"]), last["next"]) == (1, None)
        assert caller.get("maintenance?page=9").json()["runs"] == []

    def test_newest_first(self, machine: Caller) -> None:
        ids = [records.empty_run().pk for _ in range(3)]
        assert [int(r["id"]) for r in machine().get("maintenance").json()["runs"]] == ids[::-1]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", {"old", "crm", "bad"}),
            ("status=failed", {"bad"}),
            ("maintenance_type=repair", {"crm"}),
            ("severity_level=critical", {"bad"}),
            ("database=crm", {"crm"}),
            ("database=shop&status=succeeded", {"old"}),
            ("since=2026-07-02", {"crm", "bad"}),
            ("until=2026-07-01", {"old"}),
            ("since=2026-07-02&until=2026-07-02", {"crm"}),
            ("database=nowhere", set()),
        ],
    )
    def test_filters(self, machine: Caller, query: str, found: set[str], settings: Any) -> None:
        settings.TIME_ZONE = "UTC"
        records.finished_run(reason="old")
        records.finished_run(["crm"], reason="crm", maintenance_type="repair", created_at=records.at(86400))
        bad = records.empty_run(
            reason="bad", severity_level="critical", created_at=records.at(3 * 86400), status=Status.FAILED
        )
        records.target_of(bad, "shop")
        assert {r["reason"] for r in machine().get(f"maintenance?{query}").json()["runs"]} == found

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("status", "fine"),
            ("maintenance_type", "x"),
            ("since", "yesterday"),
            ("page", "0"),
            ("page_size", "201"),
            ("database", "%00"),
            ("satus", "failed"),
        ],
    )
    def test_a_bad_filter_is_named(self, machine: Caller, field: str, value: str) -> None:
        answer = machine().get(f"maintenance?{field}={value}")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)

    def test_one_run_is_its_outcome(self, machine: Caller) -> None:
        run = records.finished_run()
        answer = machine().get(f"maintenance/{run.pk}")
        assert answer.json() == json.loads(json.dumps(outcome(run)))
        shapes.Outcome.model_validate(answer.json())

    @pytest.mark.parametrize("id", ["4711", "99999999999999999999", "x"])
    def test_a_run_that_is_not_there(self, machine: Caller, id: str) -> None:
        for path in ("", "/report.pdf", "/performance.csv"):
            assert machine().get(f"maintenance/{id}{path}").status_code == 404


FILES = [("report.pdf", "report_pdf", "REPORTS_DIR"), ("performance.csv", "performance_csv", "PERFORMANCE_DIR")]


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "field", "folder"), FILES)
class TestFiles:
    def test_the_file_of_the_run(self, machine: Caller, settings: Any, path: str, field: str, folder: str) -> None:
        place = Path(getattr(settings, folder)) / "2026" / path
        place.parent.mkdir(parents=True)
        place.write_bytes(b"content")
        run = records.empty_run(**{field: str(place)})
        answer: Any = Client(headers=machine().headers).get(f"/api/v1/maintenance/{run.pk}/{path}")
        assert answer.status_code == 200
        assert b"".join(answer.streaming_content) == b"content"
        assert answer["Content-Type"].split(";")[0] in ("application/pdf", "text/csv")
        assert path in answer["Content-Disposition"]

    def test_nothing_outside_the_folder(
        self, machine: Caller, settings: Any, tmp_path: Path, path: str, field: str, folder: str
    ) -> None:
        inside = Path(getattr(settings, folder))
        inside.mkdir(parents=True)
        secret = tmp_path / "secret.key"
        secret.write_text(CANARY)
        (inside / "link").symlink_to(secret)
        beside = inside.with_name(inside.name + "-other")
        beside.mkdir()
        (beside / "file").write_text(CANARY)
        caller = machine()
        for name in (secret, inside / "link", inside / ".." / ".." / "secret.key", beside / "file", inside, ""):
            run = records.empty_run(**{field: str(name)})
            assert caller.get(f"maintenance/{run.pk}/{path}").status_code == 404, name


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

    def test_the_description_is_whole(self) -> None:
        answer = Client().get("/api/v1/openapi.json")
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
        sent = [shapes.MaintenanceRequest, shapes.StateReport, shapes.FindingReport, shapes.TableReport]
        assert all(issubclass(s, BaseModel) and s.model_config.get("extra") == "forbid" for s in sent)

    def test_pages_of_the_console_stay_html(self) -> None:
        with pytest.raises(Resolver404):
            resolve("/nothing/")
        assert Client().get("/nothing/")["Content-Type"].startswith("text/html")


@pytest.mark.django_db
class TestQueries:
    """Their number does not grow with what is there."""

    @pytest.mark.parametrize("path", ["databases", "databases/db1/status", "maintenance", "maintenance/{id}"])
    def test_constant(
        self, machine: Caller, fake: Register, path: str, django_assert_num_queries: Any, connection_queries: Any
    ) -> None:
        caller = machine()
        few = self.fill(fake, range(1, 3), tables=2)
        caller.get("databases")  # notes the use of the token once
        count = connection_queries(lambda: caller.get(path.format(id=few)))
        many = self.fill(fake, range(3, 12), tables=9)
        with django_assert_num_queries(count):
            assert caller.get(path.format(id=many)).status_code == 200

    def test_metrics(self, fake: Register, django_assert_num_queries: Any, connection_queries: Any, db: None) -> None:
        self.fill(fake, range(1, 3), tables=2)
        count = connection_queries(lambda: Client().get("/metrics"))
        assert count <= 12
        self.fill(fake, range(3, 12), tables=9)
        with django_assert_num_queries(count):
            Client().get("/metrics")

    def fill(self, fake: Register, numbers: range, tables: int) -> int:
        names = [f"db{n}" for n in numbers]
        for name in names:
            fake(name)
        run = records.finished_run(names, tables=tables)
        active = records.empty_run(names, status=Status.RUNNING, finished_at=None)
        for name in names:
            records.target_of(active, name, beat_at=timezone.now(), outage_started_at=timezone.now())
        return run.pk


@pytest.fixture
def connection_queries() -> Callable[[Callable[[], Any]], int]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def count(call: Callable[[], Any]) -> int:
        with CaptureQueriesContext(connection) as caught:
            assert call().status_code == 200
        return len(caught)

    return count


@pytest.mark.django_db
class TestMetrics:
    def values(self) -> dict[str, float]:
        answer = Client().get("/metrics")
        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.content.decode()
        assert CANARY not in text
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def test_of_an_empty_console(self) -> None:
        told = self.values()
        assert told == {"dbmaint_queue_length": 0, "dbmaint_workers_alive": 0}

    def test_what_has_been(self, shop: MaintenanceSetting) -> None:
        now = timezone.now()
        records.finished_run(created_at=now)
        records.empty_run(created_at=now)
        BackupFile.objects.update(created_at=now - timedelta(hours=2))
        told = self.values()
        labels = '{status="succeeded",type="rebuild"}'
        assert told[f"dbmaint_runs{labels}"] == 1
        assert told[f"dbmaint_run_duration_seconds_sum{labels}"] == 80
        assert told[f"dbmaint_run_outage_seconds_sum{labels}"] == 41.5
        assert told['dbmaint_run_outage_seconds_count{status="failed",type="rebuild"}'] == 0
        assert told['dbmaint_database_health{database="shop"}'] == 45
        assert told['dbmaint_database_state{database="shop",state="critical"}'] == 1
        assert told['dbmaint_database_state{database="shop",state="well"}'] == 0
        assert 7200 <= told['dbmaint_last_verified_backup_age_seconds{database="shop"}'] < 7260
        assert told["dbmaint_success_ratio"] == 0.5

    def test_what_is_going_on(self, shop: MaintenanceSetting, fake: Register) -> None:
        now = timezone.now()
        Worker.objects.create(name="here:1")
        run = records.empty_run(["shop", "crm"], status=Status.RUNNING, finished_at=None)
        begun = now - timedelta(seconds=30)
        records.target_of(run, "shop", beat_at=now - timedelta(seconds=9), outage_started_at=begun)
        records.target_of(run, "crm", status=Status.QUEUED)
        told = self.values()
        labels = f'{{database="shop",run="{run.pk}"}}'
        assert (told["dbmaint_queue_length"], told["dbmaint_workers_alive"]) == (1, 1)
        assert 9 <= told[f"dbmaint_lease_age_seconds{labels}"] < 20
        assert 30 <= told[f"dbmaint_outage_now_seconds{labels}"] < 40
        assert told['dbmaint_database_state{database="shop",state="maintenance"}'] == 1

    def test_from_elsewhere_with_a_token_of_scope_read(self, machine: Caller, people: dict[str, User]) -> None:
        for elsewhere in ({"REMOTE_ADDR": "192.0.2.7"}, {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}):
            client = Client(**elsewhere)  # type: ignore[arg-type]
            answer = client.get("/metrics")
            assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")
            assert client.get("/metrics", headers=machine("monitoring", "read").headers).status_code == 200
            assert client.get("/metrics", headers=machine("monitoring", "monitor").headers).status_code == 403
            assert client.get("/metrics", headers=machine("outsider", "read").headers).status_code == 403
            client.force_login(people["manager"])
            assert client.get("/metrics").status_code == 200

    def test_a_wrong_token_is_told_even_here(self) -> None:
        assert Client().get("/metrics", headers={"Authorization": "Bearer x"}).status_code == 401
        assert metrics.direct(RequestFactory().get("/metrics"))


@pytest.mark.django_db
class TestTokenCommand:
    def test_it_shows_the_token_once(self, people: dict[str, User]) -> None:
        out, err = StringIO(), StringIO()
        call_command("api_token", "dba", "nightly", "--scope", "read", "--scope", "launch", stdout=out, stderr=err)
        plain = out.getvalue().strip()
        token = ApiToken.objects.get()
        assert (token.name, token.scopes, token.user.username) == ("nightly", ["read", "launch"], "dba")
        assert timedelta(days=89) < token.expires_at - timezone.now() <= timedelta(days=90)
        assert plain not in err.getvalue()
        assert Machine(plain).get("databases").status_code == 200
        entry = AuditEntry.objects.get()
        assert (entry.operation, entry.object) == ("token.created", "nightly")
        assert plain not in json.dumps(entry.after)
        assert token.sha256 not in json.dumps(entry.after)

    def test_as_json(self, people: dict[str, User]) -> None:
        out = StringIO()
        call_command("api_token", "dba", "nightly", "--days", "1", "--json", stdout=out)
        told = json.loads(out.getvalue())
        assert (told["scopes"], told["user"]) == (["read"], "dba")
        assert Machine(told["token"]).get("databases").status_code == 200

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["nobody", "x"], "There is no person nobody"),
            (["dba", "x", "--days", "0"], "--days is 0"),
            (["dba", "x" * 101], "The name has 1 to 100"),
        ],
    )
    def test_bad_input(self, people: dict[str, User], words: list[str], told: str) -> None:
        err = StringIO()
        with pytest.raises(SystemExit) as left:
            call_command("api_token", *words, stderr=err)
        assert left.value.code == 2
        assert told in err.getvalue()
        assert not ApiToken.objects.exists()


@pytest.mark.django_db
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
