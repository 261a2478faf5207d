"""Who calls, and what they may: a bearer token within its scopes, or a browser's session with CSRF."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from ninja.errors import AuthenticationError, AuthorizationError
from ninja.openapi.views import openapi_view
from ninja.security import APIKeyCookie
from ninja.security.base import AuthBase
from ninja.throttling import BaseThrottle

from maintenance.auditing import chain
from maintenance.identity import proof, throttle
from maintenance.identity.addresses import address
from maintenance.models import ApiToken
from maintenance.requests.launch import Actor

from . import tokens
from .problems import problem

Scope = ApiToken.Scope
READING = ("view_maintenancerun", "read_reports")
A_MINUTE = 600
"""Calls with one token or by one person, in each web process."""


class Called(HttpRequest):
    """A request that was let in."""

    auth: User


class Bearer(AuthBase):
    """A token in the Authorization header."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, scope: ApiToken.Scope, permissions: Sequence[str]) -> None:
        super().__init__()
        self.scope, self.permissions = scope, permissions

    def __call__(self, request: HttpRequest) -> User | None:
        kind, _, plain = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        token = token_of(request, plain.strip())
        if self.scope not in token.scopes:
            refused(request, token.user, f"token {token.name} without the scope {self.scope.value}")
            raise AuthorizationError(message=f"The token {token.name} does not have the scope {self.scope.value}.")
        return permitted(request, token.user, self.permissions)


def token_of(request: HttpRequest, plain: str) -> ApiToken:
    """Return the token. Raises AuthenticationError, and TooManyTries where unknown ones come again and again."""
    try:
        token = tokens.find(plain)
    except tokens.Ended as why:
        raise AuthenticationError(message=str(why)) from why
    if token is None:
        throttle.unknown_token(tokens.digest(plain), address(request))
        raise AuthenticationError(message="The token is unknown, revoked or expired.")
    return token


class Session(APIKeyCookie):
    """The cookie of somebody who is logged in; what changes something needs X-CSRFToken too."""

    param_name = settings.SESSION_COOKIE_NAME

    def __init__(self, permissions: Sequence[str], proven: bool) -> None:
        super().__init__()
        self.permissions, self.proven = permissions, proven

    def __call__(self, request: HttpRequest) -> User | None:
        """Whoever is not logged in is told that, rather than of a missing CSRF token."""
        if not request.user.is_authenticated:
            raise AuthenticationError(message="Send a bearer token in the header Authorization, or log in.")
        user: User | None = super().__call__(request)
        return user

    def authenticate(self, request: HttpRequest, key: str | None) -> User:
        assert isinstance(request.user, User)
        user = permitted(request, request.user, self.permissions)
        if self.proven and not proof.is_fresh(request):
            refused(request, user, "session without confirmation")
            page = request.build_absolute_uri(reverse("maintenance:prove"))
            raise AuthorizationError(message=f"An open session alone starts nothing: confirm that it is you at {page}.")
        return user


def open_to(scope: ApiToken.Scope, *permissions: str, proven: bool = False) -> list[Any]:
    """Callers with at least one of these permissions, by a token with this scope or by session.

    `proven`: a session has to have given the password again, as on the page that does the same.
    """
    return [Bearer(scope, permissions), Session(permissions, proven)]


def for_callers(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Around the description of the API: for whoever is logged in, or has any token.

    The page for people is an empty frame, which then asks for the description in the name of its reader.
    """
    if getattr(view, "func", None) is openapi_view:
        return view

    @wraps(view, assigned=())
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        kind, _, plain = request.headers.get("Authorization", "").partition(" ")
        try:
            if kind.lower() == "bearer":
                token_of(request, plain.strip())
            elif not request.user.is_authenticated:
                raise AuthenticationError(message="Send a bearer token in the header Authorization, or log in.")
        except AuthenticationError as error:
            return problem(401, str(error))
        return view(request, *args, **kwargs)

    return guarded


def permitted(request: HttpRequest, user: User, permissions: Sequence[str]) -> User:
    if any(user.has_perm(f"maintenance.{p}") for p in permissions):
        return user
    refused(request, user, "no permission")
    raise AuthorizationError(message=f"{user.get_username()} has none of the permissions: {', '.join(permissions)}.")


def refused(request: HttpRequest, user: User, why: str) -> None:
    """Audits whoever tried to change something and may not."""
    if request.method == "POST":
        chain.record(user.get_username(), "access.refused", f"POST {request.path}", after={"because": why})


def actor(request: Called) -> Actor:
    return Actor(name=request.auth.get_username(), origin="api", user=request.auth)


class Pace(BaseThrottle):
    """Stops a machine that runs wild before it wears out the control database."""

    def allow_request(self, request: HttpRequest) -> bool:
        header = request.headers.get("Authorization")
        who = tokens.digest(header) if header else request.user.pk
        key = f"api-pace-{who}-{int(time.time() // 60)}"
        cache.add(key, 0, timeout=120)
        try:
            return bool(cache.incr(key) <= A_MINUTE)
        except ValueError:  # thrown out of a full cache this instant
            return True

    def wait(self) -> float:
        return 60 - time.time() % 60
