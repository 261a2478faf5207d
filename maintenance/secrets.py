"""Database passwords: at rest encrypted with a key that only this installation has (SECRET_KEY), in texts masked."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import quote

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

SHORTEST = 4
"""Characters; masking a shorter password would only tell where it stands in ordinary words."""
LOOKS_SECRET = (
    re.compile(r"(?P<kept>\b[a-z][a-z0-9+.-]{0,40}://[^\s:/@]{0,200}:)[^\s@]{1,200}(?=@)", re.IGNORECASE),
    re.compile(r"(?P<kept>\bIDENTIFIED\s+BY\s+(?:PASSWORD\s+)?)'(?:[^'\\]|''|\\.)*'", re.IGNORECASE),
    re.compile(
        r"(?P<kept>\b(?:password|passwd|pwd|passphrase|secret|token|authorization)\b[\"']?\s*[=:]\s*(?:bearer\s+)?)"
        r"(?:\"[^\"]*\"|'[^']*'|[^\s\"',;&][^\s\",;&]*)",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<kept>AGE-SECRET-KEY-)[0-9A-Z]+"),
)
"""Passwords in addresses, statements, settings and headers, and private keys."""
_known: set[str] = set()


class SecretUnreadable(Exception):
    """The stored password was encrypted with another key; it must be entered again."""


def _fernet() -> Fernet:
    key = hashlib.sha256(b"dbmaint target passwords" + settings.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))


def seal_secret(plain: str) -> str:
    _remember(plain)
    return _fernet().encrypt(plain.encode()).decode()


def open_secret(sealed: str) -> str:
    """Raises SecretUnreadable."""
    try:
        plain = _fernet().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise SecretUnreadable("the stored password was encrypted with another secret key; enter it again") from error
    _remember(plain)
    return plain


def _remember(plain: str) -> None:
    if len(plain) >= SHORTEST:
        # As it is, and as it stands in addresses: SQLAlchemy leaves blank and plus alone there.
        _known.update((plain, quote(plain, safe=""), quote(plain, safe=" +")))


def masked(text: str) -> str:
    """Without the passwords that this process has had in its hands, and without what looks like one."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, "***")
    for pattern in LOOKS_SECRET:
        text = pattern.sub(r"\g<kept>***", text)
    return text
