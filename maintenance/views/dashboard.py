"""Is any database in trouble, and who is on it?"""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from maintenance import queue
from maintenance.auditing.alarm import alarm
from maintenance.models import Feed, Incident, MaintenanceRun
from maintenance.observation.health import Standing, standings
from maintenance.results import statistics
from maintenance.text.dates import passed
from maintenance.text.labels import duration
from maintenance.text.render import render as in_words

from .access import READING, open_to
from .live import fragment
from .pieces import Page, Tile, outage_clock

INCIDENTS = 20
SHOWN = 20
"""Databases on the dashboard, the worst; so that it costs the same however many there are."""


@open_to(*READING)
def dashboard(request: HttpRequest) -> HttpResponseBase:
    return render(request, "dashboard/page.html", told())


@open_to(*READING)
def dashboard_live(request: HttpRequest) -> HttpResponseBase:
    return fragment(request, "dashboard/parts.html", told())


def told() -> Page:
    found = standings()
    active = [(s, s.target, outage_clock(s.target)) for s in found if s.target is not None]
    return {
        "standings": found[:SHOWN],
        "count": len(found),
        "more": max(0, len(found) - SHOWN),
        "headline": headline(found),
        "active": active,
        "waiting": list(MaintenanceRun.objects.waiting_for_approval()),
        "incidents": list(Incident.objects.filter(closed_at=None).select_related("setting")[:INCIDENTS]),
        "feed": Feed.objects.exclude(error="", problems={}).first(),
        "measured_at": max((s.measured_at for s in found if s.measured_at), default=None),
        "workers": queue.workers_alive(),
        "audit_alarm": alarm(),
        "tiles": [success(), outage(), faster(), oldest_backup(found)],
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
            "{count} database has not been checked yet", "{count} databases have not been checked yet", unseen
        ).format(count=unseen)
    return _("No database is in trouble")


def success() -> Tile:
    """Of the runs that ended, those that succeeded."""
    runs, name = statistics.success(), _("Succeeded, 90 days")
    if not runs["all"]:
        return Tile(name, "–", _("no maintenance · target 95 %"))
    note = _("{good} of {all} · target 95 %").format(good=runs["good"], all=runs["all"])
    return Tile(name, f"{runs['percent']} %", note, "" if runs["met"] else _("below target"))


def outage() -> Tile:
    """The outage of all runs together."""
    sums, name = statistics.outage(), _("Outage, 30 days")
    if not sums["runs"]:
        return Tile(name, "0 s", _("no outage"))
    note = ngettext("{runs} run · longest {longest}", "{runs} runs · longest {longest}", sums["runs"])
    return Tile(name, duration(sums["seconds"]), note.format(runs=sums["runs"], longest=duration(sums["longest"])))


def faster() -> Tile:
    """How much faster queries became: the median, and the middle half in brackets."""
    gains, name = statistics.faster(), _("Faster after, 90 days")
    if "told" in gains:
        return Tile(name, in_words(gains["told"]), _("median of {count}, and the middle half").format(**gains))
    if not gains["count"]:
        return Tile(name, "–", _("not measured yet"))
    too_few = ngettext(
        "measured once, too few for a median (from {least})",
        "measured {count} times, too few for a median (from {least})",
        gains["count"],
    )
    return Tile(name, "–", too_few.format(**gains))


def oldest_backup(databases: Sequence[Standing]) -> Tile:
    """Of each database the newest backup that read back whole; of these the oldest."""
    name = _("Oldest verified backup")
    backups = [(s.backup_at, s.setting.name) for s in databases if s.backup_at is not None]
    if not backups:
        return Tile(name, "–", _("none yet"))
    at, database = min(backups)
    return Tile(name, passed(at), database)
