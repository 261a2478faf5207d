"""B: what is wrong with the database? Read-only."""

from __future__ import annotations

from maintenance.engines.messages import msg
from maintenance.models import DatabaseState

from . import plural
from .context import Context, Outcome


def run(ctx: Context) -> Outcome:
    """Diagnose (B) and write TBL-097. An EngineError means manual diagnosis (L, Q)."""
    diagnosis = ctx.engine.diagnostics.diagnose(ctx.setting.thresholds, ctx.tables)
    ctx.journal.diagnosed(DatabaseState.Source.DIAGNOSIS, diagnosis)
    ctx.diagnosis = diagnosis
    if not diagnosis.findings:
        sentence = msg(
            "Looked at {tables} of {version}: nothing is wrong.",
            tables=plural.tables(len(diagnosis.tables)),
            version=diagnosis.version,
        )
    else:
        worst = min(diagnosis.findings, key=lambda f: ["critical", "high", "medium", "low"].index(f.severity))
        sentence = msg(
            "Looked at {tables} of {version}: {findings}, health {health} of 100; worst: {worst} {object}",
            tables=plural.tables(len(diagnosis.tables)),
            version=diagnosis.version,
            findings=plural.findings(len(diagnosis.findings)),
            health=diagnosis.health,
            worst=worst.evidence,
            object=f"({worst.object})" if worst.object else "",
        )
    return Outcome("finished", sentence)


def ask_for_people(ctx: Context) -> Outcome:
    """Ask for manual diagnosis (Q): nothing was changed."""
    return Outcome(
        "finished",
        msg(
            "Manual diagnosis of {database} is needed: it was not changed, and applications were not touched.",
            database=ctx.target.database,
        ),
    )
