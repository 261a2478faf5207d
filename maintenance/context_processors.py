"""What stands on every page: an outage that lasts, and a database that waits for a person."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from maintenance.models.querysets import outages, waiting_for_people
from maintenance.views.access import READING


def frame(request: HttpRequest) -> dict[str, Any]:
    """Context processor; asks the database only for people who may know, and on pages that say it."""
    user = getattr(request, "user", None)
    if user is None or not any(user.has_perm(f"maintenance.{p}") for p in READING):
        return {}
    return {
        "outages": SimpleLazyObject(lambda: list(outages())),
        "waiting_for_people": SimpleLazyObject(waiting_for_people),
    }
