"""F: cut the connections, then know exactly what is there: checks, fingerprints, image, benchmark before."""

from __future__ import annotations

from pathlib import Path

from django.utils import timezone

from maintenance.engines.errors import Damaged, Unable
from maintenance.engines.messages import listed, msg, size
from maintenance.models import ActionRecord
from maintenance.models.evidence import Baseline, ChecksBefore, CutEvidence, ImageEvidence

from . import plural, switch
from .context import Context, Done, Outcome, checked_early
from .deep import compare
from .functional import functional_checks
from .measure import measure


def run(ctx: Context) -> Outcome:
    """Cut (F): state before into the journal and the black box, then the cut, then the proof of what was there."""
    if ctx.target.gate is None:
        ctx.change(gate=ctx.engine.gate.read_state())
    if ctx.target.outage_started_at is None and not ctx.run.rehearsal:
        ctx.change(outage_started_at=timezone.now())
    close(ctx)
    switch.arm(ctx)
    if ctx.target.hold_lost and ActionRecord.objects.filter(target=ctx.target).exists():
        refuse_missing_rows(ctx)
    if not ctx.engine.verifier.harms_damaged_tables:
        ctx.once("check", ChecksBefore, lambda: _check(ctx, ctx.touched))
    prints = ctx.once("fingerprint", Baseline, lambda: _fingerprint(ctx)).tables
    if not ctx.engine.verifier.harms_damaged_tables:
        compare(ctx, ctx.checks_before.checks, prints)
    # Only after the fingerprints: what may not be read is known by now.
    measure(ctx, "before", 1)
    ctx.once("image", ImageEvidence, lambda: _image(ctx))
    if ctx.engine.verifier.harms_damaged_tables:
        touched = ctx.touched
        readable = [name for name, p in prints.items() if p.readable and (touched is None or name in touched)]
        ctx.once("check", ChecksBefore, lambda: _check(ctx, readable))
        compare(ctx, ctx.checks_before.checks, prints)
    if ctx.target.hold_lost:
        ctx.change(hold_lost=False)
    measure(ctx, "before", 2)
    rows = sum(p.rows or 0 for p in prints.values())
    return Outcome(
        "finished",
        msg(
            "Connections are cut; {tables} with {rows} are fingerprinted and can be brought back.",
            tables=plural.tables(len(prints)),
            rows=plural.rows(rows),
        ),
    )


def refuse_missing_rows(ctx: Context) -> None:
    """A worker died with its lock after the work had begun, and there are fewer rows than under its cut.

    Applications may have deleted them since, or the work; a new baseline would make the loss the truth, and a
    new image would take the place of the one that holds them. Raises Damaged.
    """
    baseline = ctx.baseline or {}
    now = ctx.engine.verifier.fingerprint(None)
    fewer = [
        msg(
            "{table} had {before} rows and has {after}",
            table=name,
            before=was.rows,
            after=now[name].rows if name in now else 0,
        )
        for name, was in baseline.items()
        if was.rows is not None and (name not in now or (now[name].rows or 0) < was.rows)
    ]
    if fewer:
        raise Damaged("cutting again the connections to", ctx.target.database, listed(fewer[:3]))


def close(ctx: Context) -> None:
    """Cut the connections; safe to repeat, and repeated after every crash inside the outage. Raises EngineError."""
    gate = ctx.target.gate
    assert gate is not None

    def work() -> Done[CutEvidence]:
        cut = ctx.engine.gate.cut(gate, ctx.marker)
        return Done(
            msg(
                "Cut connections: {sessions} ended, nobody came back in {polls}.",
                sessions=plural.sessions(cut.sessions_ended),
                polls=plural.polls(cut.quiet_polls),
            ),
            CutEvidence(cut, tuple(ctx.engine.gate.manual_commands(gate))),
        )

    ctx.again("cut", work, gate)


def _check(ctx: Context, tables: list[str] | None) -> Done[ChecksBefore]:
    """Structure first where that is safe: what it flags must not surprise the fingerprints.

    What fails here failed before us; only new failures are our fault later. Where the work leaves every row, most
    of it was asked before the cut; a rebuild makes every index anew, so what compares those is asked only after it.
    """
    early = checked_early(ctx)
    if early is not None:
        checks = early + ctx.engine.verifier.check_rest(tables)
    else:
        checks = ctx.engine.verifier.check(tables, ctx.run.maintenance_type != "rebuild" or not ctx.rows_stay)
    checks += functional_checks(ctx)
    failed = [c for c in checks if not c.passed]
    return Done(
        msg(
            "{checks} before the work, {failed} of them failed.", checks=plural.checks(len(checks)), failed=len(failed)
        ),
        ChecksBefore(
            checks=tuple(checks),
            catalog=ctx.engine.verifier.definitions(),
            encryption=ctx.engine.verifier.encryption(),
            tls=ctx.engine.verifier.tls(),
        ),
    )


def _fingerprint(ctx: Context) -> Done[Baseline]:
    # What the backup read need not be read again unless somebody wrote to it; a repair looks at what is there now.
    prints = ctx.engine.verifier.recount(None) if ctx.rows_stay else ctx.engine.verifier.fingerprint(None)
    unreadable = [name for name, p in prints.items() if not p.readable]
    sentence = msg(
        "Fingerprinted {tables}, {rows}.",
        tables=plural.tables(len(prints)),
        rows=plural.rows(sum(p.rows or 0 for p in prints.values())),
    )
    if unreadable:
        sentence = msg(
            "Fingerprinted {tables}, {rows}; not readable: {unreadable}.",
            tables=plural.tables(len(prints)),
            rows=plural.rows(sum(p.rows or 0 for p in prints.values())),
            unreadable=", ".join(unreadable),
        )
    return Done(sentence, Baseline(prints))


def _image(ctx: Context) -> Done[ImageEvidence]:
    backup = ctx.backup
    baseline = ctx.baseline
    if backup is None or baseline is None:
        raise Unable("catching up the backup of", ctx.target.database, "there is no verified backup to catch up")
    image = ctx.engine.backups.image(
        backup, baseline, backup.path.parent, f"{ctx.target.database}-run{ctx.run.pk}-catch-up", ctx.seal
    )
    evidence = ImageEvidence(image)
    ctx.change(image=evidence.to_json())
    if image.kind == "copy":
        sentence = msg(
            "Copied {database} to {copy} ({bytes}): a rollback would lose nothing.",
            database=ctx.target.database,
            copy=Path(image.name).name,
            bytes=size(image.bytes),
        )
    elif image.tables:
        sentence = msg(
            "Saved {tables} that changed since the backup again ({bytes}): a rollback would lose nothing.",
            tables=plural.tables(len(image.tables)),
            bytes=size(image.bytes),
        )
    else:
        sentence = msg("No table changed since the backup: a rollback would lose nothing.")
    return Done(sentence, evidence)
