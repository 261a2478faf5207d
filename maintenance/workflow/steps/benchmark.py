"""I: did it get better? Same queries, same conditions; then a short load test."""

from __future__ import annotations

from dataclasses import asdict

from maintenance.engines.errors import EngineError, Interrupted
from maintenance.engines.messages import msg
from maintenance.models import ActionRecord, StepState
from maintenance.models.evidence import LoadEvidence
from maintenance.results.comparison import compare_target

from . import plural, switch
from .context import Context, Done, Outcome
from .decide import refuse_without_room
from .measure import measure, queries

SHRUNK = 0.95
"""A target that takes this share of its former space or less has gained, whatever the times say."""


def run(ctx: Context) -> Outcome:
    """Measure and compare. A failing measurement never takes a proven database back: it is said, no more."""
    switch.arm(ctx)  # The data is proven whole again.
    try:
        measure(ctx, "after")
        ctx.once("load test", LoadEvidence, lambda: _load_test(ctx))
    except Interrupted:
        raise
    except EngineError as error:
        return Outcome("finished", msg("The performance could not be measured: {error}", error=error.sentence))
    comparison = compare_target(ctx.target)
    if comparison.improved:
        return Outcome("finished", msg("Improved: {summary}.", summary=comparison.summary))
    if shrank(ctx):
        return Outcome("finished", msg("Smaller, but not faster beyond noise: {summary}.", summary=comparison.summary))
    if ctx.run.maintenance_type == "repair" or ctx.target.round > ctx.setting.additional_rounds:
        return Outcome("finished", msg("Not faster beyond noise: {summary}.", summary=comparison.summary))
    if not further_work(ctx):
        return Outcome(
            "finished",
            msg("Not faster beyond noise, and nothing further would help: {summary}.", summary=comparison.summary),
        )
    return Outcome("not improved", msg("Not improved beyond noise: {summary}.", summary=comparison.summary))


def _load_test(ctx: Context) -> Done[LoadEvidence]:
    load = ctx.engine.benchmark.load_test(queries(ctx, "after"), ctx.setting.load_seconds, ctx.setting.load_clients)
    return Done(
        msg(
            "Load test: {requests} by {clients} in {seconds:.1f} s, {errors}, 95 % within {p95} ms.",
            requests=plural.requests(load.requests),
            clients=plural.clients(load.clients),
            seconds=load.seconds,
            errors=plural.errors(load.errors),
            p95="?" if load.p95_ms is None else f"{load.p95_ms:.1f}",
        ),
        LoadEvidence(load),
    )


def shrank(ctx: Context) -> bool:
    """Return whether the objects that were worked on take at most `SHRUNK` of their former bytes."""
    records = ActionRecord.objects.filter(
        target=ctx.target, state=StepState.FINISHED, bytes_before__isnull=False, bytes_after__isnull=False
    )
    before = sum(r.bytes_before or 0 for r in records)
    return before > 0 and sum(r.bytes_after or 0 for r in records) <= before * SHRUNK


def further_work(ctx: Context) -> list[dict[str, object]]:
    """Return what a second look would still do, as a stored plan; empty when nothing crosses a threshold."""
    diagnosis = ctx.engine.diagnostics.survey(ctx.setting.thresholds, ctx.tables)
    actions = ctx.engine.planner.plan(
        "optimize", diagnosis, ctx.setting.thresholds, ctx.tables, ctx.run.allow_data_loss
    )
    refuse_without_room(actions, diagnosis, ctx.setting.limits.jobs, ctx.target.database)
    return [asdict(a) for a in actions]


def one_more_round(ctx: Context) -> Outcome:
    """Plan additional maintenance (T, specification 6.1) from a fresh look; then back to G."""
    plan = further_work(ctx)
    return Outcome(
        "finished",
        msg("One more round with {work}.", work=plural.pieces(len(plan))),
        {"plan": plan, "round": ctx.target.round + 1},
    )
