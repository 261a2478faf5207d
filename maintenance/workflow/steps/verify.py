"""H: the proof that nothing was lost; one repair and another look before it counts as failed (6.2)."""

from __future__ import annotations

from collections.abc import Mapping

from maintenance.engines.errors import Damaged
from maintenance.engines.messages import Message, listed, msg
from maintenance.engines.values import Check, Fingerprint
from maintenance.models import ActionRecord, StepState
from maintenance.models.evidence import Proof, StepEvidence
from maintenance.workflow.verdict import Evidence, differences, objections

from . import plural
from .context import Context, Done, Outcome, checked_early, done
from .foreign import named, written_by_others
from .functional import functional_checks
from .maintain import work


def run(ctx: Context) -> Outcome:
    """Prove that nothing was lost (H). Raises Damaged when the proof fails although a repair was tried."""
    while True:
        part = f"proof {ctx.target.repairs + 1}"
        proof = ctx.once(part, Proof, lambda: prove(ctx))
        if not proof.problems:
            return Outcome(
                "finished",
                msg(
                    "Proved whole: {tables}, {rows}, {checks}.",
                    tables=plural.tables(proof.compared),
                    rows=plural.rows(proof.rows),
                    checks=plural.checks(len(proof.checks)),
                ),
            )
        if proof.foreign:
            raise Damaged("proving the integrity of", ctx.target.database, named(ctx, proof.foreign))
        if ctx.target.repairs >= ctx.setting.integrity_retries:
            raise Damaged("proving the integrity of", ctx.target.database, listed(proof.problems[:5]))
        ctx.wait(ctx.setting.integrity_wait_seconds, "waiting before the repair of")
        ctx.once(f"repair {ctx.target.repairs + 1}", StepEvidence, lambda: _repair(ctx))
        ctx.change(repairs=ctx.target.repairs + 1)


def _repair(ctx: Context) -> Done[StepEvidence]:
    diagnosis = ctx.engine.diagnostics.diagnose(ctx.setting.thresholds, ctx.tables)
    actions = ctx.engine.planner.plan("repair", diagnosis, ctx.setting.thresholds, ctx.tables, ctx.run.allow_data_loss)
    for stage in sorted({a.stage for a in actions}):
        work(ctx, [a for a in actions if a.stage == stage])
    return done(msg("Repaired after the integrity error: {work}.", work=plural.pieces(len(actions))))


def prove(ctx: Context) -> Done[Proof]:
    """Return the proof: structure and constraints, functional checks, fingerprints, and the catalog of objects.

    What was damaged is examined before it is read. Where the work was to leave every row, those come first: while
    they are equal the constraints hold as before the cut, and only what was built anew is left to prove.
    """
    before = ctx.checks_before
    baseline = ctx.baseline or {}
    names = None if ctx.tables is None else [t for t in ctx.tables if t in baseline]
    checks = [] if ctx.rows_stay else ctx.engine.verifier.check(ctx.touched)
    after = _read(ctx, names)
    expected = baseline if names is None else {t: baseline[t] for t in names}
    losses = accepted_losses(ctx)
    changed = differences(expected, after, losses)
    if ctx.rows_stay and not changed:
        checks = ctx.engine.verifier.check_again(ctx.touched) + [c for c in checked_early(ctx) or [] if c.of_rows]
    elif ctx.rows_stay:
        checks = ctx.engine.verifier.check(ctx.touched)
    checks += functional_checks(ctx)
    checks += still_guarded("encryption", before.encryption, ctx.engine.verifier.encryption())
    checks += still_guarded("TLS", before.tls, ctx.engine.verifier.tls())
    problems = objections(
        Evidence(
            before=expected,
            after=after,
            checks_before=before.checks,
            checks=checks,
            definitions_before=before.catalog,
            definitions=ctx.engine.verifier.definitions(),
            lost_by_consent=losses,
            rows_stay=ctx.rows_stay,
        )
    )
    foreign, ours = written_by_others(ctx, expected, after)
    failed = [c for c in checks if not c.passed]
    left_out = sorted(name for name, was in expected.items() if name in losses or not was.readable)
    compared = [name for name in expected if name not in left_out]
    proof = Proof(
        level="full" if names is None else "named tables",
        tables=after,
        checks=tuple(checks),
        compared=len(compared),
        rows=sum(after[name].rows or 0 for name in compared if name in after),
        problems=tuple(problems),
        foreign=tuple(foreign) if not ours and len(problems) == len(foreign) else (),
    )
    if problems:
        return Done(msg("The proof found {problems}", problems=listed(problems[:5])), proof)
    return Done(_all_there(compared, left_out, len(checks), len(failed)), proof)


def _all_there(compared: list[str], left_out: list[str], checks: int, failed: int) -> Message:
    """What was proven, and of which tables nothing can be: they were unreadable at the cut, or lost rows by consent."""
    if left_out:
        return msg(
            "Compared {tables}: all rows are there; {checks}, {failed}. "
            "Not compared, because rows could not be read: {left_out}.",
            tables=plural.tables(len(compared)),
            checks=plural.checks(checks),
            failed=plural.failing_as_before(failed),
            left_out=", ".join(left_out),
        )
    if failed:
        return msg(
            "Compared {tables}: all rows are there; {checks}, {failed}.",
            tables=plural.tables(len(compared)),
            checks=plural.checks(checks),
            failed=plural.failing_as_before(failed),
        )
    return msg(
        "Compared {tables}: all rows are there; {checks}, none fails.",
        tables=plural.tables(len(compared)),
        checks=plural.checks(checks),
    )


def _read(ctx: Context, names: list[str] | None) -> dict[str, Fingerprint]:
    """Every row of what was worked on; of the rest only what somebody wrote to since it was read."""
    touched, tables = ctx.touched, names if names is not None else list(ctx.baseline or {})
    if touched == ctx.tables:
        return ctx.engine.verifier.fingerprint(names)
    worked = [name for name in tables if name in (touched or [])]
    rest = ctx.engine.verifier.recount([name for name in tables if name not in worked])
    return {**rest, **ctx.engine.verifier.fingerprint(worked)}


def accepted_losses(ctx: Context) -> set[str]:
    """Return tables of which rows could not be saved, or may not have been by a worker that died, with permission."""
    if not ctx.run.allow_data_loss:
        return set()
    records = ActionRecord.objects.filter(target=ctx.target, state__in=(StepState.FINISHED, StepState.INTERRUPTED))
    return {loss["object"] for record in records for loss in record.losses}


def still_guarded(what: str, before: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> list[Check]:
    """Whether all that guarded the data before guards it still. More than before is welcome."""
    checks = []
    for name, marks in before.items():
        lost = [mark for mark in marks if mark not in now.get(name, [])]
        checks.append(
            Check(what, name, not lost, msg("lost: {marks}", marks=", ".join(lost)) if lost else ", ".join(marks))
        )
    return checks
