"""The files of a run, as pages and API give them out."""

from __future__ import annotations

from pathlib import Path

from django.http import FileResponse, Http404
from django.utils.translation import gettext as _


def kept(name: str, folder: Path, content_type: str) -> FileResponse:
    """Whatever the row says: nothing outside the folder leaves the machine. Raises Http404."""
    path = Path(name).resolve()
    if not name or folder.resolve() not in path.parents or not path.is_file():
        raise Http404(_("This file was not made, or is not kept any more."))
    return FileResponse(path.open("rb"), content_type=content_type, filename=path.name, as_attachment=True)
