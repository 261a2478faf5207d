"""For load balancers and watchdogs: no login, no words about any database."""

from __future__ import annotations

from django.db import Error
from django.http import HttpRequest, JsonResponse

from maintenance import queue


def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """The control database answers and a worker lives: a launch would be carried out."""
    try:
        workers = queue.workers_alive()
    except Error:
        return JsonResponse({"status": "the control database does not answer"}, status=503)
    if not workers:
        return JsonResponse({"status": "no worker is alive", "workers": 0}, status=503)
    return JsonResponse({"status": "ok", "workers": workers})
