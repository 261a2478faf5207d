"""API-336: plan, launch, approve, cancel. All of it happens behind the doors of `launch`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from ninja import Header

from maintenance.engines.messages import msg
from maintenance.models import MaintenanceRun, StoredPlan
from maintenance.requests import launch
from maintenance.results.estimates import usual_durations, usual_outage

from .callers import Called, Scope, actor, open_to
from .problems import Conflict
from .routers import maintenance as routes
from .shapes.problems import NO_BODY, WRONG, Problem
from .shapes.starting import Accepted, MaintenanceRequest, Plan, Rejection, StartRequest

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,200}$",
        description="The same key from the same person answers with the same run, however often it is sent.",
    ),
]


@routes.post(
    "",
    auth=open_to(Scope.LAUNCH, "launch_maintenance", proven=True),
    response={202: Accepted, 404: Problem, 409: Problem, **NO_BODY, **WRONG},
)
def start(request: Called, given: StartRequest, idempotency_key: Key = None) -> HttpResponse:
    """Starts an emergency maintenance. The answer does not wait for it."""
    asked = launch.Request(**given.model_dump(exclude={"plan"}))
    agreed = None if given.plan is None else planned(given.plan)
    run = earlier(request, asked, idempotency_key)
    if run is None:
        try:
            run = launch.launch(actor(request), asked, key=idempotency_key, agreed=agreed)
        except launch.Locked:
            # The same request may have arrived twice at once; then the other one has started the run.
            run = earlier(request, asked, idempotency_key)
            if run is None:
                raise
    return accepted(request, run)


@routes.post(
    "/rehearsal",
    auth=open_to(Scope.LAUNCH, "launch_maintenance"),
    response={202: Accepted, 404: Problem, 409: Problem, **NO_BODY, **WRONG},
)
def rehearse(request: Called, given: StartRequest) -> HttpResponse:
    """Does the same work on a copy of each database: nothing of them is touched, no application is stopped.

    Its outcome tells what to expect of the outage. A maintenance of the same work refers to it.
    """
    asked = launch.Request(**given.model_dump(exclude={"plan"}))
    agreed = None if given.plan is None else planned(given.plan)
    return accepted(request, launch.launch(actor(request), asked, agreed=agreed, rehearsal=True))


def planned(number: int) -> StoredPlan:
    """Raises BadInput."""
    found = StoredPlan.objects.filter(pk=number).first()
    if found is None:
        raise launch.BadInput(msg("There is no plan {plan}; make one first.", plan=number))
    return found


def earlier(request: Called, asked: launch.Request, key: str | None) -> MaintenanceRun | None:
    """What this person started with this key. Raises BadInput when that was something else."""
    run = MaintenanceRun.objects.filter(requested_by=request.auth, request_key=key).first() if key else None
    if run is None:
        return None
    before = (run.maintenance_type, run.severity_level, run.reason, list(run.target_tables), run.allow_data_loss)
    now = (
        asked.maintenance_type,
        asked.severity_level,
        asked.reason.strip(),
        list(asked.target_tables),
        asked.allow_data_loss,
    )
    same = asked.target_databases is None or list(dict.fromkeys(asked.target_databases)) == run.target_databases
    if before != now or not same:
        raise launch.BadInput(
            msg("This Idempotency-Key was used for {run}, which was asked for otherwise.", run=run.number)
        )
    return run


@routes.post(
    "/plan",
    auth=open_to(Scope.LAUNCH, "launch_maintenance"),
    response={200: Plan, 404: Problem, **NO_BODY, **WRONG},
)
def plan(request: Called, given: MaintenanceRequest) -> HttpResponse:
    """What would be done and why, with locks, disk and times. Changes nothing.

    Give its number back as `plan` when you start the maintenance: then this plan is carried out exactly, or planned
    again, and said so, where the database has changed since.
    """
    made = launch.plan_now(actor(request).name, launch.Request(**given.model_dump()))
    targets = made.targets
    for target in targets:
        target["estimate"] = estimate(target["database"], given.maintenance_type)
    return JsonResponse(
        {
            "plan": made.pk,
            "maintenance_type": given.maintenance_type,
            "severity_level": given.severity_level,
            "targets": targets,
        }
    )


def estimate(database: str, maintenance_type: str) -> dict[str, Any]:
    """From what it took before, as the pages tell it; without any such maintenance nobody knows."""
    outage = usual_outage(database, maintenance_type)
    durations = usual_durations(database, maintenance_type)
    return {
        "outage_seconds": outage["seconds"] if outage else None,
        "duration_seconds": median(durations) if durations else None,
        "based_on_runs": len(durations),
    }


@routes.post(
    "/{int:id}/cancel",
    auth=open_to(Scope.LAUNCH, "cancel_maintenance"),
    response={202: Accepted, 404: Problem, 409: Problem, **WRONG},
)
def cancel(request: Called, id: int) -> HttpResponse:
    """Asks the workers to stop; service comes back as it was before."""
    return told_to(launch.cancel, request, id)


@routes.post(
    "/{int:id}/approve",
    auth=open_to(Scope.APPROVE, "approve_maintenance", proven=True),
    response={202: Accepted, 404: Problem, 409: Problem, **WRONG},
)
def approve(request: Called, id: int) -> HttpResponse:
    """A second person's word; the one who asked cannot give it."""
    return told_to(launch.approve, request, id)


@routes.post(
    "/{int:id}/reject",
    auth=open_to(Scope.APPROVE, "approve_maintenance"),
    response={202: Accepted, 404: Problem, 409: Problem, **NO_BODY, **WRONG},
)
def reject(request: Called, id: int, given: Rejection) -> HttpResponse:
    """A second person's no: the request ends, and whoever asked is told why."""
    return told_to(partial(launch.reject, comment=given.comment), request, id)


@routes.post(
    "/{int:id}/acknowledge",
    auth=open_to(Scope.LAUNCH, "launch_maintenance", proven=True),
    response={202: Accepted, 404: Problem, 409: Problem, **WRONG},
)
def acknowledge(request: Called, id: int) -> HttpResponse:
    """Somebody is on a run that needs an operator; the reminders stop."""
    return told_to(launch.acknowledge, request, id)


def told_to(door: Callable[[launch.Actor, MaintenanceRun], None], request: Called, id: int) -> HttpResponse:
    """One word on a run through one of the doors. Raises Conflict when the run is not in the state for it."""
    run = get_object_or_404(MaintenanceRun, pk=id)
    try:
        door(actor(request), run)
    except launch.BadInput as refusal:
        raise Conflict(refusal.sentence) from refusal
    run.refresh_from_db()
    return accepted(request, run)


def accepted(request: HttpRequest, run: MaintenanceRun) -> HttpResponse:
    """Where to follow it: `url` for machines, `page` for people."""
    url = request.build_absolute_uri(reverse("api-1:run", args=[run.pk]))
    page = request.build_absolute_uri(reverse("maintenance:run", args=[run.pk]))
    told = {"id": str(run.pk), "number": run.number, "status": str(run.status), "url": url, "page": page}
    answer = JsonResponse(told, status=202)
    answer["Location"] = url
    return answer
