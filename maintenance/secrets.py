"""Database passwords at rest: encrypted with a key that only this installation has (SECRET_KEY)."""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings


class SecretUnreadable(Exception):
    """The stored password was encrypted with another key; it must be entered again."""


def _fernet() -> Fernet:
    key = hashlib.sha256(b"dbmaint target passwords" + settings.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))


def seal_secret(plain: str) -> str:
    return _fernet().encrypt(plain.encode()).decode()


def open_secret(sealed: str) -> str:
    """Raises SecretUnreadable."""
    try:
        return _fernet().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise SecretUnreadable("the stored password was encrypted with another secret key; enter it again") from error
