"""What is sent, who calls, and every call with who may make it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from maintenance.api.shapes.problems import Problem
from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request

Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]
Caller = Callable[..., "Machine"]
CANARY = "canary-Xq7-not-to-be-seen"
ALL = ("read", "monitor", "alert", "launch", "approve")
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
            problem = Problem.model_validate_json(content)
            assert (problem.type, problem.status) == ("about:blank", answer.status_code)
            assert problem.title
            assert problem.detail
        return answer


def waiting(people: dict[str, User], by: str = "dba") -> MaintenanceRun:
    """A run that waits for a second person."""
    MaintenanceSetting.objects.update(approval_severities=["high"])
    return launch.launch(Actor(by, "web", people[by]), Request("rebuild", ["shop"], "high", "slow"))


READ_STATE, READ_RUNS, START, REPORT = "state", "runs", "start", "report"
CALLS: dict[tuple[str, str], tuple[str, str]] = {
    ("GET", "databases"): ("read", READ_STATE),
    ("GET", "databases/shop/status"): ("read", READ_STATE),
    ("POST", "databases/shop/status"): ("monitor", REPORT),
    ("POST", "alerts"): ("alert", REPORT),
    ("POST", "maintenance"): ("launch", START),
    ("POST", "maintenance/plan"): ("launch", START),
    ("POST", "maintenance/rehearsal"): ("launch", START),
    ("GET", "maintenance"): ("read", READ_RUNS),
    ("GET", "maintenance/{id}"): ("read", READ_RUNS),
    ("POST", "maintenance/{id}/cancel"): ("launch", START),
    ("POST", "maintenance/{id}/approve"): ("approve", START),
    ("POST", "maintenance/{id}/reject"): ("approve", START),
    ("POST", "maintenance/{id}/acknowledge"): ("launch", START),
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
