"""A session ends after a while, and opens nothing before its second factor where one is wanted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import Resolver404, resolve, reverse
from django.utils import timezone
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect
from django_otp.middleware import is_verified

from maintenance.api.problems import problem
from maintenance.models import Authenticator

BEGAN, SEEN = "session_began", "session_seen"
GUARDED = (
    "launch_maintenance",
    "approve_maintenance",
    "break_glass",
    "cancel_maintenance",
    "allow_data_loss",
    "change_maintenancesetting",
    "verify_audit",
)
"""Whoever may do one of these needs a second factor where the installation asks for it."""
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
        if Authenticator.objects.filter(user=user, confirmed=True).exists():
            return _instead(request, "maintenance:second_factor")
        return _instead(request, "maintenance:second_factor_enrol") if needs_factor(user) else get_response(request)

    return middleware


def needs_factor(user: User) -> bool:
    """Superusers have every permission, so they are among them."""
    if not settings.SECOND_FACTOR_REQUIRED:
        return False
    return user.is_staff or any(user.has_perm(f"maintenance.{p}") for p in GUARDED)


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
