"""DB状態情報: what monitoring may post, and what it is refused for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from maintenance.api.shapes.states import DatabaseStatus
from maintenance.auditing import chain
from maintenance.models import AuditEntry, DatabaseState, MaintenanceSetting
from tests.web.api.calling import SEEN, Caller


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
        assert DatabaseStatus.model_validate(answer.json())
        entry = AuditEntry.objects.order_by("-id")[0]
        assert (entry.actor, entry.operation, entry.object) == ("monitoring", "state.reported", "shop")
        assert chain.verify().whole

    def test_only_news_are_audited_a_state_a_minute_would_bury_the_rest(
        self, machine: Caller, shop: MaintenanceSetting
    ) -> None:
        caller = machine("monitoring", "monitor")
        seen = AuditEntry.objects.filter(operation="state.reported")
        for state in ("well", "well", "degraded", "degraded", "degraded", "well"):
            assert caller.post("databases/shop/status", {"schema_version": 1, "state": state}).status_code == 201
        assert [e.after["state"] for e in seen.order_by("id") if e.after] == ["well", "degraded", "well"]
        assert DatabaseState.objects.count() == 6

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
