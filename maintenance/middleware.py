"""A session ends after a while, and opens nothing before its second factor where one is wanted; who tried too often
waits; and headers of a proxy are believed from a proxy only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from math import ceil

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve, reverse
from django.utils import timezone
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect
from django_otp.middleware import is_verified

from maintenance.api.problems import problem
from maintenance.identity.addresses import through_proxy
from maintenance.identity.factors import device_of, needs_factor
from maintenance.identity.throttle import TooManyTries

BEGAN, SEEN = "session_began", "session_seen"
OPEN = tuple(
    f"maintenance:{name}"
    for name in ("login", "logout", "set_language", "second_factor", "second_factor_enrol", "healthz", "readyz")
)
"""Addresses that somebody reaches who has given a password only."""
LOOKED_AT_BY_ITSELF = ("_live", "alarm", "run_log")
"""Ends of the names of addresses that pages ask again and again: that is nobody's presence."""
A_MINUTE = timedelta(minutes=1)
Answering = Callable[[HttpRequest], HttpResponseBase]


def began(request: HttpRequest) -> None:
    request.session[BEGAN] = request.session[SEEN] = timezone.now().isoformat()


def session_rules(get_response: Answering) -> Answering:
    """Middleware: a session ends after SESSION_HOURS, and after IDLE_MINUTES in which nobody touched it."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.user.is_authenticated:
            now, session = timezone.now(), request.session
            if BEGAN not in session:
                began(request)
            seen = datetime.fromisoformat(session[SEEN])
            if (
                now - datetime.fromisoformat(session[BEGAN]) > timedelta(hours=settings.SESSION_HOURS)
                or now - seen > timedelta(minutes=settings.IDLE_MINUTES)
            ):  # fmt: skip
                logout(request)
            elif now - seen > A_MINUTE and not _name(request).endswith(LOOKED_AT_BY_ITSELF):
                session[SEEN] = now.isoformat()
        answer = get_response(request)
        if request.user.is_authenticated:
            # After a log-out the browser's "back" must not show what stood there.
            answer.headers.setdefault("Cache-Control", "private, no-store")
        return answer

    return middleware


def second_factor_first(get_response: Answering) -> Answering:
    """Middleware: nothing but the second factor is open to whoever has one, or needs one, and has not shown it."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        user = request.user
        if not isinstance(user, User) or is_verified(user) or _name(request) in OPEN:
            return get_response(request)
        if device_of(user):
            return _instead(request, "maintenance:second_factor")
        return _instead(request, "maintenance:second_factor_enrol") if needs_factor(user) else get_response(request)

    return middleware


def believe_proxies(get_response: Answering) -> Answering:
    """Middleware: whoever is no proxy of DBMAINT_PROXIES does not get to say that it came by https."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if not through_proxy(request):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
        return get_response(request)

    return middleware


def cheap_health(get_response: Answering) -> Answering:
    """Middleware, the first: the process answers, without session, database or anything else that may be busy."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path_info != "/healthz":
            return get_response(request)
        answer: HttpResponseBase = resolve(request.path_info).func(request)
        return answer

    return middleware


def too_many_tries(get_response: Answering) -> Answering:
    """Middleware: who tried too often is told how long to wait, at whatever door."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        return get_response(request)

    middleware.process_exception = turned_away  # type: ignore[attr-defined]
    return middleware


def turned_away(request: HttpRequest, error: Exception) -> HttpResponse | None:
    """429 with the waiting time; the session in which the last wrong try was made ends."""
    if not isinstance(error, TooManyTries):
        return None
    if error.ends_session and request.user.is_authenticated:
        logout(request)
    answer = render(request, "registration/locked.html", {"minutes": ceil(error.seconds / 60)}, status=429)
    answer["Retry-After"] = str(error.seconds)
    return answer


def _name(request: HttpRequest) -> str:
    try:
        return resolve(request.path_info).view_name or ""
    except Resolver404:
        return ""


def _instead(request: HttpRequest, name: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        return problem(401, "This login needs its second factor first: open the console in the browser.")
    if request.headers.get("HX-Request"):
        return HttpResponseClientRedirect(reverse(name))
    if request.method != "GET":
        return redirect(name)
    return HttpResponseRedirect(f"{reverse(name)}?{urlencode({'next': request.get_full_path()})}")
