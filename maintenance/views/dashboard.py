"""Is any database in trouble, and who is on it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from maintenance import queue
from maintenance.models import Feed, Incident, MaintenanceRun, Status
from maintenance.observation.health import Standing, standings
from maintenance.results import statistics
from maintenance.text.dates import passed

from .access import READING, open_to
from .live import fragment

INCIDENTS = 20


@open_to(*READING)
def dashboard(request: HttpRequest) -> HttpResponseBase:
    return render(request, "dashboard/page.html", told())


@open_to(*READING)
def dashboard_live(request: HttpRequest) -> HttpResponseBase:
    return fragment(request, "dashboard/parts.html", told())


def told() -> dict[str, Any]:
    found = standings()
    active = [s for s in found if s.target is not None]
    return {
        "standings": found,
        "headline": headline(found),
        "active": active,
        "waiting": list(MaintenanceRun.objects.filter(status=Status.AWAITING_APPROVAL)),
        "incidents": list(Incident.objects.filter(closed_at=None).select_related("setting")[:INCIDENTS]),
        "feed": Feed.objects.exclude(error="", problems={}).first(),
        "measured_at": max((s.measured_at for s in found if s.measured_at), default=None),
        "workers": queue.workers_alive(),
        "success": statistics.success(),
        "outage": statistics.outage(),
        "faster": statistics.faster(),
        "backup": oldest_backup(found),
        "recent": statistics.recent(),
    }


def headline(found: Sequence[Standing]) -> str:
    """The answer in a sentence."""
    trouble = sum(s.in_trouble for s in found)
    held = sum(s.target is not None for s in found)
    parts = []
    if trouble:
        parts.append(
            ngettext("{count} database is in trouble", "{count} databases are in trouble", trouble).format(
                count=trouble
            )
        )
    if held:
        parts.append(ngettext("{count} is in maintenance", "{count} are in maintenance", held).format(count=held))
    if parts:
        return ", ".join(parts)
    if not found:
        return _("No database is registered yet")
    unseen = sum(s.word == "unknown" for s in found)
    if unseen:
        return ngettext(
            "{count} database was not looked at yet", "{count} databases were not looked at yet", unseen
        ).format(count=unseen)
    return _("No database is in trouble")


def oldest_backup(found: Sequence[Standing]) -> dict[str, Any] | None:
    """Of each database the newest backup that read back whole; of these the oldest."""
    kept = [(s.backup_at, s.setting.name) for s in found if s.backup_at is not None]
    if not kept:
        return None
    at, name = min(kept)
    return {"age": passed(at), "at": at, "database": name}
