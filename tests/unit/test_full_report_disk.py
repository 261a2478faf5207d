"""A place for reports that is full or cannot be written changes nothing about the run; the report is made later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from maintenance.auditing import chain
from maintenance.models import MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from tests.engines.working import small_disk

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def no_folder(folder: Path) -> Iterator[Path]:
    """Nobody can write there, not even root."""
    place = folder / "a file"
    place.touch()
    yield place / "reports"


@pytest.mark.parametrize("broken", [small_disk, no_folder], ids=["full", "unwritable"])
@pytest.mark.long
def test_the_report_is_made_again_when_there_is_room(
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    settings: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    broken: Callable[[Path], Any],
) -> None:
    fake("shop")
    with broken(tmp_path) as place:
        settings.REPORTS_DIR = place
        run = launch.launch(someone, request_for("shop"), enqueue=False)
        runner.advance(run.targets.get().pk)
        run.refresh_from_db()
        assert (run.status, run.report_pdf) == ("succeeded", "")
        assert f"The report of {run.number} could not be made" in caplog.text
        assert Path(run.performance_csv).is_file()
        assert not place.exists() or list(place.iterdir()) == [], "half a report is none"
        with pytest.raises(SystemExit) as again:
            call_command("report", run.number)
        assert again.value.code == 1
    settings.REPORTS_DIR = tmp_path / "room"
    call_command("report", run.number)
    made = MaintenanceRun.objects.get()
    assert made.status == "succeeded"
    assert Path(made.report_pdf).read_bytes().startswith(b"%PDF")
    assert chain.verify().whole


@pytest.mark.long
def test_without_room_for_the_csv_there_is_a_pdf(
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    settings: Any,
    tmp_path: Path,
) -> None:
    fake("shop")
    with no_folder(tmp_path) as place:
        settings.PERFORMANCE_DIR = place
        run = launch.launch(someone, request_for("shop"), enqueue=False)
        runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert (run.status, run.performance_csv) == ("succeeded", "")
    assert Path(run.report_pdf).is_file()
