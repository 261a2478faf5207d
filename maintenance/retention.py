"""What is kept how long (specification 7.2), and its removal: once a day, or by `manage.py retention`.

A death in the midst is made good by the next pass. Of records the file goes first, because a row without its
file is found again and a file without its row never. A backup is marked first, because a row must not promise
a backup that is gone; what is marked and still lies there is removed by the next pass.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from .auditing import chain
from .engines.values import Json
from .identity import throttle
from .identity.sessions import SessionStore
from .models import BackupFile, DatabaseState, Incident, MaintenanceRun, Measurement, Notification, Status
from .notifications import events
from .workflow import crashpoints

log = logging.getLogger("maintenance")
AT_ONCE = 100
"""Runs that go in one transaction with the audit entry that names them."""


@dataclass
class Removed:
    """What went, or with `dry` what would go. Paths, numbers of runs, and numbers of rows."""

    dry: bool
    backups: list[str] = field(default_factory=list)
    performance: list[str] = field(default_factory=list)
    """Runs whose measurements and CSV went."""
    records: list[str] = field(default_factory=list)
    """Runs that went whole, with their report."""
    states: int = 0
    incidents: int = 0
    audit_entries: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = (
            f"{len(self.backups)} backups, measurements of {len(self.performance)} runs, {len(self.records)} runs, "
            f"{self.states} states, {self.incidents} incidents and {self.audit_entries} audit entries"
        )
        return f"Would remove {said}." if self.dry else f"Removed {said}."


def remove(by: str, dry: bool = False) -> Removed:
    """One pass over everything that is older than its setting allows."""
    found, now = Removed(dry), timezone.now()
    _backups(found, by, now)
    _performance(found, by, now - timedelta(days=settings.KEEP_PERFORMANCE_DAYS))
    old = now - timedelta(days=settings.KEEP_RECORDS_DAYS)
    _records(found, by, old)
    _looks(found, by, old)
    _audit(found, by, now - timedelta(days=settings.KEEP_AUDIT_DAYS))
    if not dry:
        throttle.forget_old()
        SessionStore.clear_expired()
        Notification.objects.filter(run=None, created_at__lt=old).delete()
    log.info("Retention: %s", found)
    for problem in found.problems:
        log.error("Retention: %s", problem)
    return found


# -- backups ---------------------------------------------------------------------------------------


def _backups(found: Removed, by: str, now: datetime) -> None:
    due = [*_marked(), *_superfluous(now - timedelta(days=settings.KEEP_BACKUP_DAYS))]
    found.backups = [file.path for file in due]
    if found.dry:
        return
    for file in due:
        if file.removed_at is None:
            with transaction.atomic():
                BackupFile.objects.filter(pk=file.pk).update(removed_at=now)
                chain.record(by, "backup.removed", file.target.database, after={"path": file.path})
            crashpoints.point("backup.marked")
        if not _unlink(Path(file.path), found):
            BackupFile.objects.filter(pk=file.pk).update(removed_at=None)
            found.backups.remove(file.path)


def _marked() -> list[BackupFile]:
    """A pass died between the mark and the file."""
    marked = BackupFile.objects.filter(removed_at__isnull=False).select_related("target").defer("snapshot")
    return [file for file in marked if _is_there(file)]


def _superfluous(old: datetime) -> list[BackupFile]:
    """Older than allowed, and beyond the newest ones of their database that read back and are still there."""
    known = BackupFile.objects.filter(verified=True, removed_at__isnull=True, target__run__finished_at__isnull=False)
    enough: dict[str, int] = {}
    kept: set[int] = set()
    due = []
    files = known.select_related("target", "target__run").defer("snapshot").order_by("-created_at", "-id")
    for file in (f for f in files if _is_there(f)):
        database, target = file.target.database, file.target_id
        if target not in kept and file.role != "catch_up" and enough.get(database, 0) < max(settings.KEEP_BACKUPS, 1):
            enough[database] = enough.get(database, 0) + 1
            kept.add(target)
        elif file.role != "catch_up":
            due.append(file)
    # What was added to a backup under the cut is worth nothing without it, and the backup little without that.
    due += [f for f in files if f.role == "catch_up" and _is_there(f)]
    return [f for f in due if f.target_id not in kept and f.created_at < old and not _waits(f.target.run)]


def _is_there(file: BackupFile) -> bool:
    """And named as this console names the backups of that run: nothing else is ever removed."""
    path = Path(file.path)
    return f"-run{file.target.run_id}-" in path.name and path.is_file()


def _waits(run: MaintenanceRun) -> bool:
    """Somebody may need everything that belongs to it."""
    return run.status == Status.NEEDS_OPERATOR and not events.released(run)


# -- records ---------------------------------------------------------------------------------------


def _performance(found: Removed, by: str, old: datetime) -> None:
    due = MaintenanceRun.objects.filter(finished_at__lt=old, performance_removed_at=None).order_by("pk")
    for runs in _some(due):
        gone = runs if found.dry else [run for run in runs if _unlink_csv(run, found)]
        found.performance += [run.number for run in gone]
        if gone and not found.dry:
            crashpoints.point("performance.files_removed")
            with transaction.atomic():
                Measurement.objects.filter(target__run__in=gone).delete()
                MaintenanceRun.objects.filter(pk__in=[run.pk for run in gone]).update(
                    performance_csv="", performance_removed_at=timezone.now()
                )
                chain.record(by, "performance.removed", _named(gone), after=_told(gone))


def _unlink_csv(run: MaintenanceRun, found: Removed) -> bool:
    return not run.performance_csv or _unlink(Path(run.performance_csv), found)


def _records(found: Removed, by: str, old: datetime) -> None:
    ended, reports = MaintenanceRun.objects.filter(finished_at__lt=old).order_by("pk"), _reports()
    for runs in _some(ended):
        backed = _with_backups(runs)
        due = [run for run in runs if run.pk not in backed and not _waits(run)]
        gone = due if found.dry else [run for run in due if _unlink_all(run, reports, found)]
        found.records += [run.number for run in gone]
        if gone and not found.dry:
            crashpoints.point("record.files_removed")
            with transaction.atomic():
                chain.record(by, "runs.removed", _named(gone), after=_told(gone))
                MaintenanceRun.objects.filter(pk__in=[run.pk for run in gone]).delete()


def _reports() -> dict[str, list[Path]]:
    """Number of the run -> its PDFs in every language. One look, because the folder may hold a hundred thousand."""
    known: dict[str, list[Path]] = {}
    for path in Path(settings.REPORTS_DIR).glob("EM-*-report*.pdf"):
        known.setdefault(path.name.partition("-report")[0], []).append(path)
    return known


def _unlink_all(run: MaintenanceRun, reports: Mapping[str, list[Path]], found: Removed) -> bool:
    """Each is tried, also after one that could not be removed."""
    return False not in [_unlink(path, found) for path in _files(run, reports)]


def _with_backups(runs: Sequence[MaintenanceRun]) -> set[int]:
    """The record says what its backups hold and how they are read: it stays as long as one of them."""
    files = BackupFile.objects.filter(target__run__in=runs, verified=True, removed_at__isnull=True)
    return {run for run, path in files.values_list("target__run", "path") if Path(path).is_file()}


def _files(run: MaintenanceRun, reports: Mapping[str, list[Path]]) -> list[Path]:
    named = [run.report_pdf, run.performance_csv, *run.targets.values_list("black_box", flat=True)]
    return list(dict.fromkeys([*reports.get(run.number, ()), *(Path(name) for name in named if name)]))


def _looks(found: Removed, by: str, old: datetime) -> None:
    """States and incidents; the newest state of a database always stays, and those of runs that stay."""
    newest = DatabaseState.objects.values("setting").annotate(newest=Max("pk")).values("newest")
    states = DatabaseState.objects.filter(measured_at__lt=old, target=None).exclude(pk__in=newest)
    incidents = Incident.objects.filter(closed_at__lt=old)
    found.states, found.incidents = states.count(), incidents.count()
    if found.dry or not (found.states or found.incidents):
        return
    with transaction.atomic():
        told: Json = {"states": found.states, "incidents": found.incidents, "until": old.isoformat()}
        chain.record(by, "states.removed", "database states and incidents", after=told)
        DatabaseState.objects.filter(pk__in=list(states.values_list("pk", flat=True))).delete()
        incidents.delete()


def _audit(found: Removed, by: str, old: datetime) -> None:
    """Only the chain's beginning, and under a signed seal."""
    if found.dry:
        found.audit_entries = chain.sealable(old)
        return
    try:
        found.audit_entries = chain.seal(old, by)
    except chain.ChainBroken as error:
        found.problems.append(str(error))


# -- bits ------------------------------------------------------------------------------------------


def _some(runs: QuerySet[MaintenanceRun]) -> Iterator[Sequence[MaintenanceRun]]:
    """In batches by key, because what is passed may be gone when the next batch is asked for."""
    last = 0
    while batch := list(runs.filter(pk__gt=last)[:AT_ONCE]):
        last = batch[-1].pk
        yield batch


def _named(runs: Sequence[MaintenanceRun]) -> str:
    return runs[0].number if len(runs) == 1 else f"{runs[0].number} to {runs[-1].number}"


def _told(runs: Iterable[MaintenanceRun]) -> Json:
    return {"runs": [run.number for run in runs]}


def _unlink(path: Path, found: Removed) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        found.problems.append(f"{path} could not be removed: {error.strerror}")
        return False
    return True
