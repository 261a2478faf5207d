"""Runs that have ended, as the procedure writes them, for pages and reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from maintenance.auditing import chain
from maintenance.engines.messages import msg
from maintenance.models import (
    ActionRecord,
    Approval,
    BackupFile,
    DatabaseState,
    MaintenanceRun,
    MaintenanceSetting,
    Measurement,
    RunTarget,
    Status,
    StepRecord,
)

BEGAN = datetime(2026, 7, 1, 3, 0, 0, tzinfo=UTC)
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
QUERY = (
    "SELECT c.name, count(*) AS orders, sum(o.total) FROM public.orders AS o JOIN public.customers AS c "
    "ON c.id = o.customer_id WHERE o.placed_at > now() - interval '30 days' "
    "GROUP BY c.name ORDER BY 3 DESC LIMIT {number}"
)


def at(seconds: float) -> datetime:
    """So many seconds after the run began."""
    return BEGAN + timedelta(seconds=seconds)


def finished_run(databases: Sequence[str] = ("shop",), tables: int = 4, **changes: Any) -> MaintenanceRun:
    """A rebuild that went well on every database; `changes` are fields of the run."""
    run = empty_run(databases, status=Status.SUCCEEDED, outage_seconds=41.5, **changes)
    for name in databases:
        finished_target(run, name, tables)
    Approval.objects.create(run=run, by_name="second-dba", at=at(-30))
    return run


def empty_run(databases: Sequence[str] = ("shop",), **changes: Any) -> MaintenanceRun:
    """A run without targets or any record."""
    values: dict[str, Any] = {
        "maintenance_type": "rebuild",
        "target_databases": list(databases),
        "severity_level": "high",
        "reason": "Checkout times out since the night import; 決済が遅い",
        "requested_by_name": "first-dba",
        "origin": "web",
        "status": Status.FAILED,
        "created_at": at(-60),
        "started_at": at(0),
        "finished_at": at(80),
    }
    return MaintenanceRun.objects.create(**{**values, **changes})


def target_of(run: MaintenanceRun, database: str, **changes: Any) -> RunTarget:
    """One database of a run; its end stands in the audit log."""
    setting, _ = MaintenanceSetting.objects.get_or_create(
        name=database, defaults={"url": f"postgresql://dba@db1/{database}", "backup_dir": "/backups"}
    )
    values: dict[str, Any] = {
        "engine": "postgresql",
        "version": "PostgreSQL 17.2",
        "status": run.status,
        "started_at": at(0),
        "finished_at": at(78),
    }
    target = RunTarget.objects.create(run=run, setting=setting, database=database, **{**values, **changes})
    chain.record("host:1:1.0", "target.ended", f"{database} in run {run.pk}", after={"status": str(target.status)})
    return target


def finished_target(run: MaintenanceRun, database: str, tables: int = 4) -> RunTarget:
    """Everything that a whole procedure leaves behind."""
    target = target_of(
        run,
        database,
        node="K",
        status=Status.SUCCEEDED,
        ended_because=msg(
            "Maintenance of {database} is complete; health {health} of 100.", database=database, health=98
        ),
        outage_started_at=at(20),
        outage_ended_at=at(61.5),
        black_box=f"/backups/{database}.blackbox",
    )
    names = [table_name(number) for number in range(tables)]
    add_state(target, names)
    add_steps(target, names)
    add_actions(target, names)
    add_measurements(target)
    add_backup(target)
    return target


def table_name(number: int) -> str:
    known = ["public.orders", "public.customers", 'sales."注文明細"', "public.stock_movements"]
    return known[number] if number < len(known) else f"public.archive_{number:04d}"


def rows_of(number: int) -> int:
    return 1_234_567 + 1_111 * number


def add_state(target: RunTarget, names: Sequence[str]) -> DatabaseState:
    """What the diagnosis found."""
    assert target.setting is not None
    findings = [
        {
            "code": "table_bloat",
            "severity": "high" if number else "critical",
            "object": name,
            "evidence": f"{52 - number % 40} % of the file is empty space",
            "hint": "Long transactions of the night import kept dead rows from being cleaned",
        }
        for number, name in enumerate(names)
    ]
    return DatabaseState.objects.create(
        setting=target.setting,
        target=target,
        source=DatabaseState.Source.DIAGNOSIS,
        state="critical",
        health=45,
        findings=findings,
        version=target.version,
        measured_at=at(1),
    )


def add_step(
    target: RunTarget, node: str, step: str, begin: float, seconds: float | None, **changes: Any
) -> StepRecord:
    """One line of the journal; finished unless told otherwise."""
    values: dict[str, Any] = {
        "state": "finished",
        "token": 1,
        "started_at": at(begin),
        "finished_at": None if seconds is None else at(begin + seconds),
    }
    return StepRecord.objects.create(target=target, node=node, step=step, **{**values, **changes})


def add_steps(target: RunTarget, names: Sequence[str]) -> None:
    """One line a step, each followed by its parts."""
    for node, step, begin, seconds, sentence in (
        ("A", "start", 0, 0.1, "The work begins."),
        ("B", "diagnose", 0.1, 1.4, f"Looked at {len(names)} tables: {len(names)} findings."),
        ("C", "decide", 1.5, 0.4, f"{len(names)} pieces of work on {len(names)} objects."),
        ("D", "back_up", 2, 17.5, "The backup is /backups/shop.dump (pg_dump, 84.2 MB), read back whole."),
        ("E", "stop_applications", 20, 2.25, "Stopped shop-web, shop-worker."),
        ("F", "cut_connections", 22.5, 6, "Connections are cut; the tables are fingerprinted and can be brought back."),
        ("G", "maintain", 28.5, 18, "The work is done: 310.4 MB became 148.9 MB."),
        ("H", "verify", 46.5, 5, "Proved whole."),
        ("I", "benchmark", 51.5, 7, "Faster: 3 of 4 queries better, 0 slower."),
        ("J", "resume", 58.5, 3, "Service is back as before after an outage of 41.5 s; started shop-worker, shop-web."),
        ("K", "complete", 61.5, 16.5, "Maintenance is complete; health 98 of 100."),
    ):
        add_step(target, node, step, begin, seconds, sentence=sentence)
        PARTS.get(node, nothing)(target, names)


def nothing(target: RunTarget, names: Sequence[str]) -> None:
    """A step without effects of its own."""


def prints_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {name: {"rows": rows_of(n), "digest": f"d{n}", "error": None} for n, name in enumerate(names)}


def checks_of(names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"name": "structure", "object": name, "passed": True, "detail": ""} for name in names]


def add_baseline(target: RunTarget, names: Sequence[str]) -> None:
    """Checks and fingerprints under the cut, as steps/cut.py writes them."""
    checks = {"checks": checks_of(names), "catalog": {}}
    said = f"{len(names)} checks before the work, 0 of them failed."
    add_step(target, "F", "cut_connections", 23, 1, part="check", sentence=said, result=checks)
    prints = {"tables": prints_of(names)}
    said = f"Fingerprinted {len(names)} tables."
    add_step(target, "F", "cut_connections", 24, 2, part="fingerprint", sentence=said, result=prints)


def add_proof(target: RunTarget, names: Sequence[str], **changes: Any) -> None:
    """The proof after the work, as steps/verify.py writes it."""
    checks = [*checks_of(names), {"name": "functional", "object": "SELECT true", "passed": True, "detail": ""}]
    proof = {
        "level": "full",
        "tables": prints_of(names),
        "checks": checks,
        "compared": len(names),
        "rows": sum(rows_of(n) for n in range(len(names))),
        "problems": [],
        "foreign": [],
    }
    said = f"Compared {len(names)} tables: all rows are there; {len(checks)} checks, none fails."
    add_step(target, "H", "verify", 47, 4, part="proof 1", sentence=said, result={**proof, **changes})


def add_load_test(target: RunTarget, names: Sequence[str]) -> None:
    load = {"clients": 4, "seconds": 5.0, "requests": 18_231, "errors": 0, "p50_ms": 1.05, "p95_ms": 3.41}
    said = "Load test: 18231 requests by 4 clients in 5.0 s, 0 errors, 95 % within 3.4 ms."
    add_step(target, "I", "benchmark", 53, 5, part="load test", sentence=said, result=load)


PARTS = {"F": add_baseline, "H": add_proof, "I": add_load_test}


def add_actions(target: RunTarget, names: Sequence[str]) -> None:
    """One rewrite a table."""
    for number, name in enumerate(names):
        add_action(target, name, bytes_before=182_400_000 - 1_100_000 * (number % 90), bytes_after=84_200_000)


def add_action(target: RunTarget, name: str, **changes: Any) -> ActionRecord:
    values: dict[str, Any] = {
        "action": "vacuum_full",
        "reason": "52 % of the file is empty space, the threshold is 30 %",
        "sentence": "Rewrote the table",
        "state": "finished",
        "started_at": at(29),
        "finished_at": at(33.2),
    }
    return ActionRecord.objects.create(target=target, object=name, **{**values, **changes})


def add_measurements(target: RunTarget) -> None:
    """Four queries: much faster, faster, as before, and one that the cost alone shows better."""
    for number, (before, after) in enumerate(((840.0, 92.5), (12.5, 6.3), (0.42, 0.41), (3.3, 3.2))):
        for phase, middle, cost in (("before", before, 18_240), ("after", after, 2_110 if number != 2 else 18_240)):
            for block in (1, 2):
                Measurement.objects.create(
                    target=target,
                    phase=phase,
                    block=block,
                    query=QUERY.format(number=number + 5),
                    times_ms=[middle * f for f in (0.98, 0.99, 1.0, 1.01, 1.02)],
                    cost=cost,
                    cost_unit="blocks",
                    rows=10,
                    measured_at=at(27 if phase == "before" else 52),
                )


def add_backup(target: RunTarget, **changes: Any) -> BackupFile:
    values: dict[str, Any] = {
        "role": "primary",
        "method": "pg_dump",
        "path": f"/backups/{target.database}-run{target.run_id}-primary-pg_dump.dump.zst.age",
        "bytes": 84_231_992,
        "sha256": SHA,
        "verified": True,
        "created_at": at(19),
    }
    return BackupFile.objects.create(target=target, **{**values, **changes})
