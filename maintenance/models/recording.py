"""TBL-097: what a diagnosis found, as a row."""

from __future__ import annotations

from dataclasses import asdict

from maintenance.engines.values import Diagnosis

from . import DatabaseState, MaintenanceSetting, RunTarget


def write_state(
    setting: MaintenanceSetting, source: DatabaseState.Source, diagnosis: Diagnosis, target: RunTarget | None = None
) -> DatabaseState:
    """One row of TBL-097 from a diagnosis."""
    worst = {finding.severity for finding in diagnosis.findings}
    state = (
        "critical"
        if "critical" in worst
        else "degraded"
        if "high" in worst
        else "watch"
        if "medium" in worst
        else "well"
    )
    return DatabaseState.objects.create(
        setting=setting,
        target=target,
        source=source,
        state=state,
        health=diagnosis.health,
        findings=[asdict(f) for f in diagnosis.findings],
        tables=[
            {
                "name": t.name,
                "bytes": t.bytes,
                "rows": t.rows,
                "bloat_share": t.bloat_share,
                "dead_share": t.dead_share,
                "stale_share": t.stale_share,
                "damaged": t.damaged,
            }
            for t in diagnosis.tables
        ],
        size_bytes=diagnosis.size_bytes,
        free_bytes=diagnosis.free_bytes,
        connections=diagnosis.connections,
        max_connections=diagnosis.max_connections,
        version=diagnosis.version[:200],
    )
