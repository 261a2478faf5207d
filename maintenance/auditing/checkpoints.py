"""Signed checkpoints of the audit chain: how many entries there are, and the hash of the last.

Every entry makes one. The newest stands in the database (`AuditHead`), all of them stand in a file outside it
(`settings.AUDIT_FILE`), so that whoever can write the database can neither forge the chain's end nor go back to
an earlier one. The key is a file as well (`settings.AUDIT_KEY`), never in the database.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from django.conf import settings

log = logging.getLogger("maintenance")


class KeyUnreadable(Exception):
    """The key file of the audit chain cannot be read, or holds no Ed25519 key."""


@dataclass(frozen=True)
class Checkpoint:
    """`entries` were written since the beginning, the last of them has this `hash`. `kind`: head or seal."""

    kind: str
    entries: int
    hash: str

    @property
    def content(self) -> bytes:
        return f"dbmaint audit {self.kind}\n{self.entries}\n{self.hash}\n".encode()

    def signature(self) -> str:
        """Hexadecimal Ed25519 signature with this installation's key. Raises KeyUnreadable."""
        return _key().sign(self.content).hex()

    def is_signed_by_us(self, signature: str) -> bool:
        """Raises KeyUnreadable."""
        try:
            _key().public_key().verify(bytes.fromhex(signature), self.content)
        except (InvalidSignature, ValueError):
            return False
        return True


def fingerprint() -> str:
    """What tells one key from another: the first 16 hexadecimal digits of the public key's SHA-256."""
    raw = _key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def _key() -> Ed25519PrivateKey:
    return _read_key(Path(settings.AUDIT_KEY))


@lru_cache(maxsize=2)
def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        if not path.exists():
            _make_key(path)
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise KeyUnreadable(f"the key of the audit chain cannot be read: {path}: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnreadable(f"{path} holds no Ed25519 key")
    return key


def _make_key(path: Path) -> None:
    """The first process wins; nobody ever sees half a key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with NamedTemporaryFile(dir=path.parent, prefix=".audit-key-") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            pass


def keep_outside(checkpoint: Checkpoint, signature: str, at: str) -> None:
    """Appends and syncs. The operation it tells of is committed already, so a full disk is logged, not raised."""
    told = {"at": at, "entries": checkpoint.entries, "hash": checkpoint.hash, "signature": signature}
    path = Path(settings.AUDIT_FILE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # The line break comes first too: a line that a crash tore must not swallow this one.
            os.write(descriptor, f"\n{json.dumps(told)}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.error("The checkpoint of the audit chain could not be kept in %s: %s", path, error)


@dataclass(frozen=True)
class Kept:
    """One line of the file outside."""

    line: int
    checkpoint: Checkpoint
    signature: str


def kept_outside() -> Iterator[Kept]:
    """Every checkpoint of the file; a line that a crash tore is left out. Raises OSError, not for an absent file."""
    path = Path(settings.AUDIT_FILE)
    if not path.exists():
        return
    with path.open(errors="replace") as file:
        for number, text in enumerate(file, start=1):
            try:
                told = json.loads(text)
                yield Kept(number, Checkpoint("head", int(told["entries"]), str(told["hash"])), str(told["signature"]))
            except (ValueError, TypeError, KeyError):
                continue
