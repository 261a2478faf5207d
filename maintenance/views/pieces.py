"""Pieces that recur on pages, filled in: templates/pieces/ draws them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from maintenance.models import RunTarget
from maintenance.text.labels import hms

Page = dict[str, Any]
"""What a template is rendered with, by name."""


@dataclass(frozen=True)
class Tile:
    """One number with its name above it and its context below; `warning` stands before the note."""

    name: str
    value: str
    note: str
    warning: str = ""


@dataclass(frozen=True)
class Clock:
    """A time as hh:mm:ss; with `since` it runs, and the browser counts on."""

    time: str
    note: str
    since: datetime | None = None


def outage_clock(target: RunTarget, over: bool = False) -> Clock | None:
    """Return the clock of the target's outage, None before it begins. `over`: the run has ended."""
    if target.outage_started_at is None:
        return None
    if not target.outage_lasts:
        return Clock(hms(target.outage_seconds), _("outage, over"))
    note = _("outage, still closed") if over else _("outage")
    return Clock(hms(target.outage_seconds), note, target.outage_started_at)
