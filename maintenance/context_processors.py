"""What stands on every page: the menu, an outage that lasts, a database that waits for a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise, SimpleLazyObject
from django.utils.translation import gettext_lazy as _

from maintenance.models.querysets import outages, waiting_for_people
from maintenance.views.access import READING, may

MENU: tuple[tuple[Promise, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (_("Dashboard"), "maintenance:dashboard", READING, ("dashboard",)),
    (_("Databases"), "maintenance:databases", ("view_databasestate",), ("database",)),
    (_("Launch"), "maintenance:launch", ("launch_maintenance",), ("launch",)),
    (_("History"), "maintenance:history", READING, ("history", "run")),
    (_("Reports"), "maintenance:reports", READING, ("reports",)),
    (_("Audit"), "maintenance:audit", ("view_auditentry",), ("audit",)),
    (_("Settings"), "admin:index", ("change_maintenancesetting",), ()),
)
"""Name, address, permissions of which one is needed, and how the names of its pages begin."""


@dataclass(frozen=True)
class Entry:
    """One entry of the menu; `current` on the pages below it."""

    name: Promise
    address: str
    current: bool


def page_frame(request: HttpRequest) -> dict[str, Any]:
    """Return what `base.html` shows around a page; queries run only for people who may know, and when shown."""
    if not hasattr(request, "user"):
        return {}
    around: dict[str, Any] = {"menu": SimpleLazyObject(lambda: list(menu(request)))}
    if may(request, *READING):
        around["outages"] = SimpleLazyObject(lambda: list(outages()))
        around["waiting_for_people"] = SimpleLazyObject(waiting_for_people)
    return around


def menu(request: HttpRequest) -> list[Entry]:
    """Return the entries that this person may open."""
    match = request.resolver_match
    here = (match.url_name or "") if match else ""
    settings = match is not None and match.namespace == "admin"
    return [
        Entry(name, reverse(address), settings if address == "admin:index" else not settings and here.startswith(pages))
        for name, address, permissions, pages in MENU
        if may(request, *permissions)
    ]
