"""The files of a run, only from the folders for such files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import FileResponse, Http404

from ..models import MaintenanceRun
from .callers import READING, Called, Scope, open_to
from .routers import maintenance as routes
from .shapes import WRONG, Problem

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


def kept(name: str, folder: Path, content_type: str) -> FileResponse:
    """Whatever the row says: nothing outside the folder leaves the machine."""
    path = Path(name).resolve()
    if not name or folder.resolve() not in path.parents or not path.is_file():
        raise Http404("This file was not made, or is not kept any more.")
    return FileResponse(path.open("rb"), content_type=content_type, filename=path.name, as_attachment=True)


def _found(id: int) -> MaintenanceRun:
    found = MaintenanceRun.objects.filter(pk=id).first()
    if found is None:
        raise Http404(f"There is no maintenance {id}.")
    return found
