"""The only place where a secret of a person is compared: throttled and audited, whatever page asks.

A session that has just proven itself again may do for a few minutes what launching a maintenance needs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from maintenance.auditing import chain

from . import throttle
from .addresses import address
from .factors import device_with

PROVEN = "session_proven"
FRESH = timedelta(minutes=5)


def password(request: HttpRequest, typed: str, operation: str) -> bool:
    """Return whether this is the password of who is logged in. A wrong one is audited as `operation`.

    Raises:
        TooManyTries: this person, or this address, has to wait.
    """
    user = _person(request)
    attempt = throttle.attempt(user.get_username(), address(request))
    if user.check_password(typed):
        attempt.right()
        return True
    attempt.wrong(operation)
    return False


def code(request: HttpRequest, typed: str, operation: str) -> Any:
    """Return the device whose code this is, else None. A right one is audited as `operation`, a wrong one too.

    Raises:
        TooManyTries: this person, or this address, has to wait.
    """
    user = _person(request)
    attempt = throttle.attempt(user.get_username(), address(request))
    with transaction.atomic():
        device = device_with(user, typed)
        if device is not None:
            chain.record(user.get_username(), operation, device.name)
    if device is None:
        attempt.wrong("login.wrong_code", about="second factor")
    else:
        attempt.right()
    return device


def prove(request: HttpRequest) -> None:
    """The password, and the code where there is one, were right just now: the session gets a new id."""
    request.session.cycle_key()
    request.session[PROVEN] = timezone.now().isoformat()
    throttle.succeeded(_person(request).get_username(), address(request))


def is_fresh(request: HttpRequest) -> bool:
    """Return whether the session proved itself again within the last minutes."""
    at = request.session.get(PROVEN)
    return at is not None and timedelta(0) <= timezone.now() - datetime.fromisoformat(at) < FRESH


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
