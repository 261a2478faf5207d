"""What is kept how long: nothing too early, nothing that is still needed, and all of it after a death in the midst."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from maintenance import retention
from maintenance.auditing import chain
from maintenance.checks import settings as checks
from maintenance.models import AuditEntry, BackupFile, DatabaseState, MaintenanceRun, Measurement, RunTarget, Status
from maintenance.workflow import crashpoints
from tests import records

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, settings: Any) -> None:
    settings.REPORTS_DIR, settings.PERFORMANCE_DIR = tmp_path / "reports", tmp_path / "performance"
    settings.KEEP_RECORDS_DAYS, settings.KEEP_PERFORMANCE_DAYS, settings.KEEP_AUDIT_DAYS = 365, 183, 1826
    settings.KEEP_BACKUP_DAYS, settings.KEEP_BACKUPS = 30, 2
    settings.REPORTS_DIR.mkdir(), settings.PERFORMANCE_DIR.mkdir()


def ago(days: float) -> Any:
    return timezone.now() - timedelta(days=days)


def ended(tmp_path: Path, days: float, database: str = "shop", **changes: Any) -> RunTarget:
    """A run that ended so many days ago, with a backup and all its files."""
    run = records.empty_run((database,), **{"status": Status.SUCCEEDED, "finished_at": ago(days), **changes})
    MaintenanceRun.objects.filter(pk=run.pk).update(
        report_pdf=written(tmp_path / "reports" / f"{run.number}-report.pdf"),
        performance_csv=written(tmp_path / "performance" / f"{run.number}-performance.csv"),
    )
    box = written(tmp_path / f"black-box-{database}-{run.pk}.jsonl")
    target = records.target_of(run, database, status=run.status, black_box=box)
    records.add_measurements(target)
    path = written(tmp_path / f"{database}-run{run.pk}-primary-pg_dump.dump.zst")
    records.add_backup(target, path=path, created_at=ago(days))
    return target


def written(path: Path) -> str:
    path.write_text("x")
    return str(path)


def backups(target: RunTarget) -> list[bool]:
    """Marked as removed, and gone from the disk; both or neither."""
    file = target.backup_files.get()
    assert (file.removed_at is None) == Path(file.path).exists()
    return [file.removed_at is None]


def there(*targets: RunTarget) -> list[bool]:
    return [kept for target in targets for kept in backups(target)]


def test_backups_are_kept_by_age_and_by_number(tmp_path: Path) -> None:
    targets = [ended(tmp_path, days) for days in (90, 80, 70, 60, 29)]
    found = retention.remove("test")
    assert there(*targets) == [False, False, False, True, True]
    assert len(found.backups) == 3
    assert AuditEntry.objects.filter(operation="backup.removed", object="shop").count() == 3
    assert retention.remove("test").backups == []


def test_many_young_backups_are_all_kept(tmp_path: Path) -> None:
    targets = [ended(tmp_path, days) for days in (5, 4, 3, 2, 1)]
    retention.remove("test")
    assert all(there(*targets))


def test_the_last_verified_backup_of_each_database_stays_however_old(tmp_path: Path, settings: Any) -> None:
    settings.KEEP_BACKUPS = 0
    shop, crm = ended(tmp_path, 4000), ended(tmp_path, 3000, "crm")
    newer = ended(tmp_path, 100)
    newer.backup_files.update(verified=False, error="could not be read back")
    retention.remove("test")
    assert there(shop, crm) == [True, True]
    assert MaintenanceRun.objects.filter(pk__in=[shop.run_id, crm.run_id]).count() == 2


def test_a_backup_that_somebody_took_away_does_not_count_as_the_last_one(tmp_path: Path, settings: Any) -> None:
    settings.KEEP_BACKUPS = 1
    older, newer = ended(tmp_path, 300), ended(tmp_path, 200)
    Path(newer.backup_files.get().path).unlink()
    retention.remove("test")
    assert there(older) == [True]


def test_what_was_added_under_the_cut_goes_and_stays_with_its_backup(tmp_path: Path, settings: Any) -> None:
    settings.KEEP_BACKUPS = 1
    old, new = ended(tmp_path, 90), ended(tmp_path, 80)
    for target in (old, new):
        path = written(tmp_path / f"shop-run{target.run_id}-catch-up.dump.zst")
        records.add_backup(target, role="catch_up", path=path, created_at=ago(80))
    retention.remove("test")
    kept = BackupFile.objects.filter(removed_at=None)
    assert {f.target_id for f in kept} == {new.pk}
    assert [Path(f.path).exists() for f in BackupFile.objects.order_by("pk")] == [False, True, False, True]


@pytest.mark.parametrize(
    "changes", [{"finished_at": None, "status": Status.RUNNING}, {"status": Status.NEEDS_OPERATOR}]
)
def test_what_somebody_may_still_need_stays(tmp_path: Path, changes: dict[str, Any]) -> None:
    needed = ended(tmp_path, 500, **changes)
    for days in (20, 10, 5):
        ended(tmp_path, days)
    retention.remove("test")
    assert there(needed) == [True]
    assert MaintenanceRun.objects.filter(pk=needed.run_id).exists()
    RunTarget.objects.filter(pk=needed.pk).update(released_at=timezone.now())
    retention.remove("test")
    assert MaintenanceRun.objects.filter(pk=needed.run_id).exists() == (changes["status"] == Status.RUNNING)


def test_only_files_that_are_named_as_ours_are_ever_removed(tmp_path: Path) -> None:
    target = ended(tmp_path, 90)
    (tmp_path / "folder-run1-x").mkdir()
    foreign = [written(tmp_path / "passwd"), str(tmp_path / "folder-run1-x")]
    for path in foreign:
        records.add_backup(target, path=path, created_at=ago(90))
    for days in (20, 10):
        ended(tmp_path, days)
    found = retention.remove("test")
    assert len(found.backups) == 1
    assert all(Path(path).exists() for path in foreign)


def test_measurements_go_after_half_a_year_and_the_record_after_a_year(tmp_path: Path) -> None:
    year, half, young = ended(tmp_path, 366), ended(tmp_path, 184), ended(tmp_path, 182)
    for days in (3, 2):
        ended(tmp_path, days)
    found = retention.remove("test")
    assert found.records == [year.run.number]
    assert found.performance == [year.run.number, half.run.number]
    assert not MaintenanceRun.objects.filter(pk=year.run_id).exists()
    assert {m.target_id for m in Measurement.objects.all()}.isdisjoint({half.pk, year.pk})
    assert young.measurements.exists()
    names = {p.name for folder in ("reports", "performance") for p in (tmp_path / folder).iterdir()}
    assert f"{half.run.number}-report.pdf" in names
    assert not [n for n in names if n.startswith(year.run.number)]
    assert not Path(year.black_box).exists()
    half.run.refresh_from_db()
    assert (half.run.performance_csv, half.run.performance_removed_at is not None) == ("", True)
    assert AuditEntry.objects.get(operation="runs.removed").after == {"runs": [year.run.number]}


def test_a_good_report_is_not_replaced_by_one_without_its_measurements(tmp_path: Path) -> None:
    half = ended(tmp_path, 184)
    retention.remove("test")
    said = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("report", str(half.run_id), stderr=said)
    assert "were removed on" in said.getvalue()
    half.run.refresh_from_db()
    assert Path(half.run.report_pdf).read_text() == "x"


def test_states_go_but_never_the_newest(tmp_path: Path) -> None:
    setting = ended(tmp_path, 10).setting
    assert setting is not None
    for days in (800, 500, 10):
        DatabaseState.objects.create(setting=setting, source="monitoring", state="well", measured_at=ago(days))
    other = ended(tmp_path, 10, "crm").setting
    assert other is not None
    DatabaseState.objects.create(setting=other, source="monitoring", state="well", measured_at=ago(900))
    assert retention.remove("test").states == 2
    assert DatabaseState.objects.count() == 2


def test_the_audit_chain_loses_only_its_beginning_and_still_verifies(tmp_path: Path, settings: Any) -> None:
    settings.KEEP_AUDIT_DAYS = 0
    settings.AUDIT_FILE = tmp_path / "checkpoints.jsonl"
    for number in range(5):
        chain.record("dba", "setting.changed", str(number))
    assert retention.remove("test", dry=True).audit_entries == 4
    assert retention.remove("test").audit_entries == 4
    verdict = chain.verify()
    assert (verdict.whole, verdict.sealed) == (True, 4), verdict.problem


def test_a_broken_chain_is_left_as_it_is_and_told(tmp_path: Path, settings: Any) -> None:
    settings.KEEP_AUDIT_DAYS = 0
    settings.AUDIT_FILE = tmp_path / "checkpoints.jsonl"
    for number in range(3):
        chain.record("dba", "setting.changed", str(number))
    AuditEntry.objects.filter(object="1").update(actor="nobody")
    found = retention.remove("test")
    assert found.audit_entries == 0
    assert "is broken" in found.problems[0]
    assert AuditEntry.objects.count() == 3


def test_a_dry_run_changes_nothing_and_says_the_same(tmp_path: Path) -> None:
    for days in (400, 200, 100, 90, 1):
        ended(tmp_path, days)
    before = (sorted(tmp_path.rglob("*")), AuditEntry.objects.count(), Measurement.objects.count())
    out = io.StringIO()
    with pytest.raises(SystemExit) as ending:
        call_command("retention", "--dry-run", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert ending.value.code == 0
    assert before == (sorted(tmp_path.rglob("*")), AuditEntry.objects.count(), Measurement.objects.count())
    done = retention.remove("test")
    assert (told["backups"], told["performance"]) == (done.backups, done.performance)


class Died(BaseException):
    """As if the process were killed."""


@pytest.mark.parametrize("point", ["backup.marked", "performance.files_removed", "record.files_removed"])
def test_a_death_in_the_midst_is_made_good(tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [ended(tmp_path, days) for days in (400, 390, 90, 20, 10)]

    def die(name: str) -> None:
        if name == point:
            raise Died

    with monkeypatch.context() as patched:
        patched.setattr(crashpoints, "point", die)
        with pytest.raises(Died):
            retention.remove("test")
    retention.remove("test")
    left = MaintenanceRun.objects.values_list("pk", flat=True)
    assert sorted(left) == [t.run_id for t in targets[2:]]
    assert there(*targets[2:]) == [False, True, True]
    assert {p.name for p in tmp_path.glob("*-run*")} == {Path(t.backup_files.get().path).name for t in targets[3:]}
    assert len(list((tmp_path / "reports").iterdir())) == 3
    assert retention.remove("test").backups == []


def test_a_file_that_cannot_be_removed_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = ended(tmp_path, 90)
    for days in (20, 10):
        ended(tmp_path, days)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        found = retention.remove("test")
    assert (found.backups, len(found.problems)) == ([], 1)
    assert there(target) == [True]
    retention.remove("test")
    assert there(target) == [False]


def test_nought_days_are_refused_at_the_start(settings: Any) -> None:
    assert checks.retention_settings(None) == []
    settings.KEEP_RECORDS_DAYS = 0
    [refused] = checks.retention_settings(None)
    assert refused.msg == "KEEP_RECORDS_DAYS is 0; it must be 1 or more."
