"""A rehearsal: the steps of a maintenance on a copy of the database, with nothing of production touched.

Diagnosis and decision are the database's own: they only look. Before the backup a copy is made while everybody works,
and from then on every step has an engine whose database is the copy: backup, cut, work, proof, benchmark, and a
rollback where it comes to one. No application is stopped, and no black box is opened, because nothing is closed that
people would have to open. At the end, whatever it is, the copy and its backups are removed.
"""

from __future__ import annotations

import glob
from pathlib import Path

from maintenance.conf import places
from maintenance.engines import open_engine
from maintenance.engines.messages import msg, size
from maintenance.models import Node, RunTarget, StepState
from maintenance.models.evidence import StageEvidence

from .steps.context import Context, Done

COPY = "copy for the rehearsal"


def make_copy(ctx: Context) -> None:
    """Make the copy, once, and let the steps that follow work on it. Raises EngineError."""
    if ctx.on_copy:
        return
    ctx.once(COPY, StageEvidence, lambda: _build(ctx))
    go_on_copy(ctx)


def _build(ctx: Context) -> Done[StageEvidence]:
    folder = Path(ctx.setting.backup_dir)
    places.make_backup_folder(folder, ctx.config.backup_roots)
    stage = ctx.production.rehearsal.build(folder, _stem(ctx), ctx.seal)
    values = {"database": ctx.target.database, "bytes": size(stage.bytes), "seconds": stage.seconds}
    if stage.by_file:
        sentence = msg(
            "Copied {database} by file in {seconds:.1f} s ({bytes}): the rehearsal is on the copy.", **values
        )
    else:
        sentence = msg(
            "Restored a copy of {database} in {seconds:.1f} s ({bytes}): the rehearsal is on it. Bloat and damage of "
            "the original are not in it.",
            **values,
        )
    return Done(sentence, StageEvidence(stage))


def _stem(ctx: Context) -> str:
    return f"{ctx.target.database}-run{ctx.run.pk}-rehearsal"


def go_on_copy(ctx: Context) -> None:
    """Let the steps work on the copy if there is one: at its making, and when a successor takes the run up."""
    if not any(ctx.finished(node, COPY) for node in (Node.BACK_UP, Node.ALTERNATE_BACKUP)):
        return
    production = ctx.production
    copy = open_engine(production.rehearsal.address(), production.tag, production.limits)
    if ctx.target.gate is not None:
        copy.gate.recall(ctx.target.gate)
    copy.lock.assert_lease = production.lock.assert_lease
    ctx.engine = copy
    if ctx.reason is not None:
        copy.interrupt()  # The order came while the engine was changed.


def copy_of(target: RunTarget) -> str | None:
    """Return the name of the copy that was made for this target; None where none came about."""
    line = target.steps.filter(part=COPY, state=StepState.FINISHED).last()
    return None if line is None else line.evidence(StageEvidence).stage.name


def remove_copy(ctx: Context) -> None:
    """Remove copy and backups of a rehearsal that ends. Safe to repeat. Raises EngineError."""
    ctx.production.clear_interrupt()
    if ctx.on_copy:
        ctx.engine.close()
        ctx.engine = ctx.production
    ctx.production.rehearsal.remove()
    for dump in Path(ctx.setting.backup_dir).glob(f"{glob.escape(_stem(ctx))}*"):
        dump.unlink(missing_ok=True)
    for file in ctx.target.backup_files.filter(removed_at=None).exclude(path=""):
        path = Path(file.path)
        if path.is_file():
            path.unlink()
        ctx.journal.backup_removed(file.pk)
