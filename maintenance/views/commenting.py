"""Comments on a run, and handing it over to somebody else."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from maintenance.forms.pages import CommentForm
from maintenance.models import MaintenanceRun
from maintenance.requests import launch
from maintenance.text.render import render as rendered

from .access import actor, open_to


@open_to("launch_maintenance")
@require_POST
def comment(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Keep a comment; with a name it is a hand-over, and that person is told."""
    run = get_object_or_404(MaintenanceRun, pk=pk)
    form = CommentForm(actor(request).name, request.POST)
    if not form.is_valid():
        messages.error(request, _("Nothing was kept: write a comment, and choose one of the names."))
        return redirect("maintenance:run", pk)
    try:
        launch.comment(actor(request), run, form.cleaned_data["text"], form.cleaned_data["handed_to"])
        messages.success(request, _("Handed over.") if form.cleaned_data["handed_to"] else _("Your comment is kept."))
    except launch.Refused as refusal:
        messages.error(request, rendered(refusal.sentence))
    return redirect("maintenance:run", pk)
