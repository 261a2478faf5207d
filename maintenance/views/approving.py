"""What a second person sees before they say yes or no, and where they say it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from maintenance.forms.pages import ApproveForm, RejectForm
from maintenance.models import MaintenanceRun, ScopeHold
from maintenance.models.asked import changes_since
from maintenance.requests import launch
from maintenance.requests.four_eyes import outdated
from maintenance.text.render import render as rendered

from .access import actor, open_to
from .launching import described
from .pieces import Page
from .runs import refused


@sensitive_post_parameters("password")
@open_to("approve_maintenance")
@require_http_methods(["GET", "POST"])
def approve(request: HttpRequest, pk: int) -> HttpResponseBase:
    """A second person's word, with the password again."""
    found = get_object_or_404(MaintenanceRun, pk=pk)
    form = ApproveForm(request, request.POST or None)
    if request.method == "GET" or not form.is_valid():
        return render(request, "runs/approve.html", {**seen(found), "yes": form})
    try:
        launch.approve(actor(request), found)
        messages.success(request, _("Approved: the maintenance is on its way."))
    except launch.Refused as refusal:
        messages.error(request, refused(refusal))
    return redirect("maintenance:run", pk)


@open_to("approve_maintenance")
@require_POST
def reject(request: HttpRequest, pk: int) -> HttpResponseBase:
    """A second person's no, with a comment."""
    found = get_object_or_404(MaintenanceRun, pk=pk)
    form = RejectForm(request.POST)
    try:
        launch.reject(actor(request), found, form.cleaned_data["comment"] if form.is_valid() else "")
        messages.success(request, _("Rejected: the maintenance has ended, and the DBAs are told."))
    except launch.Refused as refusal:
        messages.error(request, refused(refusal))
    return redirect("maintenance:run", pk)


def seen(run: MaintenanceRun) -> Page:
    """Plan and settings as the approval will be bound to them, and what is no longer so."""
    why = outdated(run)
    return {
        "run": run,
        "targets": described(run.agreed_plan, run.agreed_plan.targets) if run.agreed_plan else [],
        "made_at": run.agreed_plan.made_at if run.agreed_plan else None,
        "hold": ScopeHold.objects.filter(run=run).first(),
        "settings": run.asked_settings,
        "changes": changes_since(run),
        "outdated": rendered(why) if why else "",
        "no": RejectForm(),
    }
