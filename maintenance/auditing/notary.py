"""Signs the audit chain: what was appended since the last signature, after it was verified.

Whoever may read the key is a notary: the worker, and commands of its account. Every process appends entries; the web,
which runs under another account, cannot sign them and leaves that to the worker, which looks every few seconds.

The position is the last line of the file outside the database, never a row that others can write. A chain that does
not go on from there is *broken*: that is said in it, and what follows is signed as coming after a break.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from django.conf import settings
from django.db import Error, close_old_connections, transaction
from django.utils import timezone

from maintenance.engines.messages import msg
from maintenance.models import AuditEntry, AuditHead, AuditSeal, AuditSignature, Notification
from maintenance.notifications import events

from . import checkpoints
from .checkpoints import Checkpoint, Kept
from .entries import GENESIS, append, digest
from .keys import KeyUnreadable, publish, signing_key

log = logging.getLogger("maintenance")
EVERY = 2.0
"""Seconds between looks of a worker: as long what the web wrote is guarded by nobody's signature."""
UNSIGNED = "The audit chain could not be signed: %s"
COMPLAIN_EVERY = 60.0
"""Seconds."""
BROKEN = "audit_broken"
TOLD_AGAIN = timedelta(hours=20)
"""Less than a day, so that the daily look tells it again."""
_complained = ("", 0.0)


@dataclass(frozen=True)
class _Position:
    """Up to where this host has signed. `problem`: why it cannot be believed."""

    checkpoint: Checkpoint
    problem: str = ""
    new_file: bool = False


class Notary(threading.Thread):
    """Signs beside the work what processes wrote that may not sign themselves."""

    def __init__(self) -> None:
        super().__init__(name="notary", daemon=True)

    def run(self) -> None:
        pause = threading.Event()
        while not pause.wait(EVERY):
            sign()
            close_old_connections()


def sign() -> None:
    """Verify and sign what is new. Nothing where this account may not sign; what fails is logged and tried again."""
    try:
        if signing_key() is not None and not _up_to_date():
            publish()
            with transaction.atomic():
                _sign()
    except (Error, OSError, KeyUnreadable) as error:
        _complain(error)


def _complain(why: object) -> None:
    """Logged once in a while, and when it is something else: a worker tries again every few seconds."""
    global _complained
    before, at = _complained
    if before != str(why) or time.monotonic() - at > COMPLAIN_EVERY:
        _complained = (str(why), time.monotonic())
        log.error(UNSIGNED, why)


def mark_broken(problem: str) -> None:
    """Say in the chain that it is broken, once, and sign its end as coming after a break."""
    with transaction.atomic():
        AuditHead.objects.select_for_update().filter(pk=1).first()
        last = checkpoints.last_outside()
        if last is not None and last.checkpoint.kind != "broken":
            _mark(last.checkpoint.file, problem)


def _up_to_date() -> bool:
    head, last = AuditHead.objects.filter(pk=1).first(), checkpoints.last_outside()
    if last is None:
        return head is None or head.entries == 0
    ours = AuditSignature.objects.filter(file=last.checkpoint.file).first()
    ends = {(end.entries, end.hash) for end in (head, ours, last.checkpoint) if end is not None}
    return head is not None and ours is not None and len(ends) == 1


def _sign() -> None:
    head = AuditHead.objects.select_for_update().filter(pk=1).first()
    position = _position(checkpoints.last_outside())
    if position is None:
        problem = f"the checkpoints outside the database are gone: {settings.AUDIT_FILE}"
        tell(problem)
        _complain(problem)
        return
    begun = position.checkpoint
    new, problem = _followers(begun)
    end = (begun.entries + len(new), new[-1].hash if new else begun.hash)
    if not problem and head is not None and (head.entries, head.hash) != end:
        problem = f"the chain ends after {end[0]} entries, {head.entries} were written"
    if problem := position.problem or problem:
        _mark(begun.file, problem)
        return
    signed = [begun] if position.new_file and begun.entries else []
    signed += [
        Checkpoint(begun.kind, begun.entries + place, entry.hash, begun.file) for place, entry in enumerate(new, 1)
    ]
    checkpoints.append(signed, timezone.now().isoformat())
    _remember(signed[-1] if signed else begun)


def _position(last: Kept | None) -> _Position | None:
    """Where to go on from. None: there were checkpoints, and their file is gone."""
    if last is None:
        if AuditSignature.objects.exists():
            return None
        seal = AuditSeal.objects.order_by("-entries").first()
        entries, hash = (seal.entries, seal.hash) if seal else (0, GENESIS)
        return _Position(Checkpoint("head", entries, hash, uuid4().hex), new_file=True)
    ours = AuditSignature.objects.filter(file=last.checkpoint.file).first()
    return _Position(last.checkpoint, "" if last.checkpoint.kind == "broken" else disagreement(last, ours))


def disagreement(last: Kept, ours: AuditSignature | None) -> str:
    """Return why the file's end and what the database keeps of it cannot both be right; empty: they can."""
    there = last.checkpoint
    if ours is None:
        return "the database does not know how far the checkpoints outside it go"
    if not checkpoint_of(ours).is_signed_by_us(ours.signature):
        return "what the database says of the checkpoints outside it is not signed with this installation's key"
    if ours.entries > there.entries or (ours.kind, there.kind) == ("broken", "head"):
        return f"the file of checkpoints ends after {there.entries} entries, {ours.entries} were signed in it"
    if ours.entries == there.entries and ours.hash != there.hash:
        return f"the checkpoints outside the database tell of another entry {there.entries} than was signed"
    return ""


def checkpoint_of(row: AuditSignature) -> Checkpoint:
    """Return what the row's signature is over."""
    kind: checkpoints.Kind = "broken" if row.kind == "broken" else "head"
    return Checkpoint(kind, row.entries, row.hash, row.file)


def _followers(begun: Checkpoint) -> tuple[Sequence[AuditEntry], str]:
    """Entries after the position, and what is wrong with them."""
    later = AuditEntry.objects.order_by("id")
    previous = begun.hash
    last = AuditEntry.objects.filter(hash=previous).first()
    if last is not None:
        if digest(last) != last.hash:
            return (), f"entry {last.pk} was changed after it was written"
        later = later.filter(pk__gt=last.pk)
    elif not (previous == GENESIS or AuditSeal.objects.filter(hash=previous).exists()):
        return (), f"the entry that was signed last, number {begun.entries}, is not there any more"
    found = list(later)
    for entry in found:
        if entry.previous_hash != previous:
            return (), f"entry {entry.pk} does not follow the one before it"
        if digest(entry) != entry.hash:
            return (), f"entry {entry.pk} was changed after it was written"
        previous = entry.hash
    return found, ""


def _mark(file: str, problem: str) -> None:
    log.error("The audit chain is broken: %s.", problem)
    append("console", "audit.broken", "audit chain", None, {"problem": problem})
    head = AuditHead.objects.get(pk=1)
    broken = Checkpoint("broken", head.entries, head.hash, file)
    checkpoints.append([broken], timezone.now().isoformat(), problem)
    _remember(broken)
    tell(problem)


def tell(problem: str) -> None:
    """Send people the message that the chain is not whole; once a day as long as it is not."""
    if not Notification.objects.filter(event=BROKEN, created_at__gt=timezone.now() - TOLD_AGAIN).exists():
        events.announce(None, BROKEN, msg("{problem}. docs/security.md says what to do.", problem=problem))


def _remember(end: Checkpoint) -> None:
    values = {"kind": end.kind, "entries": end.entries, "hash": end.hash, "signature": end.signature()}
    AuditSignature.objects.update_or_create(file=end.file, defaults={**values, "at": timezone.now()})
