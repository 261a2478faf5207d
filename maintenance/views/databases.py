"""One database over time: state, findings, sizes, sessions, past maintenance; and a fresh look on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from maintenance import queue
from maintenance.auditing import chain
from maintenance.forms.pages import DatabaseFilter
from maintenance.models import DatabaseState, MaintenanceSetting, RunTarget
from maintenance.observation.health import standings, worst_first
from maintenance.results.remedies import recommended
from maintenance.templatetags.console import ago
from maintenance.text import labels
from reports import course

from .access import actor, may, open_to
from .live import fragment
from .numbers import number_in
from .pieces import Page, Tile

PAGE = 50
SHOWN_STATES = 120
SHOWN_TABLES = 50
CHARTED_STATES = 2000
SHOWN_RUNS = 10
PATIENCE = timedelta(minutes=5)
"""After this the page stops asking for a diagnosis that does not come."""
WIDE, TALL = 600.0, 120.0


@dataclass(frozen=True)
class Trend:
    """One number over time as a line; places are units of the view box."""

    points: str
    dots: Sequence[tuple[float, float, datetime, float]]
    extent: str
    """The lowest and the highest, in words."""
    first: datetime
    last: datetime


@open_to("view_databasestate")
@require_GET
def databases(request: HttpRequest) -> HttpResponseBase:
    """All of them, worst first, found by name, state and engine, a page at a time."""
    form = DatabaseFilter(request.GET)
    page = Paginator(form.chosen(standings()), PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()
    query.pop("page", None)
    context = {"form": form, "page": page, "standings": list(page), "query": query.urlencode()}
    return render(request, "databases/list.html", context)


@open_to("launch_maintenance")
@require_POST
def diagnose_all(request: HttpRequest) -> HttpResponseBase:
    """Every database that is enabled, each by a message of its own."""
    with transaction.atomic():
        wanted = list(MaintenanceSetting.objects.filter(enabled=True).values_list("pk", flat=True))
        chain.record(actor(request).name, "database.diagnosis_asked", "all", after={"databases": len(wanted)})
        for pk in wanted:
            queue.enqueue_look(pk)
    told = ngettext("{count} database is being diagnosed.", "{count} databases are being diagnosed.", len(wanted))
    messages.success(request, told.format(count=len(wanted)))
    if not queue.workers_alive():
        messages.warning(request, _("No worker is alive: the diagnosis waits until one is started."))
    return redirect("maintenance:databases")


@open_to("view_databasestate")
@require_GET
def database(request: HttpRequest, name: str) -> HttpResponseBase:
    return render(request, "databases/page.html", told(request, name))


@open_to("view_databasestate")
@require_GET
def database_live(request: HttpRequest, name: str) -> HttpResponseBase:
    """Asked while a diagnosis is on its way; ends when a newer state is there."""
    context = told(request, name)
    return fragment(request, "databases/parts.html", context, over=not context["waiting"])


@open_to("view_databasestate")
@require_GET
def database_trend(request: HttpRequest, name: str) -> HttpResponseBase:
    """The last looks as columns, for the chart."""
    setting = get_object_or_404(MaintenanceSetting, name=name)
    columns = ("measured_at", "health", "size_bytes", "connections", "state")
    rows = list(setting.states.order_by("-id").values_list(*columns)[:CHARTED_STATES])[::-1]
    told: dict[str, list[Any]] = {column: [row[i] for row in rows] for i, column in enumerate(columns)}
    # Without a zone, because plotly would show UTC where the page tells the reader's own time.
    told["measured_at"] = [f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S}" for at in told["measured_at"]]
    return JsonResponse({**told, "runs": course.maintained(name), "latency": course.latency(name)})


@open_to("launch_maintenance")
@require_POST
def diagnose(request: HttpRequest, name: str) -> HttpResponseBase:
    """Queued, never in the request: a sick server may take minutes to answer."""
    setting = get_object_or_404(MaintenanceSetting, name=name)
    last = setting.states.order_by("-id").values_list("pk", flat=True).first() or 0
    with transaction.atomic():
        chain.record(actor(request).name, "database.diagnosis_asked", name)
        queue.enqueue_look(setting.pk)
    if not queue.workers_alive():
        messages.warning(request, _("No worker is alive: the diagnosis waits until one is started."))
    since = int(timezone.now().timestamp())
    return redirect(f"{reverse('maintenance:database', args=[name])}?after={last}&since={since}")


def told(request: HttpRequest, name: str) -> Page:
    setting = get_object_or_404(MaintenanceSetting, name=name)
    states = list(setting.states.defer("tables", "findings").order_by("-id")[:SHOWN_STATES])
    state = setting.states.order_by("-id").first()
    runs = RunTarget.objects.filter(database=name).select_related("run").defer("plan", "gate", "image").order_by("-id")
    return {
        "setting": setting,
        "state": state,
        "standing": next((s for s in standings() if s.setting.pk == setting.pk), None),
        "tiles": tiles(state),
        "findings": worst_first(state.findings) if state else [],
        "recommended": recommended(state.findings) if state else None,
        "suggested_for": name if may(request, "launch_maintenance") else "",
        "tables": sorted(state.tables, key=lambda t: -(t["bytes"] or 0))[:SHOWN_TABLES] if state else [],
        "tables_more": max(0, len(state.tables) - SHOWN_TABLES) if state else 0,
        "states": states[:12],
        "health": trend(states, "health", _of_100, high=100),
        "sizes": trend(states, "size_bytes", _sizes),
        "connections": trend(states, "connections", "{:.0f} – {:.0f}".format),
        "looks_sheet": course.looks(states),
        "answers_sheet": course.answers(course.latency(name)),
        "runs": list(runs[:SHOWN_RUNS]),
        "waiting": waits(request, state),
    }


def tiles(state: DatabaseState | None) -> list[Tile]:
    """The numbers of the last look, each with what it is to be compared with."""
    if state is None:
        names = (_("Health"), _("Size"), _("Sessions"), _("Measured"))
        return [Tile(name, "–", _("never")) for name in names]
    free = _("free space: not available")
    if state.free_bytes is not None:
        free = _("{free} free beside it").format(free=labels.size(state.free_bytes))
    limit = _("limit: not available")
    if state.max_connections:
        limit = _("of {count} allowed").format(count=state.max_connections)
    size = "–" if state.size_bytes is None else labels.size(state.size_bytes)
    return [
        Tile(_("Health"), _or_dash(state.health), _("of 100")),
        Tile(_("Size"), size, free),
        Tile(_("Sessions"), _or_dash(state.connections), limit),
        Tile(_("Measured"), ago(state.measured_at), state.get_source_display()),
    ]


def _or_dash(number: int | None) -> str:
    return "–" if number is None else str(number)


def waits(request: HttpRequest, state: DatabaseState | None) -> bool:
    """A diagnosis was asked for on this page and has not arrived."""
    after, since = number_in(request, "after"), number_in(request, "since")
    if after is None or since is None:
        return False
    in_time = timezone.now().timestamp() - since < PATIENCE.total_seconds()
    return in_time and (state is None or state.pk <= after)


def trend(
    states: Sequence[DatabaseState],
    name: str,
    extent: Callable[[float, float], str],
    low: float = 0,
    high: float | None = None,
) -> Trend | None:
    """None with fewer than two looks that know the number."""
    known = [(s.measured_at, float(getattr(s, name))) for s in reversed(states) if getattr(s, name) is not None]
    if len(known) < 2:
        return None
    values = [value for _, value in known]
    top = high if high is not None else max(values) * 1.1 or 1.0
    first, last = known[0][0], known[-1][0]
    span = max((last - first).total_seconds(), 1.0)
    dots = [
        (round((at - first).total_seconds() / span * WIDE, 1), round(TALL - (v - low) / (top - low) * TALL, 1), at, v)
        for at, v in known
    ]
    points = " ".join(f"{x},{y}" for x, y, _, _ in dots)
    return Trend(points, dots, extent(min(values), max(values)), first, last)


def _of_100(low: float, high: float) -> str:
    return _("{low} – {high} of 100").format(low=f"{low:.0f}", high=f"{high:.0f}")


def _sizes(low: float, high: float) -> str:
    return f"{labels.size(round(low))} – {labels.size(round(high))}"
