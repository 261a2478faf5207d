"""Bearer tokens for machines that act in a person's name. The token itself is shown once and kept nowhere."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.models import ApiToken

USE_NOTED_EVERY = timedelta(minutes=1)
"""A token in steady use does not cost a write each time."""


def issue(user: User, name: str, scopes: Sequence[str], lifetime: timedelta, by: str) -> tuple[str, ApiToken]:
    """A new token, in plain for its owner, and the row that knows only its digest."""
    plain = secrets.token_urlsafe(32)
    with transaction.atomic():
        token = ApiToken.objects.create(
            user=user,
            name=name,
            sha256=digest(plain),
            scopes=list(scopes),
            expires_at=timezone.now() + lifetime,
        )
        told = {"user": user.get_username(), "name": name, "scopes": token.scopes}
        chain.record(by, "token.created", name, after={**told, "expires_at": token.expires_at.isoformat()})
    return plain, token


def find(plain: str) -> ApiToken | None:
    """The token, unless it is unknown or expired or its owner may not log in any more."""
    now = timezone.now()
    valid = ApiToken.objects.filter(sha256=digest(plain), expires_at__gt=now, user__is_active=True)
    token = valid.select_related("user").first()
    if token is not None and (token.last_used_at is None or token.last_used_at < now - USE_NOTED_EVERY):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def digest(plain: str) -> str:
    return hashlib.sha256(plain.encode(errors="replace")).hexdigest()
