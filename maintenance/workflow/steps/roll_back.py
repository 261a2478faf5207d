"""S: back to the data as of the cut, then back to service. U and X: how it ended."""

from __future__ import annotations

import shlex

from maintenance.engines.errors import Damaged, EngineError, Unable
from maintenance.engines.messages import Message, listed, msg
from maintenance.engines.values import Fingerprint
from maintenance.models import ActionRecord, ApplicationHold, Node, Status
from maintenance.models.evidence import CutEvidence, DataBack, Proof, SideCopy

from ..verdict import different, failed_checks, missing
from . import plural, switch
from .complete import clean_up
from .context import Context, Done, Outcome
from .cut import close
from .foreign import named, written_by_others
from .resume import bring_back
from .verify import still_guarded


def run(ctx: Context) -> Outcome:
    """Roll back (S): restore only what differs from the baseline. An EngineError leaves connections closed (X)."""
    ctx.engine.clear_interrupt()
    sentence = msg("Nothing had been changed.")
    keep: list[str] = []
    changes: dict[str, object] = {}
    if ctx.target.gate is not None and ctx.target.outage_ended_at is None and not ctx.untouched:
        released = ctx.journal.done(Node.ROLL_BACK, "data", ctx.target.round)
        if released is None:
            if not switch.disarm(ctx) and ctx.finished(Node.CUT_CONNECTIONS, "cut"):
                ctx.change(hold_lost=True)
            close(ctx)
        data = ctx.once("data", DataBack, lambda: _bring_data_back(ctx))
        keep = [data.kept] if data.kept else []
        sentence = msg("The data is as it was at the cut: {tables}.", tables=plural.tables(data.tables))
        if keep:
            sentence = msg(
                "Restored the data as of the cut: {tables}; the broken one is kept as {kept}.",
                tables=plural.tables(data.tables),
                kept=keep[0],
            )
        if data.foreign:
            sentence = msg("The work is done and nothing was restored: the rows that others wrote stay.")
            changes = {"ending": Status.FAILED}
        elif not data.image and ctx.target.ending == Status.FAILED:
            # Whatever led here, a death of the worker too: work had begun, and its data is as at the cut again.
            changes = {"ending": Status.ROLLED_BACK}
        if data.image:
            # Nobody can tell for sure who changed the data: the state of the cut stays for people.
            keep = [data.image]
    bring_back(ctx)
    clean_up(ctx, keep)
    return Outcome("finished", sentence, changes)


def _bring_data_back(ctx: Context) -> Done[DataBack]:
    baseline = ctx.baseline
    if baseline is None:
        return Done(msg("The work had not begun: nothing to restore."), DataBack(0))
    swapped = ctx.journal.done(Node.ROLL_BACK, "swap", ctx.target.round)
    if swapped is not None:
        return Done(msg("The restored tables are in their place already."), swapped.evidence(DataBack))
    swap = ctx.journal.was_started(Node.ROLL_BACK, "swap", ctx.target.round, SideCopy)
    if swap and not ctx.target.hold_lost:
        return _swap(ctx, swap.side, len(baseline))
    now = ctx.engine.verifier.fingerprint(None)
    rows = different(baseline, now) + _worse(baseline, now)
    differing = rows + _exposed(ctx, set(baseline)) + _gone(ctx)
    if swap and (not differing or _same(_seen_last(ctx, baseline), now)):
        return _swap(ctx, swap.side, len(baseline))
    if not differing and not _differs_from_image(ctx):
        return Done(
            msg("As it was: {tables}. There is nothing to restore.", tables=plural.tables(len(baseline))),
            DataBack(len(baseline)),
        )
    if ctx.target.hold_lost and rows and not _same(_seen_last(ctx, baseline), now):
        return _keep_what_was_written(ctx, baseline, now, rows)
    foreign, ours = written_by_others(ctx, baseline, now)
    if foreign:
        return _keep_what_others_wrote(ctx, foreign, rest=len(differing) > len(foreign) or bool(ours))
    backup, image, gate = ctx.backup, ctx.image, ctx.target.gate
    if backup is None or image is None or gate is None:
        raise Unable("rolling back", ctx.target.database, "there is no image to restore from")
    side = ctx.engine.rollback.restore_beside(image, backup, ctx.seal)
    restored = ctx.engine.verifier.fingerprint(None, side)
    wrong = different(baseline, restored) + _exposed(ctx, set(restored), side)
    if wrong:
        raise Damaged(
            "restoring",
            ctx.target.database,
            msg("the restored copy is not as at the cut: {problems}", problems=listed(wrong[:5])),
        )
    return _swap(ctx, side, len(restored))


def _differs_from_image(ctx: Context) -> bool:
    """Whether the work left traces that no row shows. With a lost hold they may be the applications' own."""
    image = ctx.image
    return not ctx.target.hold_lost and image is not None and ctx.engine.rollback.differs(image)


def _exposed(ctx: Context, tables: set[str], side: str | None = None) -> list[Message]:
    """Of these tables, those that were encrypted on disk at the cut and are not; restoring makes them so again."""
    before = ctx.checks_before.encryption
    encrypted = {name: marks for name, marks in before.items() if name in tables}
    return (
        failed_checks(still_guarded("encryption", encrypted, ctx.engine.verifier.encryption(side)), [])
        if encrypted
        else []
    )


def _gone(ctx: Context) -> list[Message]:
    """Objects (indexes, views, triggers, …) of the cut that are not there."""
    before = ctx.checks_before.catalog
    return missing(before, ctx.engine.verifier.definitions()) if before else []


def _seen_last(ctx: Context, baseline: dict[str, Fingerprint]) -> dict[str, Fingerprint] | None:
    """What was there when the last proof failed, under the hold. None when there was no proof."""
    line = ctx.journal.done(Node.VERIFY, f"proof {ctx.target.repairs + 1}", ctx.target.round)
    return None if line is None else {**baseline, **line.evidence(Proof).tables}


def _same(last_proof: dict[str, Fingerprint] | None, now: dict[str, Fingerprint]) -> bool:
    """Nobody wrote since: what a lost hold let in left every row as it was seen last."""
    return (
        last_proof is not None
        and last_proof.keys() == now.keys()
        and all(p.readable and p == now[n] for n, p in last_proof.items())
    )


def _swap(ctx: Context, side: str, tables: int) -> Done[DataBack]:
    """Also finishes a swap in which a worker died, so that the broken one is still kept."""
    gate = ctx.target.gate
    assert gate is not None

    def work() -> Done[DataBack]:
        broken = ctx.engine.rollback.swap(side, gate, ctx.marker)
        if gone := _gone(ctx):
            raise Damaged("restoring", ctx.target.database, listed(gone[:5]))
        return Done(
            msg("Restored {tables} beside, proved equality, and swapped.", tables=plural.tables(tables)),
            DataBack(tables, broken),
        )

    return Done(
        msg("What was restored, {tables}, is in the place of what was broken.", tables=plural.tables(tables)),
        ctx.again("swap", work, SideCopy(side).to_json()),
    )


def _keep_what_others_wrote(ctx: Context, foreign: list[str], rest: bool) -> Done[DataBack]:
    """Acknowledged rows stay. Raises Damaged when what the work did would have to be restored too."""
    words = named(ctx, foreign)
    if rest:
        raise Damaged("rolling back", ctx.target.database, words)
    image = ctx.image
    return Done(
        msg("Nothing is restored: {words}. Their rows stay.", words=words),
        DataBack(
            len(foreign),
            image=image.name if image is not None and image.kind == "copy" else "",
            foreign=tuple(foreign),
        ),
    )


def _keep_what_was_written(
    ctx: Context, baseline: dict[str, Fingerprint], now: dict[str, Fingerprint], differing: list[str]
) -> Done[DataBack]:
    """The lock ended with a worker, so applications may have written: their rows must not be restored away.

    Raises Damaged when the data may also differ because of the work: then a person has to decide.
    """
    if ActionRecord.objects.filter(target=ctx.target).exists() and _work_may_have_done_it(ctx, baseline, now):
        raise Damaged(
            "rolling back",
            ctx.target.database,
            msg(
                "the lock ended with the worker and the data differs since ({problems}): "
                "applications may have written, so restoring could lose their rows",
                problems=listed(differing[:3]),
            ),
        )
    image = ctx.image
    return Done(
        msg("Applications wrote since the worker died; the data is sound and stays as it is: nothing to restore."),
        DataBack(len(now), image=image.name if image is not None and image.kind == "copy" else ""),
    )


def _work_may_have_done_it(ctx: Context, baseline: dict[str, Fingerprint], now: dict[str, Fingerprint]) -> bool:
    last = f"proof {ctx.target.repairs + 1}"
    proof = ctx.recorded(Node.VERIFY, last, Proof) or ctx.recorded(Node.VERIFY, "proof 1", Proof)
    unreadable = [name for name, p in now.items() if not p.readable and baseline.get(name, p).readable]
    return bool(
        (proof and proof.problems) or unreadable or [c for c in ctx.engine.verifier.check(None) if not c.passed]
    )


def _worse(baseline: dict[str, Fingerprint], now: dict[str, Fingerprint]) -> list[str]:
    """Tables that could be salvaged only in part: unreadable before, readable with fewer rows now."""
    return [
        f"{name} was changed by the repair"
        for name, was in baseline.items()
        if not was.readable and now.get(name, was).readable
    ]


def fail(ctx: Context) -> Outcome:
    """End in failure (U): the reason was written where it happened."""
    if ctx.target.backup_files.exists() and not ctx.finished(Node.ROLL_BACK, "clean"):
        clean_up(
            ctx
        )  # A copy that a backup was restored into. A rollback cleaned up, and kept what people have to look at.
    return Outcome(
        "finished",
        msg(
            "Maintenance of {database} ended without success; its data and service are as they were before.",
            database=ctx.target.database,
        ),
    )


def call_people(ctx: Context) -> Outcome:
    """Call people (X): connections stay as they are, because opening them could do harm."""
    if ctx.run.rehearsal:
        return Outcome("finished", msg("Here people would have been called; the database itself is as it was."))
    switch.disarm_if_reachable(ctx)
    try:
        left = ", ".join(ctx.engine.rollback.leftovers()) or msg("nothing")
    except EngineError as error:
        left = error.sentence
    commands = listed(commands_by_hand(ctx)) or "-"
    if ctx.engine.gate.dies_with_worker:
        return Outcome(
            "finished",
            msg(
                "{database} needs an operator, and nothing can keep a file closed without a process: keep its "
                "applications stopped. Left on the target: {left}. When its data was checked by a person: "
                "manage.py release {database} - or, without this console: {commands}",
                database=ctx.target.database,
                left=left,
                commands=commands,
            ),
        )
    return Outcome(
        "finished",
        msg(
            "{database} needs an operator. Left on the target: {left}. When its data was checked by a person, "
            "open it again with: manage.py release {database} - or, without this console: {commands}",
            database=ctx.target.database,
            left=left,
            commands=commands,
        ),
    )


def commands_by_hand(ctx: Context) -> list[str]:
    """Return what a person types to open the target and to start what was stopped, without this console."""
    gate = ctx.target.gate
    commands: list[str] = []
    if gate is not None and ctx.target.outage_ended_at is None:
        try:
            commands = ctx.engine.gate.manual_commands(gate)
        except EngineError:
            # As it was at the cut, because the target does not answer now.
            cut = ctx.recorded(Node.CUT_CONNECTIONS, "cut", CutEvidence)
            commands = list(cut.manual_commands) if cut is not None else []
    held = ApplicationHold.objects.filter(target=ctx.target, was_running=True, released_at=None).order_by("-id")
    known = ctx.config.applications
    return commands + [shlex.join(known[hold.name].start) for hold in held if hold.name in known]
