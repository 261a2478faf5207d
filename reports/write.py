"""The files of a run that has ended: PDF and CSV."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import cache
from pathlib import Path

from django.conf import settings
from django.db import transaction

from maintenance.auditing import chain
from maintenance.models import MaintenanceRun, RunTarget

from . import performance

log = logging.getLogger("maintenance")


def at_the_end(run: MaintenanceRun, **_: object) -> None:
    """Receiver of `run_ending`."""
    make_reports(run)


def after_release(target: RunTarget, who: str, **_: object) -> None:
    """Receiver of `target_released`: the files say that the database is closed. A failing report changes nothing."""
    run = MaintenanceRun.objects.get(pk=target.run_id)
    if run.finished_at is None:
        return
    try:
        make_again(run, who)
    except Exception:
        log.exception("The report of %s could not be made anew after the release", run.number)


def load_renderer(**_: object) -> None:
    """Receiver of `outage_near`: the renderer takes seconds to load, now and not in the outage or after it."""
    with suppress(Exception):
        # Without WeasyPrint's system libraries there is no PDF; whoever makes the reports says so.
        _print_first_page()


@cache
def _print_first_page() -> None:
    """Look up the fonts and the C declarations of the libraries, as the first page of a process does."""
    from . import paper

    paper.printed("<p>-</p>", "-")


def make_reports(run: MaintenanceRun) -> None:
    """PDF and CSV, each by itself. A failing report never changes the outcome; `manage.py report` makes it again."""
    try:
        run.performance_csv = str(performance.write(run, Path(settings.PERFORMANCE_DIR), settings.CSV_BOM))
    except Exception:
        log.exception("The performance data of %s could not be written", run.number)
    try:
        run.report_pdf = str(_pdf(run))
    except Exception:
        log.exception("The report of %s could not be made", run.number)


def _pdf(run: MaintenanceRun, language: str | None = None) -> Path:
    # Here, because WeasyPrint needs system libraries: without them there is no PDF, but a maintenance.
    from . import pdf

    return pdf.write(run, Path(settings.REPORTS_DIR), language)


def make_again(run: MaintenanceRun, actor: str, language: str | None = None, bom: bool | None = None) -> Path:
    """The files of a run that has ended, e.g. after a full disk; in another language only the PDF, beside the first.

    Returns the path of the PDF. Raises OSError, and whatever WeasyPrint does without its libraries.
    """
    if language not in (None, settings.REPORT_LANGUAGE):
        return _pdf(run, language)
    path = _pdf(run)
    sheet = performance.write(run, Path(settings.PERFORMANCE_DIR), settings.CSV_BOM if bom is None else bom)
    with transaction.atomic():
        MaintenanceRun.objects.filter(pk=run.pk).update(report_pdf=str(path), performance_csv=str(sheet))
        chain.record(actor, "report.made", run.number, after={"report_pdf": str(path), "performance_csv": str(sheet)})
    run.report_pdf, run.performance_csv = str(path), str(sheet)
    return path
