"""Logging in: audited, and locked after wrong passwords."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.middleware import began
from maintenance.models import AuditEntry


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
