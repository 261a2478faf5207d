"""The same queries under the same quiet conditions, before and after."""

from __future__ import annotations

from maintenance.engines.messages import msg
from maintenance.models import Measurement
from maintenance.models.evidence import StepEvidence

from . import plural
from .context import Context, Done, done


def queries(ctx: Context, phase: str) -> list[str]:
    """Return those of TBL-098, else the engine's choice; after the work the ones that were measured before."""
    if phase == "after":
        measured = Measurement.objects.filter(target=ctx.target, phase="before").order_by("id")
        return list(dict.fromkeys(measured.values_list("query", flat=True)))
    return list(ctx.setting.benchmark_queries) or ctx.engine.benchmark.queries(ctx.touched)


def measure(ctx: Context, phase: str) -> None:
    """Measure, and keep all samples at once: a commit after each would lengthen the outage."""

    def work() -> Done[StepEvidence]:
        listed = queries(ctx, phase)
        samples = ctx.engine.benchmark.measure_all(listed, ctx.setting.benchmark_repeats)
        ctx.journal.measured(phase, ctx.target.round, samples)
        if phase == "before":
            return done(msg("Measured {queries} before the work.", queries=plural.queries(len(listed))))
        return done(msg("Measured {queries} after the work.", queries=plural.queries(len(listed))))

    ctx.once(f"measure {phase}", StepEvidence, work)
