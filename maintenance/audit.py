"""The audit chain: every operation has an entry, in the same transaction as the change it tells of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from .engines.values import Json
from .models import AuditEntry, AuditHead

GENESIS = "0" * 64


def record(
    actor: str, operation: str, object: str, before: Json | None = None, after: Json | None = None
) -> AuditEntry:
    """Appends one entry. Call it inside the transaction of the change."""
    with transaction.atomic():
        head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1, defaults={"hash": GENESIS})
        entry = AuditEntry(
            at=timezone.now(),
            actor=actor,
            operation=operation,
            object=object,
            before=before,
            after=after,
            previous_hash=head.hash,
        )
        entry.hash = _digest(entry)
        entry.save(force_insert=True)
        AuditHead.objects.filter(pk=1).update(hash=entry.hash, entries=head.entries + 1)
    return entry


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
    """`broken_at` is the id of the first bad entry; None with `problem` set: the end was cut off."""

    entries: int
    problem: str = ""
    broken_at: int | None = None

    @property
    def whole(self) -> bool:
        return not self.problem


def verify() -> Verdict:
    """Reads the chain from its beginning: edited, deleted, inserted, reordered and cut off entries show."""
    previous, count = GENESIS, 0
    for entry in AuditEntry.objects.order_by("id").iterator():
        count += 1
        if entry.previous_hash != previous:
            return Verdict(count, f"entry {entry.pk} does not follow the one before it", entry.pk)
        if _digest(entry) != entry.hash:
            return Verdict(count, f"entry {entry.pk} was changed after it was written", entry.pk)
        previous = entry.hash
    head = AuditHead.objects.filter(pk=1).first()
    if head is None and count:
        return Verdict(count, f"the head of the chain is gone, {count} entries are there")
    if head is not None and (head.hash, head.entries) != (previous, count):
        return Verdict(count, f"the chain ends after {count} entries, {head.entries} were written")
    return Verdict(count)
