"""I: did it get better? Same queries, same conditions; then a short load test."""

from __future__ import annotations

from dataclasses import asdict

from maintenance.engines.errors import EngineError, Interrupted
from maintenance.engines.messages import msg
from maintenance.models.evidence import LoadEvidence
from maintenance.results.comparison import compare_target
from maintenance.results.sizes import of_target

from . import plural, switch
from .context import Context, Done, Outcome
from .decide import refuse_without_room
from .measure import load_seconds, measure, queries

SHRUNK = 0.95
"""A target that takes this share of its former space or less has gained, whatever the times say."""


def run(ctx: Context) -> Outcome:
    """Measure and compare. A failing measurement never takes a proven database back: it is said, no more."""
    switch.arm(ctx)  # The data is proven whole again.
    try:
        measure(ctx, "after", 1)
        ctx.once("load test", LoadEvidence, lambda: _load_test(ctx))
        measure(ctx, "after", 2)
    except Interrupted:
        raise
    except EngineError as error:
        return Outcome("finished", msg("The performance could not be measured: {error}", error=error.sentence))
    comparison = compare_target(ctx.target)
    if comparison.improved:
        return Outcome("finished", msg("Faster: {summary}.", summary=comparison.summary))
    if shrank(ctx):
        return Outcome("finished", msg("Smaller, but not measurably faster: {summary}.", summary=comparison.summary))
    if ctx.run.maintenance_type == "repair" or ctx.target.round > ctx.setting.additional_rounds:
        return Outcome("finished", msg("Not measurably faster: {summary}.", summary=comparison.summary))
    if not further_work(ctx):
        return Outcome(
            "finished",
            msg("Not measurably faster, and nothing further would help: {summary}.", summary=comparison.summary),
        )
    return Outcome("not improved", msg("Not measurably faster: {summary}.", summary=comparison.summary))


def _load_test(ctx: Context) -> Done[LoadEvidence]:
    load = ctx.engine.benchmark.load_test(queries(ctx), load_seconds(ctx), ctx.setting.load_clients)
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
    sizes = of_target(ctx.target)
    return sizes is not None and sizes[0] > 0 and sizes[1] <= sizes[0] * SHRUNK


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
