"""What stands in the report of a run: words and tables made from `outcome`, ready for the template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from maintenance.models import Approval, AuditEntry, MaintenanceRun, MaintenanceType, RunTarget, SeverityLevel, Status
from maintenance.results.outcome import outcome
from maintenance.text import labels
from maintenance.text.render import render

from . import charts, tables
from .sheets import Sheet

AS_TABLES = 150
"""Rows in the whole run up to which every list is a table; beyond it long lists become lines."""
FEW_DATABASES = 3
SHORT = 3
"""A list of so many rows is a table in any case."""
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One number of the cover."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Part:
    """One database of the run."""

    told: Json
    server: str
    status: str
    because: str
    times: str
    outage: str
    findings: Sheet
    grouped: Sequence[tables.Trouble]
    """In their place, where they are many."""
    timeline: SafeString
    journal: Sheet
    actions: Sheet
    space: SafeString
    rollback: str
    proof: Sheet | None
    proof_words: Sequence[str]
    losses: Sheet
    queries: Sheet
    query_chart: SafeString
    overall: str
    load: str
    backups: Sequence[Json]
    troubles: Sequence[tables.Trouble]


def contents(run: MaintenanceRun) -> dict[str, Any]:
    """The context of the template. The same run gives the same context."""
    told = outcome(run)
    approval = Approval.objects.filter(run=run).first()
    dense = _rows(told) > AS_TABLES
    pairs = list(zip(run.targets.prefetch_related("steps"), told["targets"], strict=True))
    parts = [_part(target, found, dense, alone=len(pairs) == 1) for target, found in pairs]
    return {
        "told": told,
        "status": Status(run.status).label,
        "sentence": sentence(run, told),
        "type": MaintenanceType(told["maintenance_type"]).label,
        "severity": SeverityLevel(told["severity_level"]).label,
        "because": _because(parts),
        "created": labels.moment(run.created_at),
        "started": labels.moment(run.started_at),
        "finished": labels.moment(run.finished_at),
        "zone": labels.zone(run.created_at),
        "took": labels.duration(_seconds(run)),
        "figures": figures(run, told),
        "approval": approval,
        "approved": labels.moment(approval.at) if approval else "",
        "cancelled": labels.moment(run.cancel_requested_at) if run.cancel_requested_at else "",
        "run": run,
        "causes": tables.causes(told["targets"]),
        "timeline": charts.steps(*pairs[0]) if len(pairs) == 1 else charts.databases(pairs),
        "overview": tables.overview([(p.told, p.status, p.outage) for p in parts]),
        "parts": parts,
        "audit": last_audit_entry(run),
    }


def _because(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """Of many databases only those that did not succeed; the rest stands on their own pages."""
    told = [p for p in parts if len(parts) <= FEW_DATABASES or p.told["status"] != Status.SUCCEEDED]
    return [(part.told["database"], part.because) for part in told if part.because]


def _rows(told: Json) -> int:
    lists = ("findings", "actions", "benchmark", "steps")
    return sum(
        sum(len(t[name]) for name in lists) + len((t["integrity"] or {"tables": ()})["tables"]) for t in told["targets"]
    )


def _seconds(run: MaintenanceRun) -> float | None:
    return (run.finished_at - run.started_at).total_seconds() if run.started_at and run.finished_at else None


def sentence(run: MaintenanceRun, told: Json) -> str:
    """The outcome in one sentence, for somebody who reads nothing else."""
    values = {
        "type": MaintenanceType(run.maintenance_type).label,
        "databases": _names([t["database"] for t in told["targets"]] or run.target_databases),
        "outage": _outage(run),
    }
    endings = Counter(str(Status(t["status"]).label) for t in told["targets"])
    if len(endings) > 1:
        counted = ", ".join(f"{count} {label}" for label, count in endings.items())
        return _("The {type} of {databases} ended differently: {counted}; {outage}.").format(**values, counted=counted)
    if run.status == Status.SUCCEEDED and any(t["data_loss"] for t in told["targets"]):
        return _("The {type} of {databases} succeeded, but not all rows could be saved; {outage}.").format(**values)
    if run.status == Status.NEEDS_OPERATOR and not _waits_for_people(run):
        return _("The {type} of {databases} was stopped; a person opened it again; {outage}.").format(**values)
    return _ending(str(run.status)).format(**values)


def _ending(status: str) -> str:
    return {
        Status.SUCCEEDED.value: _("The {type} of {databases} succeeded; {outage}."),
        Status.ROLLED_BACK.value: _("The {type} of {databases} was rolled back, its data is as before; {outage}."),
        Status.FAILED.value: _("The {type} of {databases} failed; {outage}."),
        Status.CANCELLED.value: _("The {type} of {databases} was cancelled; {outage}."),
        Status.TIMED_OUT.value: _("The {type} of {databases} ran out of time and was ended; {outage}."),
        Status.NEEDS_OPERATOR.value: _("The {type} of {databases} was stopped and needs an operator; {outage}."),
    }.get(status, _("The {type} of {databases} has not ended; {outage}."))


def _waits_for_people(run: MaintenanceRun) -> bool:
    return any(t.status == Status.NEEDS_OPERATOR and t.released_at is None for t in run.targets.all())


def _names(databases: Sequence[str]) -> str:
    if len(databases) <= FEW_DATABASES:
        return ", ".join(databases) or _("no database")
    return ngettext("{count} database", "{count} databases", len(databases)).format(count=len(databases))


def _outage_lasts(run: MaintenanceRun) -> bool:
    return any(t.outage_lasts for t in run.targets.all())


def _outage(run: MaintenanceRun) -> str:
    if _outage_lasts(run):
        return _("service was not brought back")
    if not run.outage_seconds:
        return _("service was not interrupted")
    return _("service was out for {time}").format(time=labels.duration(run.outage_seconds))


def figures(run: MaintenanceRun, told: Json) -> list[Figure]:
    """What a manager asks first: how long out, is all there, is it faster, what came free.

    Work on a database that did not succeed is no gain, and what a rollback brought back is no loss.
    """
    kept = [t for t in told["targets"] if t["status"] != Status.ROLLED_BACK]
    good = [t for t in kept if t["status"] == Status.SUCCEEDED]
    compared = [row for t in good for row in (t["integrity"] or {"tables": ()})["tables"]]
    measured = [t for t in good if t["benchmark_change"]]
    return [
        _expected(told) if run.rehearsal else _out(run),
        _proved(compared),
        Figure(_("Queries"), charts.changes(measured), _("with their interval")),
        Figure(_("Space reclaimed"), charts.freed(good), _("by the work on objects")),
        _lost([loss for t in kept for loss in t["data_loss"]], bool(compared)),
    ]


def _out(run: MaintenanceRun) -> Figure:
    out = _("not ended") if _outage_lasts(run) else labels.duration(run.outage_seconds or 0.0)
    return Figure(_("Outage"), out, _("overlaps counted once"))


def _expected(told: Json) -> Figure:
    """Of a rehearsal: the longest outage that a database is expected to have, with its interval."""
    known = [t["rehearsal"] for t in told["targets"] if t["rehearsal"]["expected_outage_seconds"] is not None]
    if not known:
        return Figure(_("Expected outage"), "—", _("the rehearsal did not come to its end"))
    longest = max(known, key=lambda rehearsal: rehearsal["expected_outage_seconds"])
    low, high = (labels.duration(longest[f"expected_outage_{end}"]) for end in ("low", "high"))
    value = labels.duration(longest["expected_outage_seconds"])
    return Figure(_("Expected outage"), value, _("{low} to {high}").format(low=low, high=high))


def _proved(compared: Sequence[Json]) -> Figure:
    if not compared:
        return Figure(_("Tables proved equal"), "—", _("no database succeeded"))
    equal = sum(row["fingerprint_equal"] is True for row in compared)
    value = _("{equal} of {count}").format(equal=labels.count(equal), count=labels.count(len(compared)))
    return Figure(_("Tables proved equal"), value, labels.rows(sum(row["rows_after"] or 0 for row in compared)))


def _lost(losses: Sequence[Json], compared: bool) -> Figure:
    """No loss is told only where the data was compared; a number with unknown parts is a lower bound."""
    if not losses:
        return Figure(_("Rows not saved"), "0" if compared else "—", _("no loss recorded"))
    number = labels.count(sum(loss["rows"] or 0 for loss in losses))
    known = all(loss["rows"] is not None for loss in losses)
    return Figure(_("Rows not saved"), number if known else f"≥ {number}", _("see the losses"))


def last_audit_entry(run: MaintenanceRun) -> AuditEntry | None:
    """The newest link of the chain that surely stood when the run ended; later ones would change the report."""
    ends = [f"{t.database} in run {run.pk}" for t in run.targets.all()]
    entries = AuditEntry.objects.order_by("-id")
    last = entries.filter(operation="target.ended", object__in=ends).first()
    return last or entries.filter(object=run.number).exclude(operation="run.ended").first()


def _part(target: RunTarget, found: Json, dense: bool, alone: bool) -> Part:
    def fit(sheet: Sheet) -> Sheet:
        return Sheet(sheet.columns, sheet.rows, sheet.marks, dense and len(sheet.rows) > SHORT)

    proof = found["integrity"]
    most = charts.FEW if dense else charts.MOST
    return Part(
        told=found,
        server=labels.server(found["engine"], found["version"]),
        status=str(Status(target.status).label),
        because=render(found["ended_because"]),
        times=f"{labels.moment(target.started_at)} – {labels.clock(target.finished_at)}",
        outage=charts.outage_words(target, found),
        findings=fit(tables.findings(found)),
        grouped=tables.grouped(found) if dense and len(found["findings"]) > SHORT else (),
        timeline=SafeString("") if dense or alone else charts.steps(target, found),
        journal=fit(tables.journal(found)),
        actions=fit(tables.actions(found, dense)),
        space=SafeString("") if dense else charts.space(found),
        rollback=tables.rollback(found),
        proof=fit(tables.proof(proof)) if proof else None,
        proof_words=tables.checks(proof) if proof else (),
        losses=fit(tables.losses(found)),
        queries=fit(tables.queries(found)),
        query_chart=charts.queries(found, most),
        overall=charts.overall(found),
        load=charts.load_words(target),
        backups=tables.backups(found),
        troubles=tables.troubles(found),
    )
