"""Incidents that monitoring opened: a person closes what no alert closes any more."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from maintenance.models import Incident
from maintenance.observation import incidents

from .access import actor, open_to


@open_to("launch_maintenance")
@require_POST
def close(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The alert that opened it may open another."""
    incident = get_object_or_404(Incident, pk=pk)
    if incidents.close(actor(request).name, incident):
        messages.success(request, _("The incident is closed."))
    return redirect("maintenance:dashboard")
