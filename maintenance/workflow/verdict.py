"""The one decision whether a run may be called succeeded: a pure function of what was seen before and after."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from maintenance.engines.messages import Message, listed, msg
from maintenance.engines.values import Check, Fingerprint
from maintenance.models.evidence import Proof


@dataclass(frozen=True)
class Evidence:
    """What is known of the tables that a run is about, under the cut before the work and after it."""

    before: Mapping[str, Fingerprint]
    after: Mapping[str, Fingerprint]
    checks_before: Sequence[Check] = ()
    checks: Sequence[Check] = ()
    definitions_before: Collection[str] = ()
    definitions: Collection[str] = ()
    lost_by_consent: Collection[str] = ()
    """Tables of which the operator allowed rows to go, and definitions ('view v') that are lost; the report lists them.

    Then rows may have lost their parents, too: that is part of the loss and in the checks of the report."""
    rows_stay: bool = False
    """Whether the work may not change any row: equal rows then fail the same constraints as before."""


def objections(evidence: Evidence) -> list[Message]:
    """Return all that keeps the run from being called succeeded, in words; empty when it may be.

    Never with a table that cannot be read, a check of the structure that fails (though it failed before), a table or
    definition that is gone, any other check that fails anew, or rows that differ unless their loss was allowed.
    """
    rows = different(evidence.before, evidence.after, evidence.lost_by_consent)
    same_rows = evidence.rows_stay and not rows
    return [
        *failed_checks(evidence.checks, evidence.checks_before, same_rows or bool(evidence.lost_by_consent)),
        *rows,
        *unread(evidence.before, evidence.after, evidence.lost_by_consent),
        *missing(evidence.definitions_before, [*evidence.definitions, *evidence.lost_by_consent]),
    ]


def may_succeed(evidence: Evidence) -> bool:
    """Return whether nothing objects."""
    return not objections(evidence)


def unproven(closed: bool, proof: Proof | None) -> Message | None:
    """Return why a run may not end as succeeded although no step failed; None where it may.

    `closed`: the target was closed, so work may have begun. `proof`: what the newest proof found, None without any.
    """
    if not closed or (proof is not None and not proof.problems):
        return None
    if proof is None:
        return msg("Nothing proves that all rows are there: the proof after the work is not in the journal.")
    return msg("The last proof found {problems}", problems=listed(proof.problems[:5]))


def failed_checks(checks: Sequence[Check], before: Sequence[Check], same_rows: bool = False) -> list[Message]:
    """Return the failures that count: every one of the structure, and of the others what did not fail before.

    With the `same_rows` as before, what follows from the rows failed before, too; where rows were given up by consent,
    it follows from that.
    """
    old = {(check.name, check.object) for check in before if not check.passed}
    return [
        msg("{check} of {object}: {detail}", check=c.name, object=c.object, detail=c.detail or msg("failed"))
        for c in checks
        if not c.passed and (c.structural or not ((same_rows and c.of_rows) or (c.name, c.object) in old))
    ]


def different(
    before: Mapping[str, Fingerprint], after: Mapping[str, Fingerprint], lost_by_consent: Collection[str] = ()
) -> list[Message]:
    """Return the tables that are not row for row as they were. What was unreadable before has nothing to compare."""
    return list(differences(before, after, lost_by_consent).values())


def differences(
    before: Mapping[str, Fingerprint], after: Mapping[str, Fingerprint], lost_by_consent: Collection[str] = ()
) -> dict[str, Message]:
    """Return what differs, by table."""
    messages = {}
    for name, was in before.items():
        now = after.get(name)
        if not was.readable:
            continue
        if now is None:
            if f"table {name}" not in lost_by_consent:
                messages[name] = msg("{table} is not there any more", table=name)
        elif not now.readable:
            messages[name] = msg("{table} cannot be read: {words}", table=name, words=now.error)
        elif name not in lost_by_consent and (was.rows, was.digest) != (now.rows, now.digest):
            messages[name] = msg(
                "{table} had {before} rows and has {after}, or their content differs",
                table=name,
                before=was.rows,
                after=now.rows,
            )
    return messages


def unread(
    before: Mapping[str, Fingerprint], after: Mapping[str, Fingerprint], lost_by_consent: Collection[str] = ()
) -> list[Message]:
    """Return the tables that could not be read before the work, and cannot be read after it or are gone."""
    messages = []
    for name, was in before.items():
        now = after.get(name)
        if was.readable or (now is not None and now.readable):
            continue
        if now is None:
            if f"table {name}" in lost_by_consent:
                continue
            messages.append(msg("{table} is not there any more", table=name))
        else:
            messages.append(msg("{table} cannot be read, as before the work: {words}", table=name, words=now.error))
    return messages


def missing(before: Collection[str], after: Collection[str]) -> list[Message]:
    """Return the objects (indexes, views, triggers, …) that were there and are not."""
    return [msg("{name} is missing", name=name) for name in before if name not in after]
