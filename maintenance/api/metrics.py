"""/metrics in the text format of Prometheus, made from queries when it is asked; their number is constant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from statistics import median

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

from maintenance import queue
from maintenance.auditing.alarm import alarm
from maintenance.models import (
    ACTIVE,
    ENDED,
    Feed,
    Incident,
    MaintenanceRun,
    Node,
    Notification,
    RunTarget,
    Status,
    StepRecord,
    StepState,
)
from maintenance.observation.health import ORDER, Standing, standings
from maintenance.results.statistics import success

from .callers import READING, Scope, open_to
from .problems import problem

LASTED = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
OVER = Q(status__in=ENDED, started_at__isnull=False, finished_at__isnull=False)
LOOKED_AT = 500
"""Ended targets of the databases in hand, for their medians."""
FAILING_TRIES = 3
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
        yield from endings(found)
        yield from health(found)
        yield from backups(found)
        yield from people()
        yield from feed()
        share = success()["share"]
        if share is not None:
            yield GaugeMetricFamily("dbmaint_success_ratio", "Share of runs of 90 days that succeeded.", share)
        yield GaugeMetricFamily("dbmaint_workers_alive", "Clusters of workers that are alive.", queue.workers_alive())


def runs() -> Iterator[Metric]:
    """How many in which state, how long they took, and how long service was out."""
    number = GaugeMetricFamily("dbmaint_runs", "Runs by status and type.", labels=["status", "type"])
    took = SummaryMetricFamily("dbmaint_run_duration_seconds", "From start to end of a run.", labels=["status", "type"])
    out = SummaryMetricFamily("dbmaint_run_outage_seconds", "Outage of a run.", labels=["status", "type"])
    lines = MaintenanceRun.objects.real().order_by().values_list("status", "maintenance_type")
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
    labels = ["database", "run"]
    age = GaugeMetricFamily("dbmaint_lease_age_seconds", "Since the worker last renewed its lease.", labels=labels)
    out = GaugeMetricFamily("dbmaint_outage_now_seconds", "Outage that lasts.", labels=labels)
    since = GaugeMetricFamily("dbmaint_run_age_seconds", "Since a worker began with the database.", labels=labels)
    limit = GaugeMetricFamily("dbmaint_run_limit_seconds", "How long it may take at most.", labels=labels)
    usual = GaugeMetricFamily("dbmaint_run_usual_seconds", "Median of the last like it.", labels=labels)
    queued = 0
    active = list(
        RunTarget.objects.real()
        .active()
        .select_related("run", "setting")
        .defer("plan", "gate", "image", "tables", "progress")
    )
    medians = usually({target.database for target in active})
    for target in active:
        named = [target.database, str(target.run_id)]
        queued += target.status == Status.QUEUED
        if target.status != Status.QUEUED and target.beat_at:
            age.add_metric(named, (now - target.beat_at).total_seconds())
        if target.started_at:
            since.add_metric(named, (now - target.started_at).total_seconds())
        if target.setting is not None:
            limit.add_metric(named, target.setting.timeout_minutes * 60)
        if (target.database, target.run.maintenance_type) in medians:
            usual.add_metric(named, medians[target.database, target.run.maintenance_type])
    for target in RunTarget.objects.filter(
        status__in=[*ACTIVE, Status.NEEDS_OPERATOR], outage_started_at__isnull=False, outage_ended_at__isnull=True
    ).only("database", "run_id", "outage_started_at", "outage_ended_at"):
        out.add_metric([target.database, str(target.run_id)], target.outage_seconds)
    waiting.add_metric([], queued)
    return iter((waiting, age, out, since, limit, usual))


def usually(databases: set[str]) -> dict[tuple[str, str], float]:
    """Database and type -> median seconds of its last runs that succeeded."""
    took: dict[tuple[str, str], list[float]] = {}
    ended = (
        RunTarget.objects.real()
        .filter(database__in=databases, status=Status.SUCCEEDED, started_at__isnull=False, finished_at__isnull=False)
        .order_by("-id")
    )
    for database, kind, begun, over in ended.values_list(
        "database", "run__maintenance_type", "started_at", "finished_at"
    )[:LOOKED_AT]:
        if begun and over:
            took.setdefault((database, kind), []).append((over - begun).total_seconds())
    return {key: median(seconds) for key, seconds in took.items()}


def endings(found: list[Standing]) -> Iterator[Metric]:
    """How the last maintenance of each database ended, and how much of its data was proven whole."""
    ended = GaugeMetricFamily(
        "dbmaint_last_run_ended_timestamp_seconds",
        "When the last maintenance of the database ended, and how.",
        labels=["database", "status"],
    )
    whole = GaugeMetricFamily(
        "dbmaint_integrity_ratio",
        "Share of compared tables and checks that the last proof found whole.",
        labels=["database"],
    )
    last = {s.last.pk: s.last for s in found if s.last is not None}
    for target in last.values():
        if target.finished_at is not None:
            ended.add_metric([target.database, target.status], target.finished_at.timestamp())
    proofs = StepRecord.objects.filter(
        target__in=last, node=Node.VERIFY, part__startswith="proof", state=StepState.FINISHED
    ).order_by("id")
    shares = {
        last[target].database: 1 - min(len(problems or ()), total) / total
        for target, compared, checks, problems in proofs.values_list(
            "target_id", "result__compared", "result__checks", "result__problems"
        )
        if (total := (compared or 0) + len(checks or ()))
    }
    for database, share in shares.items():
        whole.add_metric([database], share)
    return iter((ended, whole))


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


def people() -> Iterator[Metric]:
    """What waits for somebody."""
    open_ = GaugeMetricFamily("dbmaint_incidents_open", "Incidents that nobody closed.", labels=["severity"])
    for severity, count in (
        Incident.objects.filter(closed_at=None).order_by().values_list("severity_level").annotate(Count("pk"))
    ):
        open_.add_metric([severity], count)
    yield open_
    failing = Notification.objects.filter(delivered_at=None, tries__gte=FAILING_TRIES).count()
    yield GaugeMetricFamily("dbmaint_messages_failing", "Messages whose delivery failed again and again.", failing)
    whole = "1 while the audit chain is broken, its checkpoints are gone, or nobody signs it."
    yield GaugeMetricFamily("dbmaint_audit_alarm", whole, float(alarm() is not None))
    waiting = MaintenanceRun.objects.waiting_for_approval().count()
    yield GaugeMetricFamily("dbmaint_runs_awaiting_approval", "Runs that wait for a second person.", waiting)


def feed() -> Iterator[Metric]:
    """Whether states are still fetched from Prometheus; nothing where config.json names none."""
    found = Feed.objects.first()
    if found is None:
        return
    since = found.read_at or found.tried_at
    if since is not None:
        age = (timezone.now() - since).total_seconds()
        yield GaugeMetricFamily("dbmaint_feed_age_seconds", "Since Prometheus was last read.", age)
    yield GaugeMetricFamily(
        "dbmaint_feed_problems", "Databases of which not everything could be measured.", len(found.problems)
    )
