"""Whether two are one person: by account, by a variant of the name, or by mail address."""

from __future__ import annotations

import unicodedata

from django.contrib.auth.models import User

from .request import Actor


def same_person(one: Actor, other: Actor) -> bool:
    """Return whether both have the same account, alike names or the same mail address."""
    same_account = one.user is not None and other.user is not None and one.user.pk == other.user.pk
    return same_account or _alike(one.name, other.name) or _share_mail(one.user, other.user)


def _alike(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _share_mail(one: User | None, other: User | None) -> bool:
    return one is not None and other is not None and bool(one.email) and _alike(one.email, other.email)
