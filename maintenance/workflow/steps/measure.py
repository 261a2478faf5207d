"""The same queries under the same quiet conditions, before and after, in blocks apart in time.

All measuring of a database lies within its outage, so it has a budget: `BUDGET_SECONDS`, or `BUDGET_SHARE` of the work.
"""

from __future__ import annotations

from maintenance.engines.messages import msg
from maintenance.models import ActionRecord, Measurement, StepState
from maintenance.models.evidence import StepEvidence

from . import plural
from .context import Context, Done, done
from .measuring_turn import in_turn

BUDGET_SECONDS, BUDGET_SHARE = 10.0, 0.05
"""Of all measuring within one outage: the larger of so long and that share of the work's own time."""
BLOCK_SHARE = 0.17
"""Of the budget, for each of two blocks before and two after the work; a block may last 1.15 of its time."""
LOAD_SHARE = 0.2


def queries(ctx: Context) -> list[str]:
    """Return what was measured first; before that those of TBL-098, else the engine's choice of what is worked on."""
    measured = Measurement.objects.filter(target=ctx.target, phase="before").order_by("id")
    known = list(dict.fromkeys(measured.values_list("query", flat=True)))
    return known or list(ctx.setting.benchmark_queries) or ctx.engine.benchmark.queries(ctx.measured)


def budget_seconds(ctx: Context) -> float:
    """Return the budget by the time that the work has taken; before it, the least."""
    worked = ActionRecord.objects.filter(target=ctx.target, state=StepState.FINISHED).values_list(
        "started_at", "finished_at"
    )
    seconds = sum((end - begin).total_seconds() for begin, end in worked if end)
    return max(BUDGET_SECONDS, BUDGET_SHARE * seconds)


def load_seconds(ctx: Context) -> float:
    """Return how long the load test may last: as TBL-098 says, but no longer than its share of the budget."""
    return min(ctx.setting.load_seconds, LOAD_SHARE * budget_seconds(ctx))


def measure(ctx: Context, phase: str, block: int) -> None:
    """Measure one block, and keep all samples at once: a commit after each would lengthen the outage."""

    def work() -> Done[StepEvidence]:
        listed = queries(ctx)
        with in_turn(ctx):
            samples = ctx.engine.benchmark.measure_all(
                listed, ctx.setting.benchmark_repeats, BLOCK_SHARE * BUDGET_SECONDS
            )
        ctx.journal.measured(phase, ctx.target.round, samples, block)
        if phase == "before":
            return done(msg("Measured {queries} before the work.", queries=plural.queries(len(listed))))
        return done(msg("Measured {queries} after the work.", queries=plural.queries(len(listed))))

    ctx.once(f"measure {phase} {block}", StepEvidence, work)
