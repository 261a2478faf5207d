"""The key that signs the audit chain. Only processes whose account may read it sign; the others only verify.

The private half is a file (`settings.AUDIT_KEY`), never in the database. Its public half lies beside the checkpoints
(`audit.pub`), so that the web can verify what it cannot sign.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from django.conf import settings

from maintenance.conf.secrets import publish_key


class KeyUnreadable(Exception):
    """No key can be read, or the file holds no Ed25519 key."""


def signing_key() -> Ed25519PrivateKey | None:
    """Return the private key, made on first use; None where this account may not read it.

    Raises:
        KeyUnreadable: the file is there and holds something else, or the disk fails.
    """
    try:
        return _private(Path(settings.AUDIT_KEY))
    except PermissionError:
        return None


def signed_by_us(signature: str, content: bytes) -> bool:
    """Return whether this installation's key made the hexadecimal `signature`. Raises KeyUnreadable."""
    try:
        _verifying_key().verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint() -> str:
    """Return the first 16 hexadecimal digits of the public key's SHA-256. Raises KeyUnreadable."""
    return hashlib.sha256(_verifying_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def publish() -> None:
    """Write the public half beside the checkpoints. Raises OSError."""
    key, path = signing_key(), public_path()
    if key is None:
        return
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if not path.exists() or path.read_bytes() != pem:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        path.write_bytes(pem)


def public_path() -> Path:
    return Path(settings.AUDIT_FILE).with_name("audit.pub")


def _verifying_key() -> Ed25519PublicKey:
    key = signing_key()
    return key.public_key() if key is not None else _public(public_path())


def _public(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyUnreadable(f"the public key of the audit chain cannot be read: {path}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnreadable(f"{path} holds no Ed25519 key")
    return key


@lru_cache(maxsize=2)
def _private(path: Path) -> Ed25519PrivateKey:
    """Raises PermissionError, KeyUnreadable."""
    try:
        if not path.exists():
            _make(path)
        key = load_pem_private_key(path.read_bytes(), password=None)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise KeyUnreadable(f"the key of the audit chain cannot be read: {path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnreadable(f"{path} holds no Ed25519 key")
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    publish_key(path, pem)
