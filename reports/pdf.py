"""The maintenance report: one PDF a run, also of runs that failed.

The same bytes for the same run: dates and identifier come from the run.
"""

from __future__ import annotations

import hashlib
from datetime import UTC
from pathlib import Path

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import get_language

from maintenance.models import MaintenanceRun

from . import files, paper
from .contents import contents


def write(run: MaintenanceRun, folder: Path, language: str | None = None) -> Path:
    """Makes the report of `run` in `folder` and returns its path; replaces an earlier one whole.

    Without `language` it is the installation's, and the report of the run; another one goes beside it.
    """
    name = f"{run.number}-report.{language}.pdf" if language else f"{run.number}-report.pdf"
    with translation.override(language or settings.REPORT_LANGUAGE):
        return files.put(render(run), folder / name)


def render(run: MaintenanceRun) -> bytes:
    """The report in the active language."""
    return paper.printed(page(run), identifier(run))


def page(run: MaintenanceRun) -> str:
    """The report as one HTML page without addresses."""
    ended = run.finished_at or run.created_at
    dates = {"made": f"{ended.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", "language": get_language() or "en"}
    return render_to_string("reports/maintenance.html", {**contents(run), **dates})


def identifier(run: MaintenanceRun) -> str:
    """Stable for a run, different for every other run of every installation."""
    named = f"{settings.SITE_URL} {run.number} {run.created_at.isoformat()}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]
