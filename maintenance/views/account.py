"""What belongs to the person: language, time zone, tokens for machines that act in their name."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST
from django.views.i18n import set_language

from maintenance.api.tokens import issue
from maintenance.auditing import chain
from maintenance.forms.pages import TIME_ZONES, PreferencesForm, Proven, TokenForm
from maintenance.identity.factors import device_of
from maintenance.models import ApiToken, Preference

from .access import open_to, person
from .pieces import Page

ZONE_COOKIE = "dbmaint_time_zone"
"""Written by static/live.js: no header tells where a browser is."""


def own_language_and_time(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: pages are in the language and the time zone of the person; until they choose, of their browser."""

    def middleware(request: HttpRequest) -> HttpResponse:
        wanted = preference(request)
        with zone(wanted.time_zone or request.COOKIES.get(ZONE_COOKIE, "")):
            if not wanted.language:
                return get_response(request)
            with translation.override(wanted.language):
                request.LANGUAGE_CODE = wanted.language
                answer = get_response(request)
        answer.headers.setdefault("Content-Language", wanted.language)
        return answer

    return middleware


def preference(request: HttpRequest) -> Preference:
    if not request.user.is_authenticated:
        return Preference()
    return Preference.objects.filter(user=request.user).first() or Preference()


def zone(name: str) -> AbstractContextManager[None]:
    """A zone that nobody knows changes nothing: cookies come from anywhere."""
    return timezone.override(zoneinfo.ZoneInfo(name)) if name in TIME_ZONES else nullcontext()


@open_to()
@require_GET
def account(request: HttpRequest) -> HttpResponseBase:
    return render(request, "account/page.html", told(request))


def told(request: HttpRequest, **more: Any) -> Page:
    user = person(request)
    chosen = preference(request)
    return {
        "tokens": ApiToken.objects.filter(user=user).order_by("-id"),
        "groups": list(user.groups.values_list("name", flat=True)),
        "preferences": PreferencesForm(initial={"language": chosen.language, "time_zone": chosen.time_zone}),
        "token_form": TokenForm(request, auto_id="id_token_%s"),
        "factor": device_of(user),
        "proven": Proven(request, auto_id="id_factor_%s"),
        **more,
    }


@open_to()
@require_POST
def prefer(request: HttpRequest) -> HttpResponseBase:
    form = PreferencesForm(request.POST)
    if not form.is_valid():
        return render(request, "account/page.html", told(request, preferences=form), status=400)
    Preference.objects.update_or_create(user=person(request), defaults=form.cleaned_data)
    return redirect("maintenance:account")


@require_POST
def language(request: HttpRequest) -> HttpResponseBase:
    """The button in the bar: for this browser, and for the person who is logged in."""
    asked = request.POST.get("language", "")
    if request.user.is_authenticated and asked in dict(settings.LANGUAGES):
        Preference.objects.update_or_create(user=request.user, defaults={"language": asked})
    return set_language(request)


@sensitive_post_parameters("password")
@open_to()
@require_POST
def token_create(request: HttpRequest) -> HttpResponseBase:
    """The token is on this answer and nowhere else; the table keeps its SHA-256."""
    form = TokenForm(request, request.POST, auto_id="id_token_%s")
    if not form.is_valid():
        return render(request, "account/page.html", told(request, token_form=form), status=400)
    data = form.cleaned_data
    user = person(request)
    plain, token = issue(user, data["name"], data["scopes"], timedelta(days=data["days"]), user.get_username())
    answer = render(request, "account/page.html", told(request, plain=plain, created=token))
    answer["Cache-Control"] = "no-store"
    return answer


@open_to()
@require_POST
def token_revoke(request: HttpRequest, pk: int) -> HttpResponseBase:
    token = get_object_or_404(ApiToken, pk=pk, user=person(request))
    with transaction.atomic():
        chain.record(
            person(request).get_username(),
            "token.revoked",
            token.name,
            before={"name": token.name, "scopes": token.scopes},
        )
        token.delete()
    messages.success(request, _("The token is revoked."))
    return redirect("maintenance:account")
