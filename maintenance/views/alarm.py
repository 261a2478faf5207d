"""The bar on every page, asked for again and again: outages that last."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django_htmx.http import HTMX_STOP_POLLING

from .access import READING, may, open_to
from .live import fragment


@open_to()
def alarm(request: HttpRequest) -> HttpResponseBase:
    """The bar's part of it, refreshed on every page."""
    if not may(request, *READING):
        return HttpResponse(status=HTMX_STOP_POLLING)
    return fragment(request, "alarm.html", {})
