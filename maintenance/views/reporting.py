"""The management section: a month, quarter or year at a glance, as page, PDF and CSV."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from maintenance.forms.pages import ReportFilter
from maintenance.results.statistics import Asked
from maintenance.text.dates import Period
from reports import management

from .access import READING, open_to


@open_to(*READING)
@require_GET
def reports(request: HttpRequest) -> HttpResponseBase:
    form = ReportFilter(request.GET)
    found = management.contents(*asked_for(form))
    period = found["period"]
    context = {
        "form": form,
        "query": request.GET.urlencode(),
        "chart": management.chart(found["found"]),
        "earlier": _beside(request, period, -1),
        "later": _beside(request, period, 1) if period.end <= timezone.now() else None,
    }
    return render(request, "reports/page.html", {**found, **context})


@open_to(*READING)
@require_GET
def reports_pdf(request: HttpRequest) -> HttpResponseBase:
    period, asked = asked_for(ReportFilter(request.GET))
    return _file(management.render(period, asked), "application/pdf", f"maintenance-{period}.pdf")


@open_to(*READING)
@require_GET
def reports_csv(request: HttpRequest) -> HttpResponseBase:
    period, asked = asked_for(ReportFilter(request.GET))
    made = management.text(period, asked).encode("utf-8-sig" if settings.CSV_BOM else "utf-8")
    return _file(made, "text/csv; charset=utf-8", f"maintenance-{period}.csv")


def asked_for(form: ReportFilter) -> tuple[Period, Asked]:
    """What is not valid in a filter filters nothing; the form says so."""
    form.is_valid()
    return form.chosen_period(), Asked(*(form.cleaned_data.get(name, "") for name in ReportFilter.narrowing))


def _beside(request: HttpRequest, period: Period, by: int) -> tuple[Period, str]:
    """The period before or after, with the query that shows it under the same filters."""
    query = request.GET.copy()
    query["period"] = str(period + by)
    return period + by, query.urlencode()


def _file(made: bytes, content_type: str, name: str) -> HttpResponse:
    return HttpResponse(
        made, content_type=content_type, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
