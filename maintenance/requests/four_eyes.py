"""Who has to agree before a maintenance begins, to what exactly, and who may not be that person."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from maintenance.engines.messages import msg
from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.models.asked import changed_since

from .request import Actor, BadInput, NotPermitted


def needs_second_person(targets: Iterable[MaintenanceSetting]) -> bool:
    """Whether the rule of one of these databases asks for it.

    The severity is the asker's own word: where the rule names any, a lower one does not avoid it, because every kind
    of work closes the database.
    """
    return any(setting.approval_severities for setting in targets)


def refuse_same_person(actor: Actor, run: MaintenanceRun) -> None:
    """Raises NotPermitted for the one who asked, by whatever account, superusers included."""
    asked = run.requested_by
    same_account = actor.user is not None and asked is not None and actor.user.pk == asked.pk
    if same_account or _alike(actor.name, run.requested_by_name) or _share_mail(actor.user, asked):
        raise NotPermitted(
            msg("{who} asked for {run}; a second person has to approve it.", who=actor.name, run=run.number)
        )


def _alike(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _share_mail(one: User | None, other: User | None) -> bool:
    return one is not None and other is not None and bool(one.email) and _alike(one.email, other.email)


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
