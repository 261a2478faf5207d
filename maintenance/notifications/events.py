"""Messages of specification 7.3: who is told what, in which language. Written with the event, sent by `delivery`."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import Max, Q
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import override

from maintenance.conf import config
from maintenance.models import ENDED, MaintenanceRun, Notification, Status
from maintenance.results.consequences import of_plan
from maintenance.text.render import render

log = logging.getLogger("maintenance")


@dataclass(frozen=True)
class Event:
    """What happened, for the title, and the audiences of config.json that are told."""

    title: Promise
    audiences: tuple[str, ...]


LATE_BUT_TOLD = timedelta(days=1)
EMERGENCY = ("dba", "on_call")
"""On call is reached by phone and Slack: its addresses in config.json say how."""
EVENTS = {
    "started": Event(_("Maintenance began"), ("dba", "operations", "development")),
    "succeeded": Event(_("Maintenance is complete"), ("stakeholders",)),
    "cancelled": Event(_("Maintenance was cancelled"), ("stakeholders",)),
    "rolled_back": Event(_("Maintenance failed and was rolled back"), EMERGENCY),
    "failed": Event(_("Maintenance failed"), EMERGENCY),
    "timed_out": Event(_("Maintenance ran out of time"), EMERGENCY),
    "needs_operator": Event(_("A database needs an operator now"), EMERGENCY),
    "acknowledged": Event(_("Somebody is on it"), ("dba",)),
    "diagnosis_failed": Event(_("Diagnosis failed: look at the database by hand"), ("dba",)),
    "backup_failed": Event(_("A backup failed"), ("dba",)),
    "maintenance_failed": Event(_("The work failed"), ("dba",)),
    "integrity_error": Event(_("The data is not whole"), ("dba",)),
    "not_improved": Event(_("The performance target was missed"), ("dba",)),
    "late": Event(_("Maintenance is late"), ("dba", "operations")),
    "handed_over": Event(_("A maintenance was handed over"), ("dba",)),
    "awaiting_approval": Event(_("Maintenance waits for your approval"), ("dba",)),
    "approved": Event(_("Maintenance was approved"), ("dba",)),
    "rejected": Event(_("Maintenance was rejected"), ("dba",)),
    "outdated": Event(_("Nobody may approve the maintenance any more"), ("dba",)),
    "glass_broken": Event(_("Maintenance began without the approval it needs"), ("dba", "stakeholders")),
    "audit_broken": Event(_("The audit log of the console is not whole"), ("dba", "stakeholders")),
}


def announce(run: MaintenanceRun | None, event: str, because: str = "", database: str = "") -> None:
    """Queue the messages of an event, one for each address of its audiences. `because` says what happened.

    Without a run it is about the console itself. Of a rehearsal nobody is told: who asked for it looks at it.
    """
    if run is not None and run.rehearsal:
        return
    _queue(run, event, because, database, 0)


def _queue(run: MaintenanceRun | None, event: str, because: str, database: str, repetition: int) -> None:
    known = _config()
    told: dict[str, dict[str, str]] = {}
    messages = []
    for audience in EVENTS[event].audiences:
        language = known.notification_languages.get(audience, settings.LANGUAGE_CODE)
        for address in known.notifications.get(audience, ()):
            told.setdefault(language, _told(run, event, because, database, language))
            messages.append(
                Notification(
                    run=run,
                    audience=audience,
                    event=event,
                    channel=address.partition(":")[0][:40],
                    digest=digest(address),
                    repetition=repetition,
                    **told[language],
                )
            )
    Notification.objects.bulk_create(messages, ignore_conflicts=repetition > 0)


def _config() -> config.Config:
    """A configuration that cannot be read must stop messages only, never the procedure."""
    try:
        return config.load()
    except config.ConfigError as error:
        log.error("No messages can be sent: %s", error)
        return config.Config()


def digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()


def _told(run: MaintenanceRun | None, event: str, because: str, database: str, language: str) -> dict[str, str]:
    with override(language):
        what = str(EVENTS[event].title)
        title = what
        if run is not None:
            title = f"{run.number} {what}: {run.get_maintenance_type_display()} · {', '.join(run.target_databases)}"
        context = {
            "run": run,
            "what": what,
            "said": _said(run, because, database),
            "consequences": _consequences(run, event),
            "page": f"{settings.SITE_URL.rstrip('/')}{f'/runs/{run.pk}/' if run is not None else '/audit/'}",
            "to_acknowledge": event == "needs_operator",
        }
        return {"title": title[:300], "body": render_to_string("notifications/message.txt", context).strip()}


BEGINNING = frozenset({"started", "awaiting_approval", "approved", "glass_broken"})
"""Events after which people will be locked out."""


def _consequences(run: MaintenanceRun | None, event: str) -> list[str]:
    """What the confirmed plan means for people, while it still lies ahead."""
    plan = run.agreed_plan if run is not None and event in BEGINNING else None
    return [] if plan is None else [render(sentence) for sentence in of_plan(plan)]


def _said(run: MaintenanceRun | None, because: str, database: str) -> list[str]:
    """In the reader's language: what happened just now, or else how each database ended."""
    if because:
        text = render(because)
        return [f"{database}: {text}" if database else text]
    if run is None:
        return []
    ended = run.targets.filter(status__in=ENDED).only("database", "ended_because")
    return [f"{t.database}: {render(t.ended_because)}" for t in ended if t.ended_because]


def remind() -> int:
    """Repeats 'needs operator' until somebody acknowledges or releases it; returns how many runs were repeated."""
    now = timezone.now()
    due = now - timedelta(minutes=_config().reminder_minutes)
    said = Q(notifications__event="needs_operator")
    waiting = MaintenanceRun.objects.filter(status=Status.NEEDS_OPERATOR, acknowledgement=None).annotate(
        last=Max("notifications__created_at", filter=said)
    )
    # One that was never told, because config.json was broken or named nobody, is told late rather than not.
    untold = Q(last=None, finished_at__range=(now - LATE_BUT_TOLD, due))
    repeated = 0
    for run in waiting.filter(Q(last__lt=due) | untold):
        if not released(run):
            last = run.notifications.filter(event="needs_operator").aggregate(Max("repetition"))["repetition__max"]
            _queue(run, "needs_operator", "", "", (last or 0) + 1)
            repeated += 1
    return repeated


def released(run: MaintenanceRun) -> bool:
    """A person has brought every database back that the run left shut."""
    return not run.targets.filter(status=Status.NEEDS_OPERATOR, released_at=None).exists()
