"""Messages of specification 7.3: who is told what. Written with the event, delivered outside its way."""

from __future__ import annotations

import logging

import apprise
from django.conf import settings
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
}
"""Event -> audiences of config.json. A failure also reaches the emergency team by phone."""
TRIES = 5


def announce(run: MaintenanceRun, event: str, text: str = "") -> None:
    """Queues the messages of an event for the audiences that config.json gives an address."""
    title = f"{run.number} {event.replace('_', ' ')}: {run.maintenance_type} of {', '.join(run.target_databases)}"
    lines = [
        text or run.ended_because,
        f"Severity {run.severity_level}; asked by {run.requested_by_name}: {run.reason}",
        f"{settings.SITE_URL}/runs/{run.pk}/",
    ]
    known = config.load().notifications
    Notification.objects.bulk_create(
        Notification(run=run, audience=a, event=event, title=title, body="\n".join(x for x in lines if x))
        for a in AUDIENCES[event]
        if known.get(a)
    )


def deliver_pending() -> int:
    """Sends what waits; returns how many went out. A failure is kept with the message and tried again."""
    sent = 0
    known = config.load().notifications
    for message in Notification.objects.filter(delivered_at=None, tries__lt=TRIES):
        door = apprise.Apprise()
        refused = [a for a in known.get(message.audience, ()) if not door.add(a)]
        message.tries += 1
        if len(door) and door.notify(title=message.title, body=message.body):
            message.delivered_at, message.error = timezone.now(), ""
            sent += 1
        else:
            message.error = (
                "an address in config.json is not understood" if refused else "the receiver did not accept it"
            )
            log.error("Notification %s to %s: %s", message.pk, message.audience, message.error)
        message.save(update_fields=["tries", "delivered_at", "error"])
    return sent
