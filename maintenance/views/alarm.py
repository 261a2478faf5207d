"""The bar on every page: an outage that lasts, and a database that waits for a person."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .access import READING, open_to
from .live import fragment


@open_to()
def alarm(request: HttpRequest) -> HttpResponseBase:
    """The bar's part of it, refreshed on every page."""
    if not any(request.user.has_perm(f"maintenance.{p}") for p in READING):
        return HttpResponse(status=286)
    return fragment(request, "alarm.html", {})
