"""Whether the audit chain needs somebody, as far as a look tells that costs next to nothing: for pages and metrics.

The whole chain is read once a day by a worker, and whenever somebody asks for it (verification.py).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from maintenance.engines.messages import Message, msg
from maintenance.models import AuditEntry, AuditHead, AuditSeal, AuditSignature

from .verification import SIGNED_WITHIN


def alarm() -> Message | None:
    """Return what is wrong; None: nothing that shows at a glance. Five small queries at most."""
    signatures = list(AuditSignature.objects.values_list("kind", "entries"))
    if any(kind == "broken" for kind, _ in signatures):
        return msg("The audit chain was found broken; “manage.py verify_audit” names the first bad entry.")
    if signatures and _is_gone(Path(settings.AUDIT_FILE)):
        return msg("The checkpoints of the audit chain are gone: {file}.", file=settings.AUDIT_FILE)
    since = _unsigned_since([entries for _, entries in signatures])
    if since is not None and timezone.now() - since > SIGNED_WITHIN:
        return msg(
            "Nobody has signed the audit log since {since} UTC; does a worker run that may read the key?",
            since=f"{since:%Y-%m-%d %H:%M}",
        )
    return None


def _is_gone(file: Path) -> bool:
    """False also where this account may not look."""
    try:
        return not file.exists()
    except PermissionError:
        return False


def _unsigned_since(signed: list[int]) -> datetime | None:
    """When the oldest entry was written that no signature covers; None where there is none."""
    head = AuditHead.objects.filter(pk=1).values_list("entries", flat=True).first() or 0
    sealed = AuditSeal.objects.order_by("-entries").values_list("entries", flat=True).first() or 0
    waiting = head - max([sealed, *signed])
    if waiting <= 0:
        return None
    oldest = AuditEntry.objects.order_by("-id").values_list("at", flat=True)[waiting - 1 : waiting]
    return next(iter(oldest), None)
