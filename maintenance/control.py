"""The control database, seen as a target would be: so that nobody maintains it with itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL


def control_url(settings: Mapping[str, Any]) -> URL:
    """From Django's settings of a database connection."""
    if settings["ENGINE"].endswith("sqlite3"):
        return URL.create("sqlite", database=str(settings["NAME"]))
    return URL.create(
        "postgresql",
        username=settings.get("USER") or None,
        password=settings.get("PASSWORD") or None,
        host=settings.get("HOST") or None,
        port=int(settings["PORT"]) if settings.get("PORT") else None,
        database=str(settings["NAME"]),
    )
