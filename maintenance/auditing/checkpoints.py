"""Signed checkpoints of the audit chain: how many entries there are, and the hash of the last.

Every entry gets one, in a file outside the database (`settings.AUDIT_FILE`); the database keeps how far the file
goes (`AuditSignature`). So whoever can write the one can neither forge the chain nor go back to an earlier state of
it, and a file that is gone or shortened is missed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from django.conf import settings

from .keys import KeyUnreadable, signed_by_us, signing_key

Kind = Literal["head", "broken", "seal", "accepted"]
"""The chain was whole up to here; was found broken before here; was removed, or accepted as it is, up to here."""
TAIL = 1 << 16
"""Bytes at the end of the file that surely hold its last whole line."""


@dataclass(frozen=True)
class Checkpoint:
    """`entries` were written since the beginning, the last of them has this `hash`.

    `file` names the file of checkpoints it stands in: each host that signs has one of its own. Seals have none.
    """

    kind: Kind
    entries: int
    hash: str
    file: str = ""

    @property
    def content(self) -> bytes:
        return f"dbmaint audit {self.kind}\n{self.file}\n{self.entries}\n{self.hash}\n".encode()

    def signature(self) -> str:
        """Return the hexadecimal Ed25519 signature. Raises KeyUnreadable, also where this account may not sign."""
        key = signing_key()
        if key is None:
            raise KeyUnreadable(f"this account may not read {settings.AUDIT_KEY}, so it signs nothing")
        return key.sign(self.content).hex()

    def is_signed_by_us(self, signature: str) -> bool:
        """Raises KeyUnreadable."""
        return signed_by_us(signature, self.content)


@dataclass(frozen=True)
class Kept:
    """One line of the file. `problem`: why it is of kind "broken"."""

    line: int
    at: str
    checkpoint: Checkpoint
    signature: str
    problem: str = ""


def append(new: Sequence[Checkpoint], at: str, problem: str = "") -> None:
    """Sign and write checkpoints, and sync the file. Raises OSError and KeyUnreadable; then nothing counts."""
    path = Path(settings.AUDIT_FILE)
    lines = []
    for checkpoint in new:
        told = {
            "at": at,
            "file": checkpoint.file,
            "kind": checkpoint.kind,
            "entries": checkpoint.entries,
            "hash": checkpoint.hash,
            "signature": checkpoint.signature(),
        }
        lines.append(json.dumps({**told, **({"problem": problem} if problem else {})}))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        # The line break comes first too: a line that a crash tore must not swallow this one.
        data = "".join(f"\n{line}\n" for line in lines).encode()
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def kept_outside() -> Iterator[Kept]:
    """Yield every line of the file that we signed; one that a crash tore or a stranger wrote says nothing.

    Raises OSError, not for an absent file, and KeyUnreadable.
    """
    path = Path(settings.AUDIT_FILE)
    if path.exists():
        with path.open(errors="replace") as file:
            yield from _signed(enumerate(file, start=1))


def last_outside() -> Kept | None:
    """Return the last line that we signed, its number counted from the end. Raises OSError and KeyUnreadable."""
    path = Path(settings.AUDIT_FILE)
    if not path.exists():
        return None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    return next(_signed((-place, line) for place, line in enumerate(reversed(lines))), None)


def _signed(lines: Iterator[tuple[int, str]]) -> Iterator[Kept]:
    for number, text in lines:
        try:
            told = json.loads(text)
            checkpoint = Checkpoint(told["kind"], int(told["entries"]), str(told["hash"]), str(told["file"]))
            found = Kept(number, str(told["at"]), checkpoint, str(told["signature"]), str(told.get("problem", "")))
        except (ValueError, TypeError, KeyError):
            continue
        if checkpoint.is_signed_by_us(found.signature):
            yield found


def put_aside(suffix: str) -> None:
    """Rename the file: what it tells of is not asked for any more. Raises OSError."""
    path = Path(settings.AUDIT_FILE)
    if path.exists():
        path.rename(path.with_name(f"{path.name}.{suffix}"))
