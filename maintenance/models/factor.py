"""Second factors."""

from __future__ import annotations

import os

from django.contrib.auth.models import User
from django_otp.plugins.otp_totp.models import TOTPDevice

from maintenance.conf.secrets import SecretUnreadable, open_key, seal_key

KEY_BYTES = 20
"""As RFC 4226 recommends; the authenticator apps take it."""


class Authenticator(TOTPDevice):  # type: ignore[misc]  # django-otp has no types
    """A device of django-otp whose key lies encrypted, as the passwords of databases do."""

    class Meta:
        proxy = True
        default_permissions = ()

    @property
    def bin_key(self) -> bytes:
        """Raises SecretUnreadable."""
        return open_key(self.key, owner_of_key(self.user_id))

    @property
    def readable(self) -> bool:
        try:
            return bool(self.bin_key)
        except SecretUnreadable:
            return False

    @staticmethod
    def new_key(user: User) -> str:
        return seal_key(os.urandom(KEY_BYTES), owner_of_key(user.pk))


def owner_of_key(user_id: int) -> str:
    return f"user {user_id}"
