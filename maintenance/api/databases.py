"""API-335: how databases stand, as read by machines and as told by monitoring."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.engines.messages import msg
from maintenance.engines.values import Json
from maintenance.models import DatabaseState, MaintenanceSetting, RunTarget
from maintenance.observation.health import Standing, standings
from maintenance.requests.launch import NotFound

from .callers import Called, Scope, actor, open_to
from .routers import databases as routes
from .shapes.problems import NO_BODY, WRONG, Problem
from .shapes.states import DatabaseList, DatabaseStatus, StateReport

FINDING = ("code", "severity", "object", "evidence", "hint")


@routes.get("", auth=open_to(Scope.READ, "view_databasestate"), response={200: DatabaseList, **WRONG})
def databases(request: Called) -> HttpResponse:
    """Every database that is switched on, worst first."""
    return JsonResponse({"databases": [told(request, standing) for standing in standings()]})


@routes.get(
    "/{name}/status",
    auth=open_to(Scope.READ, "view_databasestate"),
    response={200: DatabaseStatus, 404: Problem, **WRONG},
    url_name="status",
)
def status(request: Called, name: str) -> HttpResponse:
    """The last look at one database; a look of its own would burden a sick server."""
    standing = next((s for s in standings() if s.setting.name == name), None)
    if standing is None:
        raise _unknown(name)
    return JsonResponse(in_full(request, standing))


@routes.post(
    "/{name}/status",
    auth=open_to(Scope.MONITOR, "add_databasestate"),
    response={201: DatabaseStatus, 404: Problem, **NO_BODY, **WRONG},
)
def report(request: Called, name: str, given: StateReport) -> HttpResponse:
    """DB状態情報 from monitoring: one row of TBL-097. Audited when it says something new, not every minute."""
    setting = next((s for s in MaintenanceSetting.objects.filter(enabled=True) if s.name == name), None)
    if setting is None:
        raise _unknown(name)
    values = given.model_dump(exclude={"schema_version", "measured_at"})
    with transaction.atomic():
        before = setting.states.filter(source=DatabaseState.Source.MONITORING).order_by("-measured_at").first()
        state = DatabaseState.objects.create(
            setting=setting,
            source=DatabaseState.Source.MONITORING,
            measured_at=given.measured_at or timezone.now(),
            **values,
        )
        if before is None or _news(before) != _news(state):
            chain.record(actor(request).name, "state.reported", name, _news(before) if before else None, _news(state))
    return JsonResponse(in_full(request, Standing(setting, state.state, state, None, None, None)), status=201)


def _news(state: DatabaseState) -> Json:
    """What of a reported state is worth an audit entry when it changes."""
    return {"state": state.state, "findings": sorted({str(f.get("code")) for f in state.findings})}


def told(request: HttpRequest, standing: Standing) -> dict[str, Any]:
    state = standing.state
    return {
        "database": standing.setting.name,
        "engine": standing.engine,
        "state": state.state if state else "unknown",
        "health": state.health if state else None,
        "needs_operator": standing.word == "needs_operator",
        "maintenance": reference(request, standing.target) if standing.target else None,
        "size_bytes": state.size_bytes if state else None,
        "free_bytes": state.free_bytes if state else None,
        "connections": state.connections if state else None,
        "max_connections": state.max_connections if state else None,
        "version": state.version if state else None,
        "source": state.source if state else None,
        "measured_at": state.measured_at if state else None,
        "last_verified_backup_at": standing.backup_at,
        "worst_finding": finding(standing.worst) if standing.worst else None,
        "url": request.build_absolute_uri(reverse("api-1:status", args=[standing.setting.name])),
    }


def in_full(request: HttpRequest, standing: Standing) -> dict[str, Any]:
    state = standing.state
    return {
        **told(request, standing),
        "findings": [finding(f) for f in state.findings] if state else [],
        "tables": state.tables if state else [],
        "error": (state.error or None) if state else None,
    }


def finding(stored: dict[str, Any]) -> dict[str, Any]:
    return {key: stored[key] for key in FINDING}


def reference(request: HttpRequest, target: RunTarget) -> dict[str, str]:
    url = request.build_absolute_uri(reverse("api-1:run", args=[target.run_id]))
    return {"id": str(target.run_id), "number": target.run.number, "url": url}


def _unknown(name: str) -> NotFound:
    known = ", ".join(MaintenanceSetting.objects.filter(enabled=True).values_list("name", flat=True)) or "none"
    return NotFound(msg("There is no database {name}; registered are: {known}.", name=name, known=known))
