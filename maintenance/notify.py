"""Messages of specification 7.3: who is told what. Written with the event, delivered outside its way."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from . import config
from .models import MaintenanceRun, Notification

log = logging.getLogger("maintenance")
AUDIENCES = {
    "started": ("dba", "operations", "development"),
    "succeeded": ("stakeholders",),
    "cancelled": ("stakeholders",),
    "rolled_back": ("dba", "on_call"),
    "failed": ("dba", "on_call"),
    "timed_out": ("dba", "on_call"),
    "needs_operator": ("dba", "on_call"),
    "diagnosis_failed": ("dba",),
    "backup_failed": ("dba",),
    "maintenance_failed": ("dba",),
    "integrity_error": ("dba",),
    "not_improved": ("dba",),
    "awaiting_approval": ("dba",),
    "glass_broken": ("dba", "stakeholders"),
}
"""Event -> audiences of config.json. A failure also reaches the emergency team by phone."""
TRIES = 20
"""With waits that double up to an hour, most of a day. What needs an operator is tried for ever."""
FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0
"""Seconds between tries."""


def announce(run: MaintenanceRun, event: str, text: str = "") -> None:
    """Queues the messages of an event for the audiences that config.json gives an address."""
    title = f"{run.number} {event.replace('_', ' ')}: {run.maintenance_type} of {', '.join(run.target_databases)}"
    lines = [
        text or run.ended_because,
        f"Severity {run.severity_level}; asked by {run.requested_by_name}: {run.reason}",
        f"{settings.SITE_URL}/runs/{run.pk}/",
    ]
    Notification.objects.bulk_create(
        Notification(run=run, audience=a, event=event, title=title, body="\n".join(x for x in lines if x))
        for a in AUDIENCES[event]
        if _addresses().get(a)
    )


def _addresses() -> Mapping[str, tuple[str, ...]]:
    """A configuration that cannot be read must stop messages only, never the procedure."""
    try:
        return config.load().notifications
    except config.ConfigError as error:
        log.error("No messages can be sent: %s", error)
        return {}


def deliver_pending() -> int:
    """Sends what waits; returns how many went out. A failure is kept with the message and tried again."""
    # Here, because it takes a quarter of a second to import and most commands send nothing.
    from apprise import Apprise

    sent = 0
    known = _addresses()
    waiting = Notification.objects.filter(delivered_at=None, next_try_at__lte=timezone.now())
    for message in waiting.filter(Q(tries__lt=TRIES) | Q(event="needs_operator")):
        wait = timedelta(seconds=min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(message.tries, 20)))
        # Several processes deliver: who changes the count sends, so that nobody is called twice.
        mine = Notification.objects.filter(pk=message.pk, tries=message.tries, delivered_at=None)
        if not mine.update(tries=message.tries + 1, next_try_at=timezone.now() + wait):
            continue
        door = Apprise()
        refused = [a for a in known.get(message.audience, ()) if not door.add(a)]
        if len(door) and door.notify(title=message.title, body=message.body):
            message.delivered_at, message.error = timezone.now(), ""
            sent += 1
        else:
            message.error = (
                "an address in config.json is not understood" if refused else "the receiver did not accept it"
            )
            log.error("Notification %s to %s: %s", message.pk, message.audience, message.error)
        message.save(update_fields=["delivered_at", "error"])
    return sent
