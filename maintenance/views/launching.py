"""A maintenance in three screens: choose, look at the plan, confirm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from maintenance import queue
from maintenance.forms.pages import OFFERED_DATABASES, TYPED_NAMES, ConfirmForm, LaunchForm
from maintenance.models import Incident, MaintenanceRun, MaintenanceSetting, ScopeHold, StoredPlan
from maintenance.observation.health import Standing, standings, worst_first
from maintenance.requests import launch
from maintenance.requests.rule import needs_second_person
from maintenance.results.consequences import closes, consequences
from maintenance.results.estimates import usual_outages
from maintenance.text.render import render as rendered

from .access import actor, open_to, person
from .numbers import number_in
from .pieces import Page
from .runs import refused

FRESH = timedelta(minutes=10)
"""An older plan is made again before anybody confirms it."""
REASON = 2000
SHOWN_TARGETS = 20
"""Databases of a plan on one page."""


@open_to("launch_maintenance")
@require_http_methods(["GET", "POST"])
def choose(request: HttpRequest) -> HttpResponseBase:
    form = LaunchForm(person(request), request.POST or None, initial=initial(request))
    if request.method == "POST" and form.is_valid():
        made = launch.ask_for_plan(actor(request), launch.Request(**form.chosen()))
        return redirect("maintenance:launch_plan", made.pk)
    hold = ScopeHold.objects.select_related("run").first()
    return render(request, "launching/choose.html", {"form": form, "hold": hold, "offered": offered(form)})


def offered(form: LaunchForm) -> list[tuple[Any, Standing]]:
    """Return the boxes to tick with what is known of their databases: those that are ticked, then the worst."""
    boxes = {str(box.choice_label): box for box in form["databases"]}
    ticked = set(form["databases"].value() or [])
    known = [s for s in standings() if s.setting.name in boxes]
    first = sorted(known, key=lambda s: s.setting.name not in ticked)
    return [(boxes[s.setting.name], s) for s in first[: max(OFFERED_DATABASES, len(ticked))]]


def initial(request: HttpRequest) -> Page:
    """From an earlier run ('repeat'), from a plan of this person ('plan'), or a database by name."""
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
        return {"databases": [request.GET["database"]], "maintenance_type": request.GET.get("type", "")}
    made = own_plan(request, number_in(request, "plan") or 0)
    if made is not None:
        asked = made.request
        return {
            **asked,
            "databases": asked["target_databases"] or [],
            "tables": "\n".join(asked["target_tables"]),
            "all_databases": asked["target_databases"] is None,
        }
    return {}


def suggested(incident: Incident) -> Page:
    """Only what the alert says; the person decides the rest."""
    told = {
        "databases": [incident.setting.name] if incident.setting else [],
        "severity_level": incident.severity_level,
        "reason": ": ".join(x for x in (incident.alert, incident.summary) if x)[:REASON],
    }
    return {**told, **({"maintenance_type": incident.maintenance_type} if incident.maintenance_type else {})}


def own_plan(request: HttpRequest, pk: int) -> StoredPlan | None:
    """Return the plan of that number, None where this person has none: others confirm plans of their own."""
    return StoredPlan.objects.filter(pk=pk, asked_by=actor(request).name).first()


def to_the_start(request: HttpRequest) -> HttpResponseBase:
    """For an address whose plan was forgotten or is somebody else's."""
    messages.warning(request, _("This plan is no longer there: choose once more. Nothing was started."))
    return redirect("maintenance:launch")


def to_its_run(request: HttpRequest, made: StoredPlan, run: MaintenanceRun) -> HttpResponseBase:
    """For a page that was left open, or come back to, after its plan was started."""
    messages.warning(
        request, _("This plan was started already, as {number}. Nothing else was started.").format(number=run.number)
    )
    return redirect("maintenance:run", run.pk)


def plan_again(request: HttpRequest, made: StoredPlan) -> HttpResponseBase:
    """Ask for another plan of the same request. It has an address of its own, so that this one stays what it was."""
    fresh = launch.ask_for_plan(actor(request), launch.Request(**made.request))
    return redirect(f"{reverse('maintenance:launch_plan', args=[fresh.pk])}?before={made.pk}")


@open_to("launch_maintenance")
@require_http_methods(["GET", "POST"])
def plan(request: HttpRequest, pk: int) -> HttpResponseBase:
    """What would be done and why. POST asks for a new one."""
    made = own_plan(request, pk)
    if made is None:
        return to_the_start(request)
    if request.method == "POST":
        return plan_again(request, made)
    asked = launch.Request(**made.request)
    if made.made_at is None:
        context = {"made": made, "asked": asked, "no_worker": not queue.workers_alive()}
        return render(request, "launching/planning.html", context)
    if made.refused:
        messages.error(request, rendered(made.refused))
        return redirect(f"{reverse('maintenance:launch')}?plan={made.pk}")
    page = Paginator(made.targets, SHOWN_TARGETS).get_page(request.GET.get("page"))
    before = own_plan(request, number_in(request, "before") or 0)
    context = {
        "made": made,
        "asked": asked,
        "targets": described(made, list(page)),
        "page": page,
        "query": f"before={before.pk}" if before is not None else "",
        "changed": before is not None and before.work() != made.work(),
        "approval": needs_approval(asked),
        "blocked": any(t["refused"] for t in made.targets),
        "run": made.launched(),
        "hold": ScopeHold.objects.select_related("run").first(),
        "fresh_minutes": int(FRESH.total_seconds() // 60),
    }
    return render(request, "launching/plan.html", context)


@open_to("launch_maintenance")
@require_GET
def plan_live(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Asked while a worker makes the plan; tells the page to load anew when it is there."""
    made = own_plan(request, pk)
    answer = HttpResponse(status=204)
    return answer if made is not None and made.made_at is None else HttpResponseClientRefresh()


@open_to("launch_maintenance")
@require_POST
def rehearse(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The plan on a copy: nothing that a password would have to guard is touched."""
    made = own_plan(request, pk)
    if made is None:
        return to_the_start(request)
    if made.made_at is None or made.refused:
        return redirect("maintenance:launch_plan", made.pk)
    try:
        run = launch.launch(actor(request), launch.Request(**made.request), agreed=made, rehearsal=True)
    except launch.Outdated as refusal:
        messages.warning(request, refused(refusal))
        return plan_again(request, made)
    except launch.Refused as refusal:
        messages.error(request, refused(refusal))
        return redirect("maintenance:launch_plan", made.pk)
    return redirect("maintenance:run", run.pk)


@sensitive_post_parameters("password")
@open_to("launch_maintenance")
@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The database's name typed and the password again; then the one door starts this plan, or nothing."""
    made = own_plan(request, pk)
    if made is None:
        return to_the_start(request)
    run = made.launched()
    if run is not None:
        return to_its_run(request, made, run)
    if made.made_at is None or made.refused:
        return redirect("maintenance:launch_plan", made.pk)
    if timezone.now() - made.made_at > FRESH:
        minutes = int(FRESH.total_seconds() // 60)
        words = _("The plan was older than {minutes} minutes: this is a new one.").format(minutes=minutes)
        messages.warning(request, words)
        return plan_again(request, made)
    asked = launch.Request(**made.request)
    names = [t["database"] for t in made.targets]
    form = ConfirmForm(request, made.pk, names, request.POST or None)
    if request.method == "POST" and form.is_valid():
        answer = start(request, asked, made, form.breaks_glass)
        if answer is not None:
            return answer
    context = {
        "form": form,
        "made": made,
        "asked": asked,
        "targets": described(made, made.targets[:TYPED_NAMES]),
        "count": len(names),
        "more": max(0, len(names) - TYPED_NAMES),
        "approval": needs_approval(asked),
    }
    return render(request, "launching/confirm.html", context)


def start(request: HttpRequest, asked: launch.Request, agreed: StoredPlan, break_glass: str) -> HttpResponseBase | None:
    """None when it was refused; the refusal is told on the page."""
    try:
        run = launch.launch(actor(request), asked, agreed=agreed, break_glass=break_glass)
    except launch.Outdated as refusal:
        messages.warning(request, refused(refusal))
        return plan_again(request, agreed)
    except launch.Refused as refusal:
        messages.error(request, refused(refusal))
        return None
    return redirect("maintenance:run", run.pk)


def needs_approval(asked: launch.Request) -> bool:
    settings = MaintenanceSetting.objects.filter(enabled=True)
    if asked.target_databases is not None:
        settings = settings.filter(name__in=asked.target_databases)
    return needs_second_person(list(settings), asked)


def described(made: StoredPlan, targets: Sequence[Page]) -> list[Page]:
    """Return these targets of the plan with the sentences on what it means for people, and findings worst first."""
    kind = made.request["maintenance_type"]
    usual = usual_outages([t["database"] for t in targets], kind)
    return [
        {
            **target,
            "findings": worst_first(target["findings"]),
            "consequences": consequences(target, kind, usual[target["database"]]),
            "closes": closes(target, kind),
        }
        for target in targets
    ]
