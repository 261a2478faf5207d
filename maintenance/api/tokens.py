"""Bearer tokens for machines that act in a person's name. The token itself is shown once and kept nowhere.

A token is sealed over what it may do and over how its owner stood when it was made: it ends with a new
password, with other groups or permissions, and with another second factor; and nobody who can only write the table
makes or widens one.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from maintenance.auditing import chain
from maintenance.identity.factors import device_of, needs_factor
from maintenance.models import ApiToken

USE_NOTED_EVERY = timedelta(minutes=1)
"""A token in steady use does not cost a write each time."""


class Ended(Exception):
    """The token was one; the sentence says why it is none any more."""


class NeedsFactor(Exception):
    """Its owner may do what wants a second factor, and has none."""


def issue(user: User, name: str, scopes: Sequence[str], lifetime: timedelta, by: str) -> tuple[str, ApiToken]:
    """Return a new token, in plain for its owner, and the row that knows only its digest. Raises NeedsFactor."""
    if needs_factor(user) and not device_of(user):
        raise NeedsFactor(f"{user.get_username()} has to set up a second factor first: log in once in the browser.")
    plain = secrets.token_urlsafe(32)
    with transaction.atomic():
        token = ApiToken(
            user=user, name=name, sha256=digest(plain), scopes=list(scopes), expires_at=timezone.now() + lifetime
        )
        token.seal = _seal(token)
        token.save()
        told = {"user": user.get_username(), "name": name, "scopes": token.scopes}
        chain.record(by, "token.created", name, after={**told, "expires_at": token.expires_at.isoformat()})
    return plain, token


def find(plain: str) -> ApiToken | None:
    """Return the token; None: there is none such, it was revoked, or has expired.

    Raises:
        Ended: its owner's password, groups, permissions or second factor are others than when it was made.
    """
    now = timezone.now()
    token = ApiToken.objects.filter(sha256=digest(plain), expires_at__gt=now).select_related("user").first()
    if token is None or not token.user.is_active:
        return None
    if not constant_time_compare(token.seal, _seal(token)):
        raise Ended(
            "The token ended when the password, the groups, the permissions or the second factor of its owner changed; "
            "make a new one."
        )
    if needs_factor(token.user) and not device_of(token.user):
        raise Ended("The owner of the token has to set up a second factor, and to make a new token then.")
    if token.last_used_at is None or token.last_used_at < now - USE_NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def digest(plain: str) -> str:
    return hashlib.sha256(plain.encode(errors="replace")).hexdigest()


def _seal(token: ApiToken) -> str:
    expires = token.expires_at.isoformat()
    told = [token.sha256, token.user_id, token.name, token.scopes, expires, _standing(token.user)]
    return salted_hmac("maintenance.api.tokens", json.dumps(told), algorithm="sha256").hexdigest()


def _standing(user: User) -> list[object]:
    """What must not have changed. A superuser's permissions are all there are, also those of a later version."""
    device = device_of(user)
    return [
        user.password,
        user.is_active,
        user.is_staff,
        user.is_superuser,
        sorted(user.groups.values_list("name", flat=True)),
        [] if user.is_superuser else sorted(user.get_all_permissions()),
        [device.pk, device.key] if device else None,
    ]
