"""The webhook of Alertmanager."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from maintenance.models import Incident
from maintenance.observation import incidents
from maintenance.observation.incidents import Alert

from .callers import Called, Scope, actor, open_to
from .routers import alerts as routes
from .shapes.alerts import AlertReport, AlertsReport, IncidentList
from .shapes.problems import NO_BODY, WRONG


@routes.post("", auth=open_to(Scope.ALERT, "add_incident"), response={200: IncidentList, **NO_BODY, **WRONG})
def take(request: Called, given: AlertsReport) -> HttpResponse:
    """Alerts open incidents, which wait for a person and pre-fill the launch form; resolved ones close them."""
    found = incidents.take(actor(request).name, [alert(sent) for sent in given.alerts])
    return JsonResponse({"incidents": [told(request, incident) for incident in found]})


def alert(sent: AlertReport) -> Alert:
    """An alert that fires has an end in the year 1 from Alertmanager; its status decides."""
    ends = (sent.endsAt or sent.startsAt) if sent.status == "resolved" else None
    return Alert(sent.fingerprint, sent.labels, sent.annotations, sent.startsAt, ends, sent.generatorURL)


def told(request: HttpRequest, incident: Incident) -> dict[str, Any]:
    return {
        "id": str(incident.pk),
        "alert": incident.alert,
        "database": incident.setting.name if incident.setting else None,
        "severity_level": incident.severity_level,
        "open": incident.closed_at is None,
        "opened_at": incident.opened_at,
        "page": request.build_absolute_uri(f"{reverse('maintenance:launch')}?incident={incident.pk}"),
    }
