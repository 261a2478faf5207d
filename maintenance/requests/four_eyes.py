"""Who has to agree before a maintenance begins, to what exactly, and who may not be that person."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from maintenance.engines.messages import msg
from maintenance.models import MaintenanceRun
from maintenance.models.asked import changed_since

from .persons import same_person
from .request import Actor, BadInput, NotPermitted


def refuse_same_person(actor: Actor, run: MaintenanceRun) -> None:
    """Raises NotPermitted for the one who asked, by whatever account, superusers included."""
    if same_person(actor, Actor(run.requested_by_name, run.origin, run.requested_by)):
        raise NotPermitted(
            msg("{who} asked for {run}; a second person has to approve it.", who=actor.name, run=run.number)
        )


def refuse_outdated(run: MaintenanceRun) -> None:
    """Raises BadInput when nobody may agree to it any more: too old, or not what was asked for."""
    if timezone.now() - run.created_at > timedelta(hours=settings.APPROVAL_HOURS):
        raise BadInput(
            msg(
                "{run} was asked for more than {hours} hours ago; cancel it and ask again.",
                run=run.number,
                hours=f"{settings.APPROVAL_HOURS:g}",
            )
        )
    changed = changed_since(run)
    if changed:
        raise BadInput(
            msg(
                "{names} changed since {run} was asked for; cancel it and ask again.",
                names=", ".join(changed),
                run=run.number,
            )
        )
