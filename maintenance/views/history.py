"""Runs of the past: filters, order, pages, and the same list as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from maintenance.forms.pages import HistoryFilter
from maintenance.models import MaintenanceRun, RunTarget
from reports.performance import inert

from .access import READING, open_to

PAGE = 50
ORDERS = {
    "started": "created_at",
    "outage": "outage_seconds",
    "type": "maintenance_type",
    "severity": "severity_level",
    "status": "status",
    "who": "requested_by_name",
}
COLUMNS = (
    "number",
    "status",
    "maintenance_type",
    "severity_level",
    "databases",
    "tables",
    "reason",
    "requested_by",
    "created_at",
    "started_at",
    "finished_at",
    "outage_seconds",
    "ended_because",
)


@open_to(*READING)
@require_GET
def history(request: HttpRequest) -> HttpResponseBase:
    form = HistoryFilter(request.GET)
    page = Paginator(asked_for(form).values_list("pk", flat=True), PAGE).get_page(request.GET.get("page"))
    # Whole rows of this page only: what is skipped on the way to it is read from an index, or sorted by its key alone.
    rows = MaintenanceRun.objects.in_bulk(list(page))
    runs = [rows[pk] for pk in page]
    return render(
        request,
        "history/page.html",
        {"form": form, "page": page, "runs": runs, "query": kept(request), "sort": form.sort},
    )


@open_to(*READING)
@require_GET
def history_csv(request: HttpRequest) -> HttpResponseBase:
    runs = asked_for(HistoryFilter(request.GET))
    answer = StreamingHttpResponse(sheet(runs.iterator(chunk_size=2000)), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="maintenance-history-{timezone.localdate():%Y-%m-%d}.csv"'
    return answer


def asked_for(form: HistoryFilter) -> QuerySet[MaintenanceRun]:
    """What is not valid in a filter filters nothing; the form says so."""
    form.is_valid()
    chosen = form.cleaned_data
    runs = MaintenanceRun.objects.filter(form.exactly())
    if chosen.get("database"):
        # Not a join: that would be sorted whole before the first page of it is shown.
        runs = runs.filter(Exists(RunTarget.objects.filter(run=OuterRef("pk"), database=chosen["database"])))
    if chosen.get("text"):
        words = chosen["text"]
        runs = runs.filter(Q(reason__icontains=words) | Q(ended_because__icontains=words))
    column = ORDERS.get(form.sort.lstrip("-"), "created_at")
    down = form.sort.startswith("-")
    if column == "outage_seconds":
        # Whoever asks for the longest outage does not want those without one first.
        by = F(column).desc(nulls_last=True) if down else F(column).asc(nulls_last=True)
        return runs.order_by(by, "-id")
    sign = "-" if down else ""
    return runs.order_by(f"{sign}{column}", f"{sign}id")


def kept(request: HttpRequest, *without: str) -> str:
    """The filters as a query string, for links to other pages and orders."""
    query = request.GET.copy()
    for name in ("page", *without):
        query.pop(name, None)
    return query.urlencode()


class Echo:
    """A file that hands back what is written to it."""

    def write(self, value: str) -> str:
        return value


def sheet(runs: Iterable[MaintenanceRun]) -> Iterator[str]:
    writer = csv.writer(Echo())
    yield "\ufeff" + writer.writerow(COLUMNS)
    for run in runs:
        yield writer.writerow([inert(cell) for cell in cells(run)])


def cells(run: MaintenanceRun) -> list[Any]:
    return [
        run.number,
        run.status,
        run.maintenance_type,
        run.severity_level,
        ", ".join(run.target_databases),
        ", ".join(run.target_tables),
        run.reason,
        run.requested_by_name,
        *(at.isoformat(timespec="seconds") if at else "" for at in (run.created_at, run.started_at, run.finished_at)),
        "" if run.outage_seconds is None else f"{run.outage_seconds:.1f}",
        run.ended_because,
    ]
