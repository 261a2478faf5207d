"""Who may see which page, and who is asking."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django_htmx.http import HttpResponseClientRefresh

from maintenance.auditing import chain
from maintenance.requests.launch import Actor

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]
READING = ("view_maintenancerun", "read_reports")


def may(request: HttpRequest, *permissions: str) -> bool:
    """Whether the person has at least one of these permissions (of `maintenance`)."""
    return any(request.user.has_perm(f"maintenance.{permission}") for permission in permissions)


def open_to(*permissions: str) -> Callable[[View[P]], View[P]]:
    """People with at least one of these permissions (of `maintenance`); without any named: whoever is logged in."""

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return _to_login(request)
            if permissions and not may(request, *permissions):
                if request.method == "POST":
                    chain.record(request.user.get_username(), "access.refused", f"POST {request.path}")
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def _to_login(request: HttpRequest) -> HttpResponse:
    """A fragment asks for the whole page again, which then leads to the login."""
    if request.headers.get("HX-Request"):
        return HttpResponseClientRefresh()
    return redirect_to_login(request.get_full_path())


def person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def actor(request: HttpRequest) -> Actor:
    user = person(request)
    return Actor(name=user.get_username(), origin="web", user=user)
