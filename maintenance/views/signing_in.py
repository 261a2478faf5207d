"""Logging in: audited, locked after wrong passwords, ended after a while, with a second factor where it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve, reverse
from django.utils import timezone
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect
from django_otp.middleware import is_verified

from maintenance.api.problems import problem
from maintenance.auditing import chain
from maintenance.models import AuditEntry, Authenticator

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
OPEN = ("login", "logout", "set_language", "second_factor", "second_factor_enrol", "healthz", "readyz")
"""Addresses that somebody reaches who has given a password only."""
LOOKED_AT_BY_ITSELF = ("_live", "alarm", "run_log")
"""Ends of the names of addresses that pages ask again and again: that is nobody's presence."""
A_MINUTE = timedelta(minutes=1)


class Login(LoginView):
    """Django's, with an entry in the audit log for each try. What a lock-out turned away has one already."""

    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        answer = super().form_valid(form)
        began(self.request)
        chain.record(form.get_user().get_username(), "login", address(self.request))
        return answer

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        if not getattr(self.request, "axes_locked_out", False):
            name = str(form.data.get("username", ""))[:150]
            chain.record(name, "login.failed", address(self.request))
        return super().form_invalid(form)


def began(request: HttpRequest) -> None:
    request.session[BEGAN] = request.session[SEEN] = timezone.now().isoformat()


def address(request: HttpRequest) -> str:
    """Of the client. Only a proxy on this machine (or on the socket) is believed when it names another."""
    peer = str(request.META.get("REMOTE_ADDR", ""))
    named = str(request.META.get("HTTP_X_FORWARDED_FOR", "")).rpartition(",")[2].strip()
    return named if named and peer in ("", "127.0.0.1", "::1") else peer or "unknown"


def locked_out(
    request: HttpRequest, answer: HttpResponse | None = None, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """Too many wrong passwords for this name from this address. Audited once, not at each knock at the door."""
    name, where = str((credentials or {}).get("username", ""))[:150], address(request)
    locked = AuditEntry.objects.filter(
        operation="login.locked", actor=name, object=where, at__gt=timezone.now() - settings.AXES_COOLOFF_TIME
    )
    if not locked.exists():
        chain.record(name, "login.locked", where)
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    return render(request, "registration/locked.html", {"minutes": minutes}, status=429)


Answering = Callable[[HttpRequest], HttpResponseBase]


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
            return _instead(request, "second_factor")
        return _instead(request, "second_factor_enrol") if needs_factor(user) else get_response(request)

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
