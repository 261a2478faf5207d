"""/metrics in the text format of Prometheus, made from queries when it is asked; their number is constant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET
from ninja.errors import HttpError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from . import tasks
from .api.callers import READING, Scope, open_to
from .api.problems import problem
from .models import ACTIVE, ENDED, MaintenanceRun, RunTarget, Status
from .views.dashboard import success
from .views.standing import ORDER, Standing, standings

LASTED = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
OVER = Q(status__in=ENDED, started_at__isnull=False, finished_at__isnull=False)
HERE = frozenset({"127.0.0.1", "::1"})
FORWARDED = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded")


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """For a Prometheus on this machine; from elsewhere with a token of scope read, or a session."""
    if not direct(request):
        try:
            if not any(way(request) for way in open_to(Scope.READ, *READING)):
                return problem(401, "From another machine the metrics need a bearer token of scope read.")
        except HttpError as error:
            return problem(error.status_code, str(error))
    registry = CollectorRegistry()
    registry.register(Console())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def direct(request: HttpRequest) -> bool:
    """From this machine and not through a proxy on it, and not with a token that would then go unchecked."""
    through = any(name in request.headers for name in (*FORWARDED, "Authorization"))
    return request.META.get("REMOTE_ADDR") in HERE and not through


class Console(Collector):
    """Everything the console knows in numbers, now."""

    def collect(self) -> Iterator[Metric]:
        found = standings()
        yield from runs()
        yield from work()
        yield from health(found)
        yield from backups(found)
        share = success()["share"]
        if share is not None:
            yield GaugeMetricFamily("dbmaint_success_ratio", "Share of runs of 90 days that succeeded.", share)
        yield GaugeMetricFamily("dbmaint_workers_alive", "Clusters of workers that are alive.", tasks.workers_alive())


def runs() -> Iterator[Metric]:
    """How many in which state, how long they took, and how long service was out."""
    number = GaugeMetricFamily("dbmaint_runs", "Runs by status and type.", labels=["status", "type"])
    took = SummaryMetricFamily("dbmaint_run_duration_seconds", "From start to end of a run.", labels=["status", "type"])
    out = SummaryMetricFamily("dbmaint_run_outage_seconds", "Outage of a run.", labels=["status", "type"])
    lines = MaintenanceRun.objects.order_by().values_list("status", "maintenance_type")
    for status, kind, count, over, lasted, outages, outage in lines.annotate(
        count=Count("pk"),
        over=Count("pk", filter=OVER),
        lasted=Sum(LASTED, filter=OVER),
        outages=Count("outage_seconds"),
        outage=Sum("outage_seconds"),
    ):
        number.add_metric([status, kind], count)
        took.add_metric([status, kind], over, (lasted or timedelta()).total_seconds())
        out.add_metric([status, kind], outages, outage or 0.0)
    return iter((number, took, out))


def work() -> Iterator[Metric]:
    """What waits and what is in hand."""
    now = timezone.now()
    waiting = GaugeMetricFamily("dbmaint_queue_length", "Databases that wait for a worker.")
    age = GaugeMetricFamily(
        "dbmaint_lease_age_seconds", "Since the worker last renewed its lease.", labels=["database", "run"]
    )
    out = GaugeMetricFamily("dbmaint_outage_now_seconds", "Outage that lasts.", labels=["database", "run"])
    queued = 0
    active = RunTarget.objects.filter(status__in=ACTIVE)
    for target in active.only("status", "database", "run_id", "beat_at", "outage_started_at", "outage_ended_at"):
        labels = [target.database, str(target.run_id)]
        queued += target.status == Status.QUEUED
        if target.status != Status.QUEUED and target.beat_at:
            age.add_metric(labels, (now - target.beat_at).total_seconds())
        if target.outage_started_at and target.outage_ended_at is None:
            out.add_metric(labels, (now - target.outage_started_at).total_seconds())
    waiting.add_metric([], queued)
    return iter((waiting, age, out))


def health(found: list[Standing]) -> Iterator[Metric]:
    """Of each database by its last look."""
    score = GaugeMetricFamily("dbmaint_database_health", "Health score, 0 to 100.", labels=["database"])
    size = GaugeMetricFamily("dbmaint_database_size_bytes", "Size of the database.", labels=["database"])
    state = GaugeMetricFamily("dbmaint_database_state", "1 for the state it is in.", labels=["database", "state"])
    age = GaugeMetricFamily("dbmaint_database_look_age_seconds", "Since the last look at it.", labels=["database"])
    for standing in found:
        name, look = standing.setting.name, standing.state
        for word in ORDER:
            state.add_metric([name, word], float(word == standing.word))
        if look is None:
            continue
        age.add_metric([name], (timezone.now() - look.measured_at).total_seconds())
        if look.health is not None:
            score.add_metric([name], look.health)
        if look.size_bytes is not None:
            size.add_metric([name], look.size_bytes)
    return iter((score, size, state, age))


def backups(found: list[Standing]) -> Iterator[Metric]:
    age = GaugeMetricFamily(
        "dbmaint_last_verified_backup_age_seconds", "Since the last backup that read back whole.", labels=["database"]
    )
    for standing in found:
        if standing.backup_at is not None:
            age.add_metric([standing.setting.name], (timezone.now() - standing.backup_at).total_seconds())
    yield age
