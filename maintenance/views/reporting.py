"""The management section: month and quarter at a glance, as page, PDF and CSV."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_GET

from maintenance.forms.pages import ReportFilter
from maintenance.results.statistics import Asked
from maintenance.text.dates import Month
from reports import management

from .access import READING, open_to


@open_to(*READING)
@require_GET
def reports(request: HttpRequest) -> HttpResponseBase:
    form = ReportFilter(request.GET)
    found = management.contents(*asked_for(form))
    context = {"form": form, "query": request.GET.urlencode(), "chart": management.chart(found["found"])}
    return render(request, "reports/page.html", {**found, **context})


@open_to(*READING)
@require_GET
def reports_pdf(request: HttpRequest) -> HttpResponseBase:
    month, asked = asked_for(ReportFilter(request.GET))
    return _file(management.render(month, asked), "application/pdf", f"maintenance-{month}.pdf")


@open_to(*READING)
@require_GET
def reports_csv(request: HttpRequest) -> HttpResponseBase:
    month, asked = asked_for(ReportFilter(request.GET))
    made = management.text(month, asked).encode("utf-8-sig" if settings.CSV_BOM else "utf-8")
    return _file(made, "text/csv; charset=utf-8", f"maintenance-{month}.csv")


def asked_for(form: ReportFilter) -> tuple[Month, Asked]:
    """What is not valid in a filter filters nothing; the form says so."""
    form.is_valid()
    return form.chosen_month(), Asked(*(form.cleaned_data.get(name, "") for name in ReportFilter.narrowing))


def _file(made: bytes, content_type: str, name: str) -> HttpResponse:
    return HttpResponse(
        made, content_type=content_type, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
