"""The management report: the same tables on the page and in the PDF, the same numbers in the CSV."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy

from maintenance.models import ENDED, MaintenanceType, SeverityLevel
from maintenance.results.statistics import GROUPS, LIMIT_SECONDS, WANTED_SUCCESS, Asked, Figures, Glance, glance, listed
from maintenance.text import labels
from maintenance.text.dates import Period

from . import drawings, one_by_one, paper
from .drawings import Bar
from .performance import inert
from .sheets import Column, Sheet

MOST_RUNS = 20
"""That are told one by one; all of them are in the history."""
GROUP_NAMES: Mapping[str, Promise] = {
    "much_faster": lazy("at least twice as fast"),
    "faster": lazy("faster, by less than half"),
    "alike": lazy("no measurable change"),
    "slower": lazy("became slower"),
    "unmeasured": lazy("not measured"),
}
COLUMNS: Mapping[str, str] = {
    "kind": "month, quarter, year or database",
    "name": "2026-11, 2026 Q4, 2026, or the name of the database",
    "runs": "runs that were asked for in that time and have ended",
    **{status.value: f"of these, {status.value}" for status in ENDED},
    "success_percent": "succeeded / all but the cancelled ones",
    "outage_minutes": "sum of the outages; of a run over several databases overlaps are counted once",
    "longest_outage_minutes": "of one run",
    "average_duration_minutes": "of one run, from its start to its end",
    "longest_duration_minutes": "of one run",
    "approved": "runs that a second person approved",
    "unapproved": "runs that began without the approval they needed, with a reason",
    "approval_wait_minutes": "from the request to the second person's word",
    "operator_wait_minutes": "from the end in 'needs operator' until the database was released, or now",
    "rows_lost": "rows given up by consent; at least as many where the number is not known of every object",
    "over_limit": "runs that took longer than 180 minutes",
    "space_won_bytes": "size before - size after of what was worked on, in databases that succeeded",
    **{name: f"databases that succeeded, times {name.replace('_', ' ')}" for name in GROUPS},
}
"""Every column of the CSV. Empty: does not apply, or nothing was measured."""
Row = dict[str, Any]
KINDS = {1: "month", 3: "quarter", 12: "year"}


def contents(period: Period, asked: Asked) -> dict[str, Any]:
    """The context of page and PDF."""
    found = glance(period, asked)
    lines = [one_by_one.line(run) for run in listed(period, asked, MOST_RUNS)]
    return {
        "period": period,
        "found": found,
        "sentence": sentence(found),
        "cost": cost(found.period),
        "failing": failing(found),
        "missed": found.period.missed,
        "summary": summary(found),
        "endings": endings(found),
        "gains": gains(found),
        "lines": lines,
        "runs": one_by_one.sheet(lines),
        "more": max(found.period.runs - len(lines), 0),
        "troubled": troubled(found),
        "troubled_in": (found.around or found.period).name,
        "trend": trend(found),
        "filters": filters(asked),
        "limit": LIMIT_SECONDS // 60,
        "wanted": f"{WANTED_SUCCESS:.0%}".replace("%", " %"),
    }


def filters(asked: Asked) -> str:
    """What was left out, in words; '' for nothing."""
    chosen = [
        asked.database,
        str(MaintenanceType(asked.maintenance_type).label) if asked.maintenance_type else "",
        str(SeverityLevel(asked.severity_level).label) if asked.severity_level else "",
    ]
    return ", ".join(filter(None, chosen))


def cost(figures: Figures) -> str:
    """What it cost beside the outage; '' where there was no run."""
    if not figures.runs:
        return ""
    told = _("Steps waited for people for {people}; rows lost: {lost}.").format(
        people=span(figures.people),
        lost=one_by_one.lost(figures.lost, figures.lost_unknown),
    )
    if not figures.unapproved:
        return told
    glass = ngettext(
        "{count} run began without the approval it needed.",
        "{count} runs began without the approval they needed.",
        figures.unapproved,
    )
    return f"{told} {glass.format(count=figures.unapproved)}"


def failing(found: Glance) -> str:
    """The months of the trend below what is wanted, by name; '' for none."""
    told = [f"{m.name} ({percent(m.success)})" for m in found.failing]
    return (
        _("Below {wanted}: {months}.").format(wanted=f"{WANTED_SUCCESS * 100:.0f} %", months=", ".join(told))
        if told
        else ""
    )


def sentence(found: Glance) -> str:
    """The period for somebody who reads nothing else."""
    month = found.period
    if not month.runs:
        return _("No maintenance ended in {month}.").format(month=month.name)
    runs = ngettext("{count} maintenance", "{count} maintenances", month.runs).format(count=labels.count(month.runs))
    if month.success is None:
        return _("{runs} in {month}, all cancelled.").format(runs=runs, month=month.name)
    values = {
        "runs": runs,
        "month": month.name,
        "share": percent(month.success),
        "wanted": f"{WANTED_SUCCESS * 100:.0f} %",
        "outage": span(month.outage),
    }
    if month.missed:
        return _("{runs} in {month}: {share} succeeded, less than the {wanted} wanted; {outage} of outage.").format(
            **values
        )
    return _("{runs} in {month}: {share} succeeded, {wanted} are wanted; {outage} of outage.").format(**values)


def percent(share: float | None) -> str:
    """Cut, not rounded: 94.96 % is not 95 %."""
    return "—" if share is None else f"{int(share * 1000 + 1e-9) / 10:.1f} %"


def span(seconds: float | None) -> str:
    return "—" if seconds is None else labels.duration(seconds)


def out(figures: Figures, seconds: float) -> str:
    """No outage is told only where there was a run."""
    return span(seconds if figures.runs else None)


def summary(found: Glance) -> Sheet:
    spans = found.spans
    columns = [Column(_("Figure"), "name"), *(Column(s.name, "number", 21) for s in spans)]
    long = _("Longer than {minutes} minutes").format(minutes=LIMIT_SECONDS // 60)
    lines: Sequence[tuple[str, Any]] = (
        (_("Runs"), lambda s: labels.count(s.runs)),
        (_("Success rate"), lambda s: percent(s.success)),
        (_("Outage, sum"), lambda s: out(s, s.outage)),
        (_("Outage, longest"), lambda s: out(s, s.longest_outage)),
        (_("Waited for approval"), lambda s: out(s, s.waited)),
        (_("Waited for an operator"), lambda s: out(s, s.attended)),
        (_("Approved by a second person"), lambda s: labels.count(s.approved)),
        (_("Began without approval"), lambda s: labels.count(s.unapproved)),
        (_("Rows lost"), lambda s: one_by_one.lost(s.lost, s.lost_unknown)),
        (_("Duration, average"), lambda s: span(s.average)),
        (_("Duration, longest"), lambda s: span(s.longest if s.timed else None)),
        (long, lambda s: labels.count(s.over_limit)),
        (_("Space reclaimed"), lambda s: labels.size(s.won) if s.won_known else "—"),
    )
    rows = [[name, *(value(s) for s in spans)] for name, value in lines]
    asks_for_a_look = {
        _("Success rate"): found.period.missed or bool(found.around and found.around.missed),
        _("Began without approval"): bool(found.period.unapproved),
        _("Rows lost"): bool(found.period.lost or found.period.lost_unknown),
        long: bool(found.period.over_limit),
    }
    return Sheet(columns, rows, ["bad" if asks_for_a_look.get(row[0]) else "" for row in rows])


def endings(found: Glance) -> Sheet:
    columns = [Column(_("Outcome"), "name"), *(Column(s.name, "number", 25) for s in _spans(found))]
    rows = [
        [str(status.label), *(labels.count(s.endings.get(status, 0)) for s in _spans(found))]
        for status in reversed(ENDED)
    ]
    return Sheet(columns, rows)


def gains(found: Glance) -> Sheet:
    columns = [
        Column(_("Databases that succeeded are"), "name"),
        *(Column(s.name, "number", 25) for s in _spans(found)),
    ]
    rows = [[str(GROUP_NAMES[name]), *(labels.count(s.groups.get(name, 0)) for s in _spans(found))] for name in GROUPS]
    return Sheet(columns, rows)


def _spans(found: Glance) -> list[Figures]:
    """The period, and what it lies in."""
    return [found.period, *([found.around] if found.around else [])]


def troubled(found: Glance) -> Sheet:
    columns = [
        Column(_("Database"), "name"),
        Column(_("Runs"), "number", 15),
        Column(_("Ended badly"), "number", 20),
        Column(_("Outage, sum"), "number", 25),
    ]
    rows = [[t.database, labels.count(t.runs), labels.count(t.bad), span(t.outage)] for t in found.troubled]
    return Sheet(columns, rows, ["bad" if t.bad else "" for t in found.troubled])


def trend(found: Glance) -> Sheet:
    columns = [
        Column(_("Month"), "name"),
        Column(_("Runs"), "number", 11),
        Column(_("Success rate"), "number", 15),
        Column(_("Outage, sum"), "number", 18),
        Column(_("Duration, longest"), "number", 18),
        Column(_("Space reclaimed"), "number", 18),
    ]
    rows = [
        [
            m.name,
            labels.count(m.runs),
            percent(m.success),
            out(m, m.outage),
            span(m.longest if m.timed else None),
            labels.size(m.won) if m.won_known else "—",
        ]
        for m in found.trend
    ]
    return Sheet(columns, rows, ["bad" if m.missed else "" for m in found.trend])


def chart(found: Glance) -> dict[str, Any]:
    """The trend for the page's plotly: months, minutes, percent."""
    return {
        "kind": "trend",
        "months": [m.name for m in found.trend],
        "outage": [round(m.outage / 60, 2) for m in found.trend],
        "success": [None if m.success is None else round(m.success * 100, 2) for m in found.trend],
        "wanted": WANTED_SUCCESS * 100,
        "words": {"outage": _("Outage (minutes)"), "success": _("Success rate (%)"), "wanted": _("wanted")},
    }


def render(period: Period, asked: Asked) -> bytes:
    """The PDF in the active language; the same bytes for the same numbers."""
    found = contents(period, asked)
    bars = [Bar(m.name, m.outage, f"{out(m, m.outage)} · {percent(m.success)}", m.missed) for m in found["found"].trend]
    page = render_to_string(
        "reports/management.html",
        {
            **found,
            "language": get_language() or "en",
            "chart": drawings.bars(_("Outage of each month, and success rate"), bars),
            "zone": labels.zone(period.begin),
            "made": f"{period.end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "state": labels.moment(min(timezone.now(), period.around.end)),
        },
    )
    named = f"{settings.SITE_URL} management {period} {asked}"
    return paper.printed(page, hashlib.sha256(named.encode()).hexdigest()[:32])


def text(period: Period, asked: Asked) -> str:
    """The CSV: the months of the trend, the period and what it lies in, and the databases."""
    found = glance(period, asked)
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, COLUMNS)
    writer.writeheader()
    rows = [_row("month", m) for m in found.trend]
    larger = [found.period, *([found.around] if found.around else [])]
    rows += [
        _row(KINDS[months], figures) for months, figures in zip(_lengths(period), larger, strict=True) if months > 1
    ]
    rows += [
        {"kind": "database", "name": t.database, "runs": t.runs, "outage_minutes": _minutes(t.outage)}
        for t in found.troubled
    ]
    writer.writerows({name: inert(value) for name, value in row.items()} for row in rows)
    return sheet.getvalue()


def _lengths(period: Period) -> list[int]:
    return [period.months, *([period.around.months] if period.around != period else [])]


def _row(kind: str, figures: Figures) -> Row:
    return {
        "kind": kind,
        "name": figures.name,
        "runs": figures.runs,
        **{status.value: figures.endings.get(status, 0) for status in ENDED},
        "success_percent": None if figures.success is None else round(figures.success * 100, 2),
        "outage_minutes": _minutes(figures.outage),
        "longest_outage_minutes": _minutes(figures.longest_outage),
        "average_duration_minutes": _minutes(figures.average),
        "longest_duration_minutes": _minutes(figures.longest) if figures.timed else None,
        "approved": figures.approved,
        "unapproved": figures.unapproved,
        "approval_wait_minutes": _minutes(figures.waited),
        "operator_wait_minutes": _minutes(figures.attended),
        "rows_lost": figures.lost,
        "over_limit": figures.over_limit,
        "space_won_bytes": figures.won if figures.won_known else None,
        **{name: figures.groups.get(name, 0) for name in GROUPS},
    }


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 60, 2)
