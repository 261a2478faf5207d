"""H: the proof that nothing was lost; one repair and another look before it counts as failed (6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from maintenance.engines.errors import Damaged
from maintenance.engines.messages import Message, listed, msg
from maintenance.engines.values import Check, Fingerprint, Json
from maintenance.models import ActionRecord, Node, StepState
from maintenance.workflow.verdict import Evidence, differences, objections

from . import counted
from .context import Context, Done, Outcome, checked_early, storable
from .foreign import named, written_by_others
from .functional import functional_checks
from .maintain import work


def run(ctx: Context) -> Outcome:
    """Raises Damaged when the proof fails although a repair was tried."""
    while True:
        part = f"proof {ctx.target.repairs + 1}"
        result = ctx.once(part, lambda: prove(ctx))
        problems = result["problems"]
        assert isinstance(problems, list)
        if not problems:
            return Outcome(
                "finished",
                msg(
                    "Proved whole: {tables}, {rows}, {checks}.",
                    tables=counted.tables(result["compared"]),
                    rows=counted.rows(result["rows"]),
                    checks=counted.checks(result["checked"]),
                ),
            )
        foreign = result["foreign"]
        if foreign:
            assert isinstance(foreign, list)
            raise Damaged("proving the integrity of", ctx.target.database, named(ctx, foreign))
        if ctx.target.repairs >= ctx.setting.integrity_retries:
            raise Damaged("proving the integrity of", ctx.target.database, listed(problems[:5]))
        ctx.wait(ctx.setting.integrity_wait_seconds, "waiting before the repair of")
        ctx.once(f"repair {ctx.target.repairs + 1}", lambda: _repair(ctx))
        ctx.change(repairs=ctx.target.repairs + 1)


def _repair(ctx: Context) -> Done:
    diagnosis = ctx.engine.diagnostics.diagnose(ctx.setting.thresholds, ctx.tables)
    actions = ctx.engine.planner.plan("repair", diagnosis, ctx.setting.thresholds, ctx.tables, ctx.run.allow_data_loss)
    for stage in sorted({a.stage for a in actions}):
        work(ctx, [a for a in actions if a.stage == stage])
    return Done(msg("Repaired after the integrity error: {work}.", work=counted.pieces(len(actions))))


def prove(ctx: Context) -> Done:
    """Structure and constraints, functional checks, fingerprints, and the catalog of objects.

    What was damaged is examined before it is read. Where the work was to leave every row, those come first: while
    they are equal the constraints hold as before the cut, and only what was built anew is left to prove.
    """
    before = ctx.recorded(Node.CUT_CONNECTIONS, "check") or {"checks": [], "catalog": {}}
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
    checks += kept("encryption", before.get("encryption"), ctx.engine.verifier.encryption())
    checks += kept("TLS", before.get("tls"), ctx.engine.verifier.tls())
    problems = objections(
        Evidence(
            before=expected,
            after=after,
            checks_before=ctx.checks_before,
            checks=checks,
            definitions_before=ctx.definitions_before,
            definitions=ctx.engine.verifier.definitions(),
            lost_by_consent=losses,
            rows_stay=ctx.rows_stay,
        )
    )
    foreign, ours = written_by_others(ctx, expected, after)
    failed = [c for c in checks if not c.passed]
    left_out = sorted(name for name, was in expected.items() if name in losses or not was.readable)
    compared = [name for name in expected if name not in left_out]
    result: Json = {
        "level": "full" if names is None else "named tables",
        "tables": {name: storable({name: p})[name] for name, p in after.items()},
        "checks": [asdict(check) for check in checks],
        "checked": len(checks),
        "compared": len(compared),
        "rows": sum(after[name].rows or 0 for name in compared if name in after),
        "foreign": foreign if not ours and len(problems) == len(foreign) else [],
        "problems": problems,
    }
    if problems:
        return Done(msg("The proof found {problems}", problems=listed(problems[:5])), result)
    return Done(_all_there(compared, left_out, len(checks), len(failed)), result)


def _all_there(compared: list[str], left_out: list[str], checks: int, failed: int) -> Message:
    """What was proven, and of which tables nothing can be: they were unreadable at the cut, or lost rows by consent."""
    if left_out:
        return msg(
            "Compared {tables}: all rows are there; {checks}, {failed}. "
            "Not compared, because rows could not be read: {left_out}.",
            tables=counted.tables(len(compared)),
            checks=counted.checks(checks),
            failed=counted.failing_as_before(failed),
            left_out=", ".join(left_out),
        )
    if failed:
        return msg(
            "Compared {tables}: all rows are there; {checks}, {failed}.",
            tables=counted.tables(len(compared)),
            checks=counted.checks(checks),
            failed=counted.failing_as_before(failed),
        )
    return msg(
        "Compared {tables}: all rows are there; {checks}, none fails.",
        tables=counted.tables(len(compared)),
        checks=counted.checks(checks),
    )


def _read(ctx: Context, names: list[str] | None) -> dict[str, Fingerprint]:
    """Every row of what was worked on; of the rest only what somebody wrote to since it was read."""
    touched, wanted = ctx.touched, names if names is not None else list(ctx.baseline or {})
    if touched == ctx.tables:
        return ctx.engine.verifier.fingerprint(names)
    worked = [name for name in wanted if name in (touched or [])]
    rest = ctx.engine.verifier.recount([name for name in wanted if name not in worked])
    return {**rest, **ctx.engine.verifier.fingerprint(worked)}


def accepted_losses(ctx: Context) -> set[str]:
    """Tables of which rows could not be saved, with the operator's permission by name."""
    if not ctx.run.allow_data_loss:
        return set()
    records = ActionRecord.objects.filter(target=ctx.target, state=StepState.FINISHED)
    return {loss["object"] for record in records for loss in record.losses}


def kept(what: str, before: object, now: Mapping[str, list[str]]) -> list[Check]:
    """Whether all that guarded the data before guards it still. More than before is welcome."""
    assert before is None or isinstance(before, Mapping)
    found = []
    for name, marks in (before or {}).items():
        lost = [mark for mark in marks if mark not in now.get(name, [])]
        found.append(
            Check(what, name, not lost, msg("lost: {marks}", marks=", ".join(lost)) if lost else ", ".join(marks))
        )
    return found
