"""The maintenance report: one PDF a run, also of runs that failed.

Archivable and tagged (PDF/A-2a), and the same bytes for the same run: dates and identifier come from the run.
"""

from __future__ import annotations

import hashlib
import io
import os
from datetime import UTC
from importlib.resources import files
from pathlib import Path

from django.conf import settings
from django.template.loader import get_template, render_to_string
from django.utils.translation import get_language
from weasyprint import CSS, HTML
from weasyprint.css import ColorProfile
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import URLFetcher, URLFetcherResponse

from maintenance.models import MaintenanceRun

from .contents import contents

VARIANT = "pdf/a-2a"
COLOURS = "report-srgb"


class Nothing(URLFetcher):  # type: ignore[misc]
    """Refuses every address: the report is made of its own text, whatever a reason or an error may hold."""

    def fetch(self, url: str, headers: dict[str, str] | None = None) -> URLFetcherResponse:
        raise ValueError(f"the report loads nothing, and so not {url}")


def write(run: MaintenanceRun, folder: Path) -> Path:
    """Makes the report of `run` in `folder` and returns its path; replaces an earlier one whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.number}-report.pdf"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(render(run))
    os.replace(draft, path)
    return path


def render(run: MaintenanceRun) -> bytes:
    """The report in the active language."""
    fonts = FontConfiguration()
    html = HTML(string=page(run), base_url=str(settings.BASE_DIR), url_fetcher=Nothing())
    style = CSS(string=get_template("reports/report.css").render(), font_config=fonts, url_fetcher=Nothing())
    made = html.write_pdf(
        stylesheets=[style],
        font_config=fonts,
        color_profiles={COLOURS: colours()},
        output_intent=COLOURS,
        pdf_variant=VARIANT,
        pdf_identifier=identifier(run).encode(),
    )
    assert isinstance(made, bytes)
    return made


def colours() -> ColorProfile:
    """The sRGB profile that WeasyPrint brings; read here, because WeasyPrint itself leaves the file open."""
    icc = (files("weasyprint.pdf") / "sRGB2014.icc").read_bytes()
    return ColorProfile(io.BytesIO(icc), "sRGB2014.icc", "relative-colorimetric", (["r"], ["g"], ["b"]))


def page(run: MaintenanceRun) -> str:
    """The report as one HTML page without addresses."""
    ended = run.finished_at or run.created_at
    dates = {"made": f"{ended.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", "language": get_language() or "en"}
    return render_to_string("reports/maintenance.html", {**contents(run), **dates})


def identifier(run: MaintenanceRun) -> str:
    """Stable for a run, different for every other run of every installation."""
    named = f"{settings.SITE_URL} {run.number} {run.created_at.isoformat()}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]
