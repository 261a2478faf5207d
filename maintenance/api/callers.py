"""Who calls, and what they may: a bearer token within its scopes, or a browser's session with CSRF."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import HttpRequest
from ninja.errors import AuthenticationError, AuthorizationError
from ninja.security import APIKeyCookie
from ninja.security.base import AuthBase
from ninja.throttling import BaseThrottle

from maintenance.models import ApiToken
from maintenance.requests.launch import Actor

from . import tokens

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
        token = tokens.find(plain.strip())
        if token is None:
            raise AuthenticationError(message="The token is unknown, revoked or expired.")
        if self.scope not in token.scopes:
            raise AuthorizationError(message=f"The token {token.name} does not have the scope {self.scope.value}.")
        return permitted(token.user, self.permissions)


class Session(APIKeyCookie):
    """The cookie of somebody who is logged in; what changes something needs X-CSRFToken too."""

    param_name = settings.SESSION_COOKIE_NAME

    def __init__(self, permissions: Sequence[str]) -> None:
        super().__init__()
        self.permissions = permissions

    def __call__(self, request: HttpRequest) -> User | None:
        """Whoever is not logged in is told that, rather than of a missing CSRF token."""
        if not request.user.is_authenticated:
            raise AuthenticationError(message="Send a bearer token in the header Authorization, or log in.")
        user: User | None = super().__call__(request)
        return user

    def authenticate(self, request: HttpRequest, key: str | None) -> User:
        assert isinstance(request.user, User)
        return permitted(request.user, self.permissions)


def open_to(scope: ApiToken.Scope, *permissions: str) -> list[Any]:
    """Callers with at least one of these permissions, by a token with this scope or by session."""
    return [Bearer(scope, permissions), Session(permissions)]


def permitted(user: User, permissions: Sequence[str]) -> User:
    if any(user.has_perm(f"maintenance.{p}") for p in permissions):
        return user
    raise AuthorizationError(message=f"{user.get_username()} has none of the permissions: {', '.join(permissions)}.")


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
