"""The rule of approval of a database: when a second person is needed, and that two people make it weaker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.engines import addresses
from maintenance.engines.errors import EngineError
from maintenance.models import MaintenanceSetting, RunTarget
from maintenance.results.estimates import usual_outages

from .persons import same_person
from .request import Actor, BadInput, Checked, Request, engine_of, identity_of

RULE = ("approval_severities", "approval_types", "approval_data_loss", "approval_outage_seconds")


def has_rule(setting: MaintenanceSetting) -> bool:
    """Return whether anything of this database ever needs a second person."""
    return any(getattr(setting, field) for field in RULE)


def needs_second_person(targets: Sequence[MaintenanceSetting], request: Request) -> bool:
    """Return whether the rule of one of these databases asks for it.

    The severity is the asker's own word: where the rule names any, a lower one does not avoid it, because every kind
    of work closes the database.
    """
    kind = request.maintenance_type
    last = usual_outages([setting.name for setting in targets], kind)
    return any(
        bool(setting.approval_severities)
        or kind in setting.approval_types
        or (request.allow_data_loss and has_rule(setting))
        or 0 < setting.approval_outage_seconds <= _longest(last[setting.name])
        for setting in targets
    )


def with_other_names(checked: Checked) -> list[MaintenanceSetting]:
    """Return the settings of a request, and all others with a rule that lead to one of its databases.

    Connects to those: a second name for a database does not avoid the rule of the first.
    """
    targets = list(checked.settings)
    ruled = MaintenanceSetting.objects.exclude(pk__in=[setting.pk for setting in targets])
    for setting in filter(has_rule, ruled):
        if any(_may_be_same(setting, asked) for asked in checked.settings) and _leads_to(setting, checked):
            targets.append(setting)
    return targets


def _may_be_same(one: MaintenanceSetting, other: MaintenanceSetting) -> bool:
    """Judge by what two names of one database surely share; a host may be written in many ways."""
    first, second = addresses.parse(one.url), addresses.parse(other.url)
    if first.host is None or second.host is None:
        return True  # Files and sockets are quickly asked.
    return (first.database or "").casefold() == (second.database or "").casefold()


def _leads_to(setting: MaintenanceSetting, checked: Checked) -> bool:
    """Return whether it is a database of the request; of one that cannot be asked, whether a run of it was."""
    identities = {identity_of(facts) for facts in checked.facts.values()}
    try:
        engine = engine_of(setting)
        try:
            return identity_of(engine.sessions.facts()) in identities
        finally:
            engine.close()
    except (BadInput, EngineError):
        return RunTarget.objects.filter(setting=setting, identity__in=identities).exists()


def _longest(outages: dict[str, Any] | None) -> float:
    """Seconds; nobody can promise a short one where there was none."""
    return inf if outages is None else float(outages["longest"])


def settle_rule(setting: MaintenanceSetting, actor: Actor) -> bool:
    """Keep a weaker rule for a second person to ask for; take it when `actor` is the second. Call it before `save`.

    Returns whether it waits. The stricter of two rules is taken at once, from anybody.
    """
    before = MaintenanceSetting.objects.filter(pk=setting.pk).first()
    if before is None or _of(setting) == _of(before):
        return False  # A rule that waits goes on waiting while other settings change.
    asked, proposed = _of(setting), pending(before)
    if not _is_weaker(asked, _of(before)) or (proposed is not None and _is_second(actor, proposed, asked)):
        setting.proposed_rule = None
        return False
    for field, value in _of(before).items():
        setattr(setting, field, value)
    if proposed is None or proposed["rule"] != asked:
        setting.proposed_rule = {
            "rule": asked,
            "by": actor.name,
            "user": actor.user.pk if actor.user else None,
            "at": timezone.now().isoformat(),
        }
        chain.record(actor.name, "rule.proposed", setting.name, before=_of(before), after=asked)
    return True


def pending(setting: MaintenanceSetting) -> dict[str, Any] | None:
    """Return the rule that waits for a second person, with who proposed it; None after `APPROVAL_HOURS`."""
    proposed: dict[str, Any] | None = setting.proposed_rule
    age = timezone.now() - datetime.fromisoformat(proposed["at"]) if proposed else timedelta()
    return proposed if age <= timedelta(hours=settings.APPROVAL_HOURS) else None


def _is_second(actor: Actor, proposed: dict[str, Any], asked: dict[str, Any]) -> bool:
    first = Actor(proposed["by"], "", User.objects.filter(pk=proposed["user"]).first())
    return bool(proposed["rule"] == asked) and not same_person(actor, first)


def _of(setting: MaintenanceSetting) -> dict[str, Any]:
    rule = {field: getattr(setting, field) for field in RULE}
    return {field: sorted(value) if isinstance(value, list) else value for field, value in rule.items()}


def _is_weaker(rule: dict[str, Any], than: dict[str, Any]) -> bool:
    fewer = any(set(than[field]) - set(rule[field]) for field in ("approval_severities", "approval_types"))
    longer = (rule["approval_outage_seconds"] or inf) > (than["approval_outage_seconds"] or inf)
    return fewer or longer or (than["approval_data_loss"] and not rule["approval_data_loss"])
