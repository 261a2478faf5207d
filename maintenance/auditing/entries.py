"""One entry of the audit chain: how it is appended, and what its hash covers."""

from __future__ import annotations

import hashlib
import json

from django.db import transaction
from django.utils import timezone

from maintenance.engines.values import Json
from maintenance.models import AuditEntry, AuditHead, AuditSignature

GENESIS = "0" * 64
LONGEST = 200
"""Characters of who and what; PostgreSQL refuses longer ones, and an audit entry must never stop the work."""


def append(actor: str, operation: str, object: str, before: Json | None, after: Json | None) -> AuditEntry:
    """Append one entry, unsigned, in the caller's transaction."""
    with transaction.atomic():
        head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1, defaults={"hash": GENESIS})
        entry = AuditEntry(
            at=timezone.now(),
            actor=actor[:LONGEST],
            operation=operation,
            object=object[:LONGEST],
            before=before,
            after=after,
            after_break=AuditSignature.objects.filter(kind="broken").exists(),
            previous_hash=head.hash,
        )
        entry.hash = digest(entry)
        entry.save(force_insert=True)
        AuditHead.objects.filter(pk=1).update(hash=entry.hash, entries=head.entries + 1)
    return entry


def digest(entry: AuditEntry) -> str:
    """Return the SHA-256 of everything the entry says, and of the hash before it."""
    content = [
        entry.at.isoformat(),
        entry.actor,
        entry.operation,
        entry.object,
        entry.before,
        entry.after,
        entry.after_break,
        entry.previous_hash,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
