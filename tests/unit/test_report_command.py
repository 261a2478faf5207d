"""`manage.py report`: the files of a run made again."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pypdf import PdfReader

from maintenance.models import AuditEntry, MaintenanceRun, Status
from reports import paper, write
from tests import records

pytestmark = [pytest.mark.django_db, pytest.mark.long]


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, settings: Any) -> None:
    settings.REPORTS_DIR, settings.PERFORMANCE_DIR = tmp_path / "reports", tmp_path / "performance"


def made(*words: str) -> str:
    out = io.StringIO()
    call_command("report", *words, stdout=out)
    return out.getvalue().strip()


def refused(*words: str) -> tuple[int, str]:
    said = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("report", *words, stderr=said)
    return int(ended.value.code or 0), said.getvalue()


def test_a_report_is_made_again_by_number_or_id() -> None:
    run = records.finished_run()
    path = Path(made(run.number))
    first = path.read_bytes()
    assert made(str(run.pk)) == str(path)
    assert path.read_bytes() == first
    run.refresh_from_db()
    assert run.report_pdf == str(path)
    assert Path(run.performance_csv).read_bytes().startswith(b"\xef\xbb\xbfrun,")
    assert AuditEntry.objects.filter(operation="report.made", object=run.number).count() == 2


def test_another_language_stands_beside_the_report_of_the_run() -> None:
    run = records.finished_run()
    told = json.loads(made(run.number, "--language", "ja", "--json"))
    assert told["pdf"].endswith(f"{run.number}-report.ja.pdf")
    assert PdfReader(told["pdf"]).trailer["/Root"]["/Lang"] == "ja"  # type: ignore[index]
    run.refresh_from_db()
    assert run.report_pdf == ""


def test_the_language_of_the_installation(settings: Any) -> None:
    settings.REPORT_LANGUAGE = "ja"
    run = records.finished_run()
    write.make_reports(run)
    assert PdfReader(run.report_pdf).trailer["/Root"]["/Lang"] == "ja"  # type: ignore[index]


def test_the_csv_without_a_byte_order_mark() -> None:
    run = records.finished_run()
    made(run.number, "--no-bom")
    run.refresh_from_db()
    assert Path(run.performance_csv).read_bytes().startswith(b"run,")


@pytest.mark.parametrize("named", ["77", "EM-2019-0001", "none", "-1", "９"])
def test_a_run_that_is_not_there(named: str) -> None:
    records.finished_run()
    code, said = refused(*(["--", named] if named.startswith("-") else [named]))
    assert (code, said.strip()) == (2, f"There is no run {named}.")


def test_a_run_that_goes_on_has_no_report_yet() -> None:
    run = records.empty_run(status=Status.RUNNING, finished_at=None)
    assert refused(run.number) == (2, f"{run.number} has not ended; its report is made at the end.\n")


def test_a_report_that_cannot_be_made_leaves_the_run_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> bytes:
        raise OSError("cannot load library libpango")

    monkeypatch.setattr(paper, "printed", broken)
    run = records.finished_run()
    code, said = refused(run.number)
    assert (code, "libpango" in said) == (1, True)
    write.make_reports(run)
    assert (run.report_pdf, Path(run.performance_csv).exists()) == ("", True)
    assert MaintenanceRun.objects.get().status == Status.SUCCEEDED
