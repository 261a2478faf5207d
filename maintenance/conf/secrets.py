"""Database passwords and keys of second factors: at rest encrypted with a key that only this installation has
(SECRET_KEY), in texts masked."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import quote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from maintenance.engines.marks import Signer

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


SEALED = "sealed:"
"""How an encrypted key begins; a plain one is hexadecimal."""
NONCE = 12
"""Bytes, as AES-GCM wants them: https://csrc.nist.gov/pubs/sp/800/38/d/final"""


class SecretUnreadable(Exception):
    """What is stored was encrypted with another key; it must be entered again."""


def _key(purpose: bytes) -> bytes:
    return hashlib.sha256(purpose + settings.SECRET_KEY.encode()).digest()


def mark_signer() -> Signer:
    """Return what signs the marks on targets: with a key of the worker's account, which the web cannot read.

    Raises:
        SecretUnreadable: this account may not read it, so what it wrote on a target would be nobody's.
    """
    try:
        return Signer(_mark_key(Path(settings.MARK_KEY)))
    except OSError as error:
        raise SecretUnreadable(f"the key of the marks on targets cannot be read: {error}") from error


def mark_reader() -> Signer:
    """Return what verifies marks for whoever only looks; where this account may not read the key, none is believed."""
    try:
        return Signer(_mark_key(Path(settings.MARK_KEY)))
    except PermissionError:
        return Signer(os.urandom(MARK_KEY))
    except OSError as error:
        raise SecretUnreadable(f"the key of the marks on targets cannot be read: {error}") from error


MARK_KEY = 32
"""Bytes: as long as the digest that it keys."""


@lru_cache(maxsize=2)
def _mark_key(path: Path) -> bytes:
    """The file's content, made on first use. Raises OSError."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        publish_key(path, os.urandom(MARK_KEY))
        key = path.read_bytes()
    if len(key) != MARK_KEY:
        raise OSError(f"{path} holds {len(key)} bytes and not {MARK_KEY}")
    return key


def publish_key(path: Path, content: bytes) -> None:
    """Write a key for its owner alone. The first process wins; nobody ever sees half a key. Raises OSError.

    Where root writes it, it is the folder's owner's: a command must not lock the worker out of its own key.
    """
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-") as file:
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(file.name, path)


FACTORS, PASSWORDS = b"dbmaint second factors", b"dbmaint target passwords"


def _sealed(purpose: bytes, plain: bytes, owner: str) -> str:
    """Shorter than Fernet, because django-otp keeps a key in 80 characters."""
    nonce = os.urandom(NONCE)
    made = AESGCM(_key(purpose)).encrypt(nonce, plain, owner.encode())
    return SEALED + base64.urlsafe_b64encode(nonce + made).decode()


def _opened(purpose: bytes, sealed: str, owner: str) -> bytes:
    """Raises InvalidTag or ValueError."""
    data = base64.urlsafe_b64decode(sealed.removeprefix(SEALED))
    return AESGCM(_key(purpose)).decrypt(data[:NONCE], data[NONCE:], owner.encode())


def seal_key(plain: bytes, owner: str) -> str:
    """The key of a second factor; of no use in the row of another `owner`. 71 characters for 20 bytes."""
    return _sealed(FACTORS, plain, owner)


def open_key(sealed: str, owner: str) -> bytes:
    """Raises SecretUnreadable."""
    try:
        return _opened(FACTORS, sealed, owner)
    except (InvalidTag, ValueError) as error:
        raise SecretUnreadable("the second factor was encrypted with another secret key; enrol it again") from error


def seal_secret(plain: str, owner: str) -> str:
    """The password of a target; of no use with the address of another `owner`."""
    _remember(plain)
    return _sealed(PASSWORDS, plain.encode(), owner)


def open_secret(sealed: str, owner: str) -> str:
    """Raises SecretUnreadable, also when it was sealed for another address."""
    try:
        plain = _opened(PASSWORDS, sealed, owner).decode()
    except (InvalidTag, ValueError) as error:
        raise SecretUnreadable(
            "the stored password was entered for another address, or encrypted with another secret key; enter it again"
        ) from error
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
