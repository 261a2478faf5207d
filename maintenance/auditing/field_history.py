"""Who changed what of a database's settings last, from the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from maintenance.models import AuditEntry

CHANGES = ("setting.changed", "setting.registered")
READ = 300
"""Entries of one database; older changes stand in the audit log."""


@dataclass(frozen=True)
class Change:
    """The last one of a field."""

    at: datetime
    who: str
    before: Any


def last_changes(name: str) -> dict[str, Change]:
    """Return the last change of each field of this database's settings; of what never changed there is none."""
    found: dict[str, Change] = {}
    entries = AuditEntry.objects.filter(object=name, operation__in=CHANGES, before__isnull=False).order_by("-id")
    for entry in entries[:READ]:
        before, after = entry.before or {}, entry.after or {}
        for field, value in after.items():
            if field in before and before[field] != value:
                found.setdefault(field, Change(entry.at, entry.actor, before[field]))
        if after.get("password_changed"):
            found.setdefault("new_password", Change(entry.at, entry.actor, None))
    return found
