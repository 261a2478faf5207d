"""The files of a run, only from the folders for such files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import FileResponse, Http404

from maintenance.downloads import kept
from maintenance.models import MaintenanceRun

from .callers import READING, Called, Scope, open_to
from .routers import maintenance as routes
from .shapes.problems import WRONG, Problem

PDF, CSV = "application/pdf", "text/csv"


def binary(media_type: str) -> dict[str, Any]:
    """ninja describes JSON only."""
    return {"responses": {200: {"description": "OK", "content": {media_type: {}}}}}


@routes.get(
    "/{int:id}/report.pdf",
    auth=open_to(Scope.READ, *READING),
    response={404: Problem, **WRONG},
    openapi_extra=binary(PDF),
)
def report(request: Called, id: int) -> FileResponse:
    """The report a manager can sign."""
    return kept(_found(id).report_pdf, Path(settings.REPORTS_DIR), PDF)


@routes.get(
    "/{int:id}/performance.csv",
    auth=open_to(Scope.READ, *READING),
    response={404: Problem, **WRONG},
    openapi_extra=binary(CSV),
)
def performance(request: Called, id: int) -> FileResponse:
    """Each query before and after."""
    return kept(_found(id).performance_csv, Path(settings.PERFORMANCE_DIR), f"{CSV}; charset=utf-8")


def _found(id: int) -> MaintenanceRun:
    found = MaintenanceRun.objects.filter(pk=id).first()
    if found is None:
        raise Http404(f"There is no maintenance {id}.")
    return found
