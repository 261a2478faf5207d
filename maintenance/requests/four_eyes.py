"""Who has to agree before a maintenance begins, to what exactly, and who may not be that person."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from maintenance.engines.messages import Message, msg
from maintenance.models import AuditEntry, MaintenanceRun
from maintenance.models.asked import changed_since

from .persons import same_person
from .request import Actor, BadInput, NotPermitted

CHANGES = ("setting.registered", "setting.changed")
"""What the audit log calls it when somebody saves settings."""


def refuse_same_person(actor: Actor, run: MaintenanceRun) -> None:
    """Raise NotPermitted for the one who asked, by whatever account, superusers included."""
    if same_person(actor, Actor(run.requested_by_name, run.origin, run.requested_by)):
        raise NotPermitted(
            msg("{who} asked for {run}; a second person has to approve it.", who=actor.name, run=run.number)
        )


def refuse_who_changed_it(actor: Actor, run: MaintenanceRun) -> None:
    """Raise NotPermitted for whoever saved settings of these databases since: nobody else has looked at them then."""
    changes = AuditEntry.objects.filter(
        operation__in=CHANGES, object__in=run.target_databases, at__gte=run.created_at
    ).values_list("actor", "object")
    for name, database in changes.distinct():
        if same_person(actor, Actor(name, "", User.objects.filter(username=name).first())):
            raise NotPermitted(
                msg(
                    "{who} changed the settings of {database} since {run} was asked for; "
                    "somebody else has to approve it.",
                    who=actor.name,
                    database=database,
                    run=run.number,
                )
            )


def refuse_outdated(run: MaintenanceRun) -> None:
    """Raise BadInput when nobody may agree to it any more: too old, or not what was asked for."""
    why = outdated(run)
    if why is not None:
        raise BadInput(msg("{why}; cancel it and ask again.", why=why))


def outdated(run: MaintenanceRun) -> Message | None:
    """Return why nobody may agree to it any more; None while somebody may."""
    if timezone.now() - run.created_at > timedelta(hours=settings.APPROVAL_HOURS):
        return msg(
            "{run} was asked for more than {hours} hours ago", run=run.number, hours=f"{settings.APPROVAL_HOURS:g}"
        )
    changed = changed_since(run)
    if changed:
        return msg("{names} changed since {run} was asked for", names=", ".join(changed), run=run.number)
    return None
