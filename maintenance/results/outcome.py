"""A run as one plain value: what the API, `maintain --json`, the page and the PDF all tell."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from maintenance.engines.values import Fingerprint
from maintenance.models import ActionRecord, MaintenanceRun, Node, RunTarget, StepRecord, StepState, longest_outage
from maintenance.models.evidence import Baseline, E, Proof

from .comparison import compare_target
from .noise import Interval
from .rehearsal import rehearsal


def outcome(run: MaintenanceRun) -> dict[str, Any]:
    """Return all of a run as JSON types. Times are UTC in ISO 8601, durations seconds, sizes bytes."""
    targets = run.targets.prefetch_related("steps", "actions", "backup_files", "measurements", "states")
    document = {**summary(run), "targets": [_target(t) for t in targets]}
    if run.finished_at is not None and any(t.outage_lasts for t in targets):
        document["outage_seconds"] = round(longest_outage(targets), 3)
    return document


def summary(run: MaintenanceRun) -> dict[str, Any]:
    """Return the run without its targets; asks the database nothing."""
    return {
        "id": str(run.pk),
        "number": run.number,
        "status": str(run.status),
        "ended_because": run.ended_because,
        "maintenance_type": run.maintenance_type,
        "target_databases": run.target_databases,
        "target_tables": run.target_tables,
        "severity_level": run.severity_level,
        "rehearsal": run.rehearsal,
        "rehearsed_in": None if run.rehearsed_in_id is None else str(run.rehearsed_in_id),
        "reason": run.reason,
        "allow_data_loss": run.allow_data_loss,
        "requested_by": run.requested_by_name,
        "created_at": _time(run.created_at),
        "started_at": _time(run.started_at),
        "finished_at": _time(run.finished_at),
        "outage_seconds": run.outage_seconds,
        "report_pdf": run.report_pdf or None,
        "performance_csv": run.performance_csv or None,
    }


def _target(target: RunTarget) -> dict[str, Any]:
    actions = list(target.actions.all())
    comparison = compare_target(target)
    return {
        "database": target.database,
        "engine": target.engine,
        "version": target.version,
        "status": str(target.status),
        "ended_because": target.ended_because,
        "started_at": _time(target.started_at),
        "finished_at": _time(target.finished_at),
        "outage_seconds": round(target.outage_seconds, 3),
        "outage_lasts": target.outage_lasts,
        "steps": [_step(s) for s in target.steps.all()],
        "findings": _findings(target),
        "actions": [_action(a) for a in actions],
        "backup_files": [
            {
                "path": b.path,
                "method": b.method,
                "bytes": b.bytes,
                "sha256": b.sha256,
                "verified": b.verified,
                "role": b.role,
                "error": b.error or None,
                "removed_at": _time(b.removed_at),
            }
            for b in target.backup_files.all()
        ],
        "integrity": integrity(target),
        "data_loss": [loss for a in actions if a.state != StepState.STARTED for loss in a.losses],
        "benchmark": [
            {
                "query": q.query,
                "before_ms": q.before_ms,
                "after_ms": q.after_ms,
                "spread": q.spread,
                "cost_before": q.cost_before,
                "cost_after": q.cost_after,
                "cost_unit": q.cost_unit,
                "ratio": q.ratio,
                **_interval("ratio", q.interval),
                "verdict": q.verdict,
                "change": q.change,
                "work": q.work,
                "told": q.told,
            }
            for q in comparison.queries
        ],
        "benchmark_ratio": comparison.ratio,
        **_interval("benchmark_ratio", comparison.interval),
        "benchmark_verdict": comparison.verdict if comparison.queries else None,
        "benchmark_change": comparison.change if comparison.queries else None,
        "benchmark_told": comparison.told if comparison.queries else None,
        "rehearsal": rehearsal(target.run, target),
        "black_box": target.black_box,
    }


def _interval(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Both ends of the 95 % confidence interval; None where too little was measured."""
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _step(line: StepRecord) -> dict[str, Any]:
    return {
        "step": line.step,
        "part": line.part or None,
        "node": line.node,
        "state": line.state,
        "sentence": line.sentence,
        "seconds": line.seconds,
        "attempt": line.attempt,
        "round": line.round,
        "started_at": _time(line.started_at),
    }


def _action(action: ActionRecord) -> dict[str, Any]:
    return {
        "object": action.object,
        "action": action.action,
        "reason": action.reason,
        "state": action.state,
        "sentence": action.sentence,
        "seconds": action.seconds,
        "bytes_before": action.bytes_before,
        "bytes_after": action.bytes_after,
        "round": action.round,
    }


def _findings(target: RunTarget) -> list[dict[str, Any]]:
    """Of the diagnosis before the work."""
    states = [s for s in target.states.all() if s.source == "diagnosis"]
    findings = states[-1].findings if states else []
    return [{k: f[k] for k in ("code", "severity", "object", "evidence", "hint")} for f in findings]


def integrity(target: RunTarget) -> dict[str, Any] | None:
    """Return the last proof: each table's rows before and after, and whether the fingerprints are equal.

    None before there was one. `fingerprint_equal` is None where a table was new, or could not be read.
    """
    baseline = _last(target, Node.CUT_CONNECTIONS, "fingerprint", Baseline)
    proof = _last(target, Node.VERIFY, "proof", Proof)
    if baseline is None or proof is None:
        return None
    before = baseline.tables
    return {
        "level": proof.level,
        "tables": [
            {
                "table": name,
                "rows_before": before[name].rows if name in before else None,
                "rows_after": after.rows,
                "fingerprint_equal": _equal(before.get(name), after),
                "error": after.error,
            }
            for name, after in proof.tables.items()
        ],
        "checks": [asdict(check) for check in proof.checks],
        "problems": list(proof.problems),
    }


def _equal(before: Fingerprint | None, after: Fingerprint) -> bool | None:
    return before == after if before is not None and before.readable and after.readable else None


def _last(target: RunTarget, node: Node, part: str, kind: type[E]) -> E | None:
    lines = [s for s in target.steps.all() if s.node == node and s.state == "finished" and s.part.startswith(part)]
    return lines[-1].evidence(kind) if lines else None


def _time(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None
