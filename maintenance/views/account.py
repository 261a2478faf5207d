"""What belongs to the person: language, time zone, tokens for machines that act in their name."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from .. import audit
from ..forms import PreferencesForm, TokenForm
from ..models import ApiToken
from ..tokens import issue
from .access import open_to, person

ZONE_COOKIE = "dbmaint_time_zone"
YEAR = 365 * 86400


def own_time_zone(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: times on pages are in the zone that the person chose in this browser."""

    def middleware(request: HttpRequest) -> HttpResponse:
        name = request.COOKIES.get(ZONE_COOKIE, "")
        if name not in zoneinfo.available_timezones():
            return get_response(request)
        with timezone.override(zoneinfo.ZoneInfo(name)):
            return get_response(request)

    return middleware


@open_to()
@require_GET
def account(request: HttpRequest) -> HttpResponseBase:
    return render(request, "account/page.html", told(request))


def told(request: HttpRequest, **more: Any) -> dict[str, Any]:
    user = person(request)
    chosen = {"language": getattr(request, "LANGUAGE_CODE", "en"), "time_zone": timezone.get_current_timezone_name()}
    return {
        "tokens": ApiToken.objects.filter(user=user).order_by("-id"),
        "groups": list(user.groups.values_list("name", flat=True)),
        "preferences": PreferencesForm(initial=chosen),
        "token_form": TokenForm(),
        **more,
    }


@open_to()
@require_POST
def prefer(request: HttpRequest) -> HttpResponseBase:
    form = PreferencesForm(request.POST)
    if not form.is_valid():
        return render(request, "account/page.html", told(request, preferences=form), status=400)
    answer = redirect("account")
    for name, value in (
        (settings.LANGUAGE_COOKIE_NAME, form.cleaned_data["language"]),
        (ZONE_COOKIE, form.cleaned_data["time_zone"]),
    ):
        answer.set_cookie(name, value, max_age=YEAR, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE)
    return answer


@open_to()
@require_POST
def token_create(request: HttpRequest) -> HttpResponseBase:
    """The token is on this answer and nowhere else; the table keeps its SHA-256."""
    form = TokenForm(request.POST)
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
        audit.record(
            person(request).get_username(),
            "token.revoked",
            token.name,
            before={"name": token.name, "scopes": token.scopes},
        )
        token.delete()
    messages.success(request, _("The token is revoked."))
    return redirect("account")
