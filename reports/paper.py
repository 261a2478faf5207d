"""From a page of HTML to an archivable, tagged PDF (PDF/A-2a): the same bytes for the same page."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

from django.conf import settings
from django.template.loader import get_template
from weasyprint import CSS, HTML
from weasyprint.css import ColorProfile
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import URLFetcher, URLFetcherResponse

VARIANT = "pdf/a-2a"
COLOURS = "report-srgb"


class Nothing(URLFetcher):  # type: ignore[misc]
    """Refuses every address: a report is made of its own text, whatever a reason or an error may hold."""

    def fetch(self, url: str, headers: dict[str, str] | None = None) -> URLFetcherResponse:
        raise ValueError(f"the report loads nothing, and so not {url}")


def printed(page: str, identifier: str) -> bytes:
    """The page as PDF. `identifier` is what tells this document from every other."""
    fonts = FontConfiguration()
    html = HTML(string=page, base_url=str(settings.BASE_DIR), url_fetcher=Nothing())
    style = CSS(string=get_template("reports/report.css").render(), font_config=fonts, url_fetcher=Nothing())
    with collector_resting():
        made = html.write_pdf(
            stylesheets=[style],
            font_config=fonts,
            color_profiles={COLOURS: colours()},
            output_intent=COLOURS,
            pdf_variant=VARIANT,
            pdf_identifier=identifier.encode(),
        )
    assert isinstance(made, bytes)
    return made


@contextmanager
def collector_resting() -> Iterator[None]:
    """A layout is millions of small objects that all live to its end: looking for garbage costs a sixth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def colours() -> ColorProfile:
    """The sRGB profile that WeasyPrint brings; read here, because WeasyPrint itself leaves the file open."""
    icc = (files("weasyprint.pdf") / "sRGB2014.icc").read_bytes()
    return ColorProfile(io.BytesIO(icc), "sRGB2014.icc", "relative-colorimetric", (["r"], ["g"], ["b"]))
