"""K: the state after, nothing of ours left on the target, and the watch window."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from maintenance.engines.errors import EngineError, Interrupted
from maintenance.engines.messages import msg
from maintenance.models import DatabaseState
from maintenance.models.evidence import CleanUp

from .context import Context, Done, Outcome


def run(ctx: Context) -> Outcome:
    """Look at the state after (K). Service is back already: what fails here is said, and changes no outcome."""
    clean_up(ctx)
    if ctx.run.rehearsal:
        sentence = msg(
            "The rehearsal for {database} is complete; nothing of it was touched.", database=ctx.target.database
        )
        return Outcome("finished", sentence)
    try:
        diagnosis = ctx.engine.diagnostics.diagnose(ctx.setting.thresholds, ctx.tables)
        ctx.journal.diagnosed(DatabaseState.Source.AFTER, diagnosis)
        sentence = msg(
            "Maintenance of {database} is complete; health {health} of 100.",
            database=ctx.target.database,
            health=diagnosis.health,
        )
    except EngineError as error:
        sentence = msg(
            "Maintenance of {database} is complete; its state afterwards could not be read: {error}",
            database=ctx.target.database,
            error=error.sentence,
        )
    watch = timezone.now() + timedelta(minutes=ctx.setting.watch_minutes)
    return Outcome("finished", sentence, {"watch_until": watch})


def clean_up(ctx: Context, keep: list[str] | None = None) -> None:
    """Remove what is ours from the target; what stays is listed with the reason."""

    def work() -> Done[CleanUp]:
        try:
            removed = ctx.engine.rollback.clean(keep or [])
            left = [x for x in ctx.engine.rollback.leftovers() if x not in (keep or [])]
        except Interrupted:
            raise
        except EngineError as error:
            return Done(msg("Could not remove what is ours: {error}", error=error.sentence), CleanUp())
        if left:
            return Done(msg("Left on the target: {left}", left=", ".join(left)), CleanUp(tuple(removed), tuple(left)))
        if keep:
            return Done(msg("Kept for people to look at: {kept}", kept=", ".join(keep)), CleanUp(kept=tuple(keep)))
        return Done(msg("Nothing of ours is left on the target."), CleanUp(tuple(removed)))

    ctx.once("clean", CleanUp, work)
