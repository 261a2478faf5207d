"""A maintenance in three screens: choose, look at the plan, confirm."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods
from django_htmx.http import HttpResponseClientRefresh

from maintenance import queue
from maintenance.forms.pages import ConfirmForm, LaunchForm
from maintenance.models import Incident, MaintenanceRun, MaintenanceSetting, ScopeHold, StoredPlan
from maintenance.observation.health import standings, worst_first
from maintenance.requests import launch
from maintenance.requests.rule import needs_second_person
from maintenance.results.estimates import usual_outages
from maintenance.text.render import render as rendered

from .access import actor, open_to, person
from .numbers import number_in
from .runs import refused

CHOSEN, PLANNED, SEEN_BEFORE = "launch", "launch_plan", "launch_plan_before"
FRESH = timedelta(minutes=10)
"""An older plan is made again before anybody confirms it."""
REASON = 2000


@open_to("launch_maintenance")
@require_http_methods(["GET", "POST"])
def choose(request: HttpRequest) -> HttpResponseBase:
    form = LaunchForm(person(request), request.POST or None, initial=initial(request))
    if request.method == "POST" and form.is_valid():
        request.session[CHOSEN] = form.chosen()
        ask(request, launch.Request(**form.chosen()))
        return redirect("maintenance:launch_plan")
    hold = ScopeHold.objects.select_related("run").first()
    return render(request, "launching/choose.html", {"form": form, "hold": hold, "standings": standings()})


def initial(request: HttpRequest) -> dict[str, Any]:
    """From an earlier run ('repeat'), from the screens before ('change'), or a database by name."""
    if number := number_in(request, "repeat"):
        run = MaintenanceRun.objects.filter(pk=number).first()
        if run is not None:
            return {
                "maintenance_type": run.maintenance_type,
                "databases": run.target_databases,
                "severity_level": run.severity_level,
                "tables": "\n".join(run.target_tables),
                "reason": run.reason,
            }
    if number := number_in(request, "incident"):
        incident = Incident.objects.filter(pk=number).select_related("setting").first()
        if incident is not None:
            return suggested(incident)
    if "database" in request.GET:
        return {"databases": [request.GET["database"]]}
    chosen = request.session.get(CHOSEN)
    if "change" in request.GET and chosen:
        return {
            **chosen,
            "databases": chosen["target_databases"] or [],
            "tables": "\n".join(chosen["target_tables"]),
            "all_databases": chosen["target_databases"] is None,
        }
    return {}


def suggested(incident: Incident) -> dict[str, Any]:
    """Only what the alert says; the person decides the rest."""
    told = {
        "databases": [incident.setting.name] if incident.setting else [],
        "severity_level": incident.severity_level,
        "reason": ": ".join(x for x in (incident.alert, incident.summary) if x)[:REASON],
    }
    return {**told, **({"maintenance_type": incident.maintenance_type} if incident.maintenance_type else {})}


@open_to("launch_maintenance")
@require_http_methods(["GET", "POST"])
def plan(request: HttpRequest) -> HttpResponseBase:
    """What would be done and why. POST asks for a new one."""
    asked = chosen(request)
    if asked is None:
        return redirect("maintenance:launch")
    made = kept_plan(request, PLANNED)
    if request.method == "POST" or made is None:
        ask(request, asked)
        return redirect("maintenance:launch_plan")
    if made.made_at is None:
        return render(
            request, "launching/planning.html", {"made": made, "asked": asked, "no_worker": not queue.workers_alive()}
        )
    if made.refused:
        messages.error(request, rendered(made.refused))
        del request.session[PLANNED]
        return redirect(f"{reverse('maintenance:launch')}?change")
    told = described(made)
    before = kept_plan(request, SEEN_BEFORE)
    context = {
        "asked": asked,
        "targets": told,
        "made_at": made.made_at,
        "changed": before is not None and before.work() != made.work(),
        "approval": needs_approval(asked),
        "blocked": any(t["refused"] for t in told),
        "hold": ScopeHold.objects.select_related("run").first(),
        "fresh_minutes": int(FRESH.total_seconds() // 60),
    }
    return render(request, "launching/plan.html", context)


@open_to("launch_maintenance")
@require_GET
def plan_live(request: HttpRequest) -> HttpResponseBase:
    """Asked while a worker makes the plan; tells the page to load anew when it is there."""
    made = kept_plan(request, PLANNED)
    answer = HttpResponse(status=204)
    return answer if made is not None and made.made_at is None else HttpResponseClientRefresh()


def ask(request: HttpRequest, asked: launch.Request) -> None:
    """Has a worker make a plan; a session has one."""
    request.session[SEEN_BEFORE] = request.session.get(PLANNED)
    request.session[PLANNED] = launch.ask_for_plan(actor(request), asked).pk


def kept_plan(request: HttpRequest, key: str) -> StoredPlan | None:
    return StoredPlan.objects.filter(pk=request.session.get(key) or 0).first()


@sensitive_post_parameters("password")
@open_to("launch_maintenance")
@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest) -> HttpResponseBase:
    """The database's name typed and the password again; then the one door starts it."""
    asked, made = chosen(request), kept_plan(request, PLANNED)
    if asked is None:
        return redirect("maintenance:launch")
    if made is None or made.made_at is None or made.refused:
        return redirect("maintenance:launch_plan")
    if timezone.now() - made.made_at > FRESH:
        messages.warning(
            request,
            _("The plan was older than {minutes} minutes: this is a new one.").format(
                minutes=int(FRESH.total_seconds() // 60)
            ),
        )
        ask(request, asked)
        return redirect("maintenance:launch_plan")
    told = [summary(target) for target in described(made)]
    form = ConfirmForm(request, [t["database"] for t in told], request.POST or None)
    if request.method == "POST" and form.is_valid():
        answer = start(request, asked, made, form.breaks_glass)
        if answer is not None:
            return answer
    context = {
        "form": form,
        "asked": asked,
        "targets": told,
        "made_at": made.made_at,
        "approval": needs_approval(asked),
    }
    return render(request, "launching/confirm.html", context)


def start(request: HttpRequest, asked: launch.Request, agreed: StoredPlan, break_glass: str) -> HttpResponseBase | None:
    """None when it was refused; the refusal is told on the page."""
    try:
        run = launch.launch(actor(request), asked, agreed=agreed, break_glass=break_glass)
    except launch.Refused as refusal:
        messages.error(request, refused(refusal))
        return None
    for key in (CHOSEN, PLANNED, SEEN_BEFORE):
        request.session.pop(key, None)
    return redirect("maintenance:run", run.pk)


def chosen(request: HttpRequest) -> launch.Request | None:
    kept = request.session.get(CHOSEN)
    return launch.Request(**kept) if kept else None


def needs_approval(asked: launch.Request) -> bool:
    settings = MaintenanceSetting.objects.filter(enabled=True)
    if asked.target_databases is not None:
        settings = settings.filter(name__in=asked.target_databases)
    return needs_second_person(list(settings), asked)


def described(made: StoredPlan) -> list[dict[str, Any]]:
    """Each target of the plan with the usual length of its outage, and where that number comes from."""
    usual = usual_outages([t["database"] for t in made.targets], made.request["maintenance_type"])
    return [
        {
            **target,
            "findings": worst_first(target["findings"]),
            "usual": usual[target["database"]],
            "bytes": sum(a["bytes"] for a in target["actions"]),
            "objects": len({a["object"] for a in target["actions"]}),
        }
        for target in made.targets
    ]


def summary(target: dict[str, Any]) -> dict[str, Any]:
    """What the confirmation repeats of the plan."""
    kept = {
        k: target[k] for k in ("database", "engine", "size_bytes", "connections", "applications", "usual", "objects")
    }
    return {**kept, "actions": len(target["actions"])}
