"""The audit chain: every operation has an entry, in the same transaction as the change it tells of.

Each entry carries the hash of the one before (entries.py). What was appended is verified and signed (notary.py), and
kept outside the database (checkpoints.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from maintenance.engines.values import Json
from maintenance.models import AuditEntry, AuditHead, AuditSeal, AuditSignature

from . import checkpoints, notary
from .checkpoints import Checkpoint
from .entries import GENESIS, LONGEST, append
from .verification import Verdict, verify

__all__ = ["GENESIS", "ChainBroken", "Verdict", "accept", "checkpoint", "record", "seal", "sealable", "verify"]


class ChainBroken(Exception):
    """The audit chain does not verify; nothing may be removed from it."""


def record(
    actor: str, operation: str, object: str, before: Json | None = None, after: Json | None = None
) -> AuditEntry:
    """Append one entry. Call it inside the transaction of the change.

    It is signed after the commit, here or, where this account may not sign, by a worker within seconds.
    """
    entry = append(actor, operation, object, before, after)
    transaction.on_commit(notary.sign, robust=True)
    return entry


def seal(before: datetime, by: str) -> int:
    """Retention: remove the entries before this time, sign where the rest begins, and return how many went.

    The newest entry always stays. Raises ChainBroken when the chain does not verify: what it hides stays as it is.
    """
    with transaction.atomic():
        AuditHead.objects.select_for_update().filter(pk=1).first()
        verdict = verify(unsigned=True)
        if not verdict.whole:
            raise ChainBroken(f"The audit chain is broken, so nothing of it is removed: {verdict.problem}.")
        notary.sign()
        old = _oldest(before)
        if not old:
            return 0
        last, entries = old[-1], verdict.sealed + len(old) - _accepted(verdict.sealed)
        if entries > verdict.sealed:
            signature = Checkpoint("seal", entries, last.hash).signature()
            AuditSeal.objects.create(
                entries=entries, hash=last.hash, signature=signature, until=last.at, by=by[:LONGEST]
            )
        AuditEntry.objects.filter(pk__lte=last.pk).delete()
        told: Json = {"removed": len(old), "until": last.at.isoformat(), "head": last.hash}
        record(by, "audit.sealed", f"entries to {last.pk}", after=told)
    return len(old)


def _accepted(sealed: int) -> int:
    """How many entries are still there although nothing is vouched for up to them."""
    accepted = AuditSeal.objects.filter(entries=sealed).exclude(accepted_because="").first()
    last = AuditEntry.objects.filter(hash=accepted.hash).first() if accepted else None
    return AuditEntry.objects.filter(pk__lte=last.pk).count() if last else 0


def sealable(before: datetime) -> int:
    """Return how many entries `seal` would remove."""
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


def accept(by: str, reason: str) -> str:
    """Go on after a break, by a person's word: what was found and why it is accepted stands in the chain.

    Entries up to this one prove nothing any more; the file of checkpoints is put aside and a new one begun.
    Returns the problem; empty: there was none, and nothing was done. Raises OSError and keys.KeyUnreadable.
    """
    with transaction.atomic():
        AuditHead.objects.select_for_update().filter(pk=1).first()
        problem = verify().problem
        if not problem:
            return ""
        entry = append(by, "audit.accepted", "audit chain", None, {"problem": problem, "reason": reason})
        head = AuditHead.objects.get(pk=1)
        signature = Checkpoint("accepted", head.entries, head.hash).signature()
        AuditSeal.objects.filter(entries__gte=head.entries).delete()
        AuditSeal.objects.create(
            entries=head.entries, hash=head.hash, signature=signature, until=entry.at, by=by[:LONGEST],
            accepted_because=reason,
        )  # fmt: skip
        AuditSignature.objects.all().delete()
        checkpoints.put_aside(timezone.now().strftime("%Y%m%dT%H%M%S"))
        transaction.on_commit(notary.sign, robust=True)
    return problem


def checkpoint(by: str) -> Verdict:
    """The daily look: verify the chain and say so in it.

    A broken chain gets no entry that praises it, but one that says so, and what follows is marked.
    """
    verdict = verify(unsigned=True)
    if verdict.whole:
        told: Json = {"entries": verdict.entries, "sealed": verdict.sealed, "outside": verdict.outside}
        record(by, "audit.verified", "audit chain", after=told)
    else:
        notary.mark_broken(verdict.problem)
        notary.tell(verdict.problem)
    return verdict
