"""Runs of the past and of now."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import Query
from ninja.errors import ValidationError

from maintenance.models import MaintenanceRun
from maintenance.results.outcome import outcome, summary
from maintenance.text import dates

from .callers import READING, Called, Scope, open_to
from .routers import maintenance as routes
from .shapes.history import Filters, Outcome, RunPage
from .shapes.problems import WRONG, Problem


@routes.get("", auth=open_to(Scope.READ, *READING), response={200: RunPage, **WRONG})
def runs(request: Called, asked: Query[Filters]) -> HttpResponse:
    """The history, newest first."""
    unknown = sorted(set(request.GET) - set(Filters.model_fields))
    if unknown:
        raise ValidationError([{"loc": ("query", name), "msg": "There is no such filter"} for name in unknown])
    pages = Paginator(chosen(asked), asked.page_size)
    here = pages.page(asked.page).object_list if asked.page <= pages.num_pages else []
    return JsonResponse(
        {
            "count": pages.count,
            "page": asked.page,
            "pages": pages.num_pages,
            "page_size": asked.page_size,
            "next": page_url(request, asked.page + 1) if asked.page < pages.num_pages else None,
            "previous": page_url(request, asked.page - 1) if asked.page > 1 else None,
            "runs": [summary(run) for run in here],
        }
    )


def chosen(asked: Filters) -> QuerySet[MaintenanceRun]:
    exact = asked.model_dump(include={"status", "maintenance_type", "severity_level"}, exclude_none=True)
    found = MaintenanceRun.objects.filter(**exact)
    if asked.database:
        found = found.filter(targets__database=asked.database)
    return found.filter(dates.between("created_at", asked.since, asked.until)).order_by("-id")


def page_url(request: HttpRequest, page: int) -> str:
    query = request.GET.copy()
    query["page"] = str(page)
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")


@routes.get(
    "/{int:id}",
    auth=open_to(Scope.READ, *READING),
    response={200: Outcome, 404: Problem, **WRONG},
    url_name="run",
)
def run(request: Called, id: int) -> HttpResponse:
    """One run with its targets, steps, measurements and files: what `maintain --json` prints."""
    found = MaintenanceRun.objects.filter(pk=id).first()
    if found is None:
        raise Http404(f"There is no maintenance {id}.")
    return JsonResponse(outcome(found))
