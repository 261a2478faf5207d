"""The audit chain: every operation has an entry, in the same transaction as the change it tells of.

Each entry carries the hash of the one before, and the end of the chain is signed (see checkpoints.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import transaction
from django.utils import timezone

from maintenance.engines.values import Json
from maintenance.models import AuditEntry, AuditHead, AuditSeal

from . import checkpoints
from .checkpoints import Checkpoint, KeyUnreadable

GENESIS = "0" * 64
LONGEST = 200
"""Characters of who and what; PostgreSQL refuses longer ones, and an audit entry must never stop the work."""

QUIET_TRIES = 3
"""How often the chain is read without holding up those who write to it."""
Outside = dict[int, list[checkpoints.Kept]]
"""By number of entries; one line each, unless somebody went back to an earlier state of the database."""


class ChainBroken(Exception):
    """The audit chain does not verify; nothing may be removed from it."""


def record(
    actor: str, operation: str, object: str, before: Json | None = None, after: Json | None = None
) -> AuditEntry:
    """Appends one entry. Call it inside the transaction of the change. Raises checkpoints.KeyUnreadable."""
    with transaction.atomic():
        head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1, defaults={"hash": GENESIS})
        entry = AuditEntry(
            at=timezone.now(),
            actor=actor[:LONGEST],
            operation=operation,
            object=object[:LONGEST],
            before=before,
            after=after,
            previous_hash=head.hash,
        )
        entry.hash = _digest(entry)
        entry.save(force_insert=True)
        _sign_head(head.entries + 1, entry.hash)
    return entry


def _sign_head(entries: int, hash: str) -> None:
    """The new end of the chain; once it is committed it is kept outside the database too."""
    checkpoint = Checkpoint("head", entries, hash)
    signature = checkpoint.signature()
    AuditHead.objects.filter(pk=1).update(hash=hash, entries=entries, signature=signature)
    transaction.on_commit(
        partial(checkpoints.keep_outside, checkpoint, signature, timezone.now().isoformat()), robust=True
    )


def _digest(entry: AuditEntry) -> str:
    content = [
        entry.at.isoformat(),
        entry.actor,
        entry.operation,
        entry.object,
        entry.before,
        entry.after,
        entry.previous_hash,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """`broken_at` is the id of the first bad entry; None with `problem` set: the end or a seal is wrong.

    `entries` are there now, `sealed` were removed by retention before them, `outside` checkpoints in the file agree.
    """

    entries: int
    problem: str = ""
    broken_at: int | None = None
    sealed: int = 0
    outside: int = 0

    @property
    def whole(self) -> bool:
        return not self.problem


def verify() -> Verdict:
    """Reads the chain from its beginning: edited, deleted, inserted, reordered and cut off entries show.

    So does a return to an earlier state of the whole database: the file outside remembers more.
    """
    for _ in range(QUIET_TRIES):
        before = _ends()
        verdict = _verdict(*before)
        # Entries that were written while it read would look as if the head were wrong.
        if _ends() == before:
            return verdict
    with transaction.atomic():
        AuditHead.objects.select_for_update().filter(pk=1).first()
        return _verdict(*_ends())


@dataclass(frozen=True)
class _End:
    """The head or the newest seal as it was read."""

    entries: int
    hash: str
    signature: str


def _ends() -> tuple[_End | None, _End | None]:
    """The head, and the newest seal."""
    head = AuditHead.objects.filter(pk=1).values_list("entries", "hash", "signature").first()
    seal = AuditSeal.objects.order_by("-entries").values_list("entries", "hash", "signature").first()
    return (_End(*head) if head else None, _End(*seal) if seal else None)


def _verdict(head: _End | None, seal: _End | None) -> Verdict:
    try:
        return _verified(head, seal)
    except KeyUnreadable as error:
        return Verdict(0, str(error))
    except OSError as error:
        return Verdict(0, f"the checkpoints outside the database cannot be read: {error}")


def _verified(head: _End | None, seal: _End | None) -> Verdict:
    sealed, previous = (seal.entries, seal.hash) if seal else (0, GENESIS)
    if seal and not Checkpoint("seal", sealed, previous).is_signed_by_us(seal.signature):
        return Verdict(0, f"the seal over the first {sealed} entries is not signed with this installation's key")
    outside = _outside(sealed)
    wrong = _differing(outside, sealed, previous)
    if wrong is not None:
        return Verdict(0, f"the seal over the first {sealed} entries is not the one that {_line(wrong)} tells of")
    count = 0
    for entry in AuditEntry.objects.order_by("id").iterator():
        count += 1
        if entry.previous_hash != previous:
            return Verdict(count, f"entry {entry.pk} does not follow the one before it", entry.pk, sealed)
        if _digest(entry) != entry.hash:
            return Verdict(count, f"entry {entry.pk} was changed after it was written", entry.pk, sealed)
        wrong = _differing(outside, sealed + count, entry.hash)
        if wrong is not None:
            return Verdict(count, f"entry {entry.pk} is not the one that {_line(wrong)} tells of", entry.pk, sealed)
        previous = entry.hash
    last = outside[max(outside)][0] if outside else None
    problem = _wrong_end(head, sealed + count, previous, last)
    return Verdict(count, problem, None, sealed, 0 if problem else sum(map(len, outside.values())))


def _differing(outside: Outside, entries: int, hash: str) -> checkpoints.Kept | None:
    return next((k for k in outside.get(entries, ()) if k.checkpoint.hash != hash), None)


def _wrong_end(head: _End | None, entries: int, hash: str, last: checkpoints.Kept | None) -> str:
    """What is wrong with the end of a chain that holds together so far; empty: nothing."""
    if last is not None and last.checkpoint.entries > entries:
        return f"the chain ends after {entries} entries, {_line(last)} tells of {last.checkpoint.entries}"
    if head is None:
        return f"the head of the chain is gone, {entries} entries are there" if entries else ""
    if (head.hash, head.entries) != (hash, entries):
        return f"the chain ends after {entries} entries, {head.entries} were written"
    if entries and not Checkpoint("head", head.entries, head.hash).is_signed_by_us(head.signature):
        return "the head of the chain is not signed with this installation's key"
    return ""


def _line(kept: checkpoints.Kept) -> str:
    return f"line {kept.line} of the checkpoints outside the database"


def _outside(sealed: int) -> Outside:
    """A line that we did not sign says nothing: it proves neither good nor bad."""
    found: Outside = {}
    for kept in checkpoints.kept_outside():
        if kept.checkpoint.entries >= sealed and kept.checkpoint.is_signed_by_us(kept.signature):
            found.setdefault(kept.checkpoint.entries, []).append(kept)
    return found


def seal(before: datetime, by: str) -> int:
    """Retention: removes the entries before this time, signs where the rest begins, and returns how many went.

    The newest entry always stays. Raises ChainBroken when the chain does not verify: what it hides stays as it is.
    """
    with transaction.atomic():
        AuditHead.objects.select_for_update().filter(pk=1).first()
        verdict = verify()
        if not verdict.whole:
            raise ChainBroken(f"The audit chain is broken, so nothing of it is removed: {verdict.problem}.")
        old = _oldest(before)
        if not old:
            return 0
        last, entries = old[-1], verdict.sealed + len(old)
        checkpoint = Checkpoint("seal", entries, last.hash)
        AuditSeal.objects.create(
            entries=entries, hash=last.hash, signature=checkpoint.signature(), until=last.at, by=by[:LONGEST]
        )
        AuditEntry.objects.filter(pk__lte=last.pk).delete()
        told: Json = {"removed": len(old), "until": last.at.isoformat(), "head": last.hash}
        record(by, "audit.sealed", f"entries to {last.pk}", after=told)
    return len(old)


def sealable(before: datetime) -> int:
    """How many entries `seal` would remove."""
    return len(_oldest(before))


def _oldest(before: datetime) -> list[AuditEntry]:
    """The chain's beginning up to the first entry that is younger, but never the whole chain."""

    def in_order() -> Iterator[AuditEntry]:
        newest = AuditEntry.objects.order_by("-id").first()
        for entry in AuditEntry.objects.only("id", "at", "hash").order_by("id").iterator():
            if entry.at >= before or entry == newest:
                return
            yield entry

    return list(in_order())


def checkpoint(by: str) -> Verdict:
    """The daily look: verifies the chain and says so in it, which also signs its end anew.

    A broken chain gets no entry: nothing is to be built on it before somebody has looked.
    """
    verdict = verify()
    if verdict.whole:
        told: Json = {"entries": verdict.entries, "sealed": verdict.sealed, "outside": verdict.outside}
        record(by, "audit.verified", "audit chain", after=told)
    return verdict
