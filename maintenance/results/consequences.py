"""What a maintenance means for those who use the database, said before it begins.

The same sentences stand on plan, confirmation and approval, and in messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import override

from maintenance.engines.messages import Message, listed, msg, plural, size, span
from maintenance.models import MaintenanceType, StoredPlan
from maintenance.text import labels

from .estimates import usual_outages

Target = Mapping[str, Any]
"""One database of a stored plan."""
NAMED = 5
"""Objects and databases that a sentence names."""


def consequences(target: Target, maintenance_type: str, usual: Mapping[str, Any] | None) -> list[Message]:
    """Return the sentences about one database; `usual` is its usual outage by the same type, None without any."""
    if not closes(target, maintenance_type):
        return [
            msg("Nothing is to be done in {database}: nobody is locked out.", database=target["database"]),
            *left(target),
        ]
    return [
        outage(target, usual),
        *applications(target),
        work(target, maintenance_type),
        *losses(target),
        backup(target),
        msg("It can be cancelled until connections are let in again; work that is not proven by then is taken back."),
        *left(target),
    ]


def closes(target: Target, maintenance_type: str) -> bool:
    """Whether there will be an outage: only an optimization without work ends before it."""
    return bool(target["actions"]) or maintenance_type != MaintenanceType.OPTIMIZE


def outage(target: Target, usual: Mapping[str, Any] | None) -> Message:
    """Who cannot work, and for how long."""
    closed = {
        "database": target["database"],
        "sessions": plural(target["connections"], "{n:,} session", "{n:,} sessions"),
    }
    if usual is None:
        return msg(
            "Nobody can use {database} meanwhile, and {sessions} will be ended. "
            "For how long is not known yet: there was no earlier run of this type.",
            **closed,
        )
    if usual["runs"] == 1:
        return msg(
            "Nobody can use {database} for about {time}, as the one time before, and {sessions} will be ended.",
            **closed,
            time=span(usual["seconds"]),
        )
    return msg(
        "Nobody can use {database} for about {time} ({low} – {high} in its last {runs} runs of this type), "
        "and {sessions} will be ended.",
        **closed,
        time=span(usual["seconds"]),
        low=span(usual["shortest"]),
        high=span(usual["longest"]),
        runs=usual["runs"],
    )


def applications(target: Target) -> list[Message]:
    """Those that are stopped; nothing where none is configured."""
    names = ", ".join(target["applications"])
    return [msg("{names} will be stopped before and started again after it.", names=names)] if names else []


def work(target: Target, maintenance_type: str) -> Message:
    """What is done, by kind of work."""
    if not target["actions"]:
        if maintenance_type == MaintenanceType.REPAIR:
            return msg(
                "No damage shows from outside. While it is closed, everything is checked and damage is repaired."
            )
        return msg("There is nothing to rebuild; it is backed up, closed, checked and opened again.")
    kinds: dict[str, list[str]] = {}
    for action in target["actions"]:
        kinds.setdefault(action["kind"], []).append(action["object"])
    with override("en"):
        doing = {kind: labels.label(labels.ACTIONS, kind) for kind in kinds}
    parts = [msg("{objects}: {doing}", objects=names(objects), doing=doing[kind]) for kind, objects in kinds.items()]
    return msg("What is done: {work}.", work=listed(parts))


def names(objects: Sequence[str]) -> Message:
    """The first few by name, the others by number."""
    first, more = ", ".join(objects[:NAMED]), len(objects) - NAMED
    return msg("{first} and {more} more", first=first, more=more) if more > 0 else msg("{first}", first=first)


def losses(target: Target) -> list[Message]:
    """Objects of which rows may go, by name."""
    objects = [action["object"] for action in target["actions"] if action["needs_data_loss"]]
    return [msg("Rows that cannot be read are lost from {objects}.", objects=names(objects))] if objects else []


def backup(target: Target) -> Message:
    """How much, and where it goes."""
    return msg(
        "Before anybody is locked out, all of it ({size}) is backed up to {folder}.",
        size=size(target["size_bytes"]),
        folder=target["backup_dir"],
    )


def left(target: Target) -> list[Message]:
    """How many findings stay, and the first of them."""
    findings = [target["findings"][place] for place in target["left"]]
    if not findings:
        return []
    first, count = findings[0], plural(len(findings), "{n:,} finding stays", "{n:,} findings stay")
    worst = listed([part for part in (first["object"], first["evidence"]) if part], ": ")
    return [msg("{findings} as before, such as: {worst}", findings=count, worst=worst)]


def of_plan(plan: StoredPlan) -> list[Message]:
    """Return the sentences about the first databases of a plan, for a message to people."""
    kind = plan.request["maintenance_type"]
    targets = plan.targets[:NAMED]
    usual = usual_outages([target["database"] for target in targets], kind)
    said = [sentence for target in targets for sentence in consequences(target, kind, usual[target["database"]])]
    more = len(plan.targets) - NAMED
    if more > 0:
        others = plural(more, "{n:,} more database", "{n:,} more databases")
        said.append(msg("The same for {databases}.", databases=others))
    return said
