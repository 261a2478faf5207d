"""Fragments that a page asks for again and again; status 286 tells htmx that it was the last time."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django_htmx.http import HTMX_STOP_POLLING

from .pieces import Page


def fragment(request: HttpRequest, template: str, context: Page, over: bool = False) -> HttpResponse:
    """`static/live.js` replaces only those parts that differ, so that focus, selection and scroll stay."""
    answer = render(request, template, context, status=HTMX_STOP_POLLING if over else 200)
    answer["Cache-Control"] = "no-store"
    return answer
