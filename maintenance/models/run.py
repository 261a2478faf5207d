"""TBL-096 DB緊急メンテナンス履歴: runs, and the target databases inside them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import MessageField, MessagesField
from .nodes import Node
from .plan import StoredPlan
from .setting import MaintenanceSetting


class Status(models.TextChoices):
    """Distinct on purpose. `queued` is written by the request, `running` only by the worker."""

    AWAITING_APPROVAL = "awaiting_approval", _("awaiting approval")
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    CANCELLING = "cancelling", _("cancelling")
    SUCCEEDED = "succeeded", _("succeeded")
    ROLLED_BACK = "rolled_back", _("rolled back")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")
    TIMED_OUT = "timed_out", _("timed out")
    NEEDS_OPERATOR = "needs_operator", _("needs operator")


ACTIVE = (Status.QUEUED, Status.RUNNING, Status.CANCELLING)
"""Somebody works on it or will."""
WORST_FIRST = (
    Status.NEEDS_OPERATOR,
    Status.FAILED,
    Status.TIMED_OUT,
    Status.ROLLED_BACK,
    Status.CANCELLED,
    Status.SUCCEEDED,
)
ENDED = WORST_FIRST


class MaintenanceType(models.TextChoices):
    REPAIR = "repair", _("repair")
    OPTIMIZE = "optimize", _("optimize")
    REBUILD = "rebuild", _("rebuild")


class SeverityLevel(models.TextChoices):
    CRITICAL = "critical", _("critical")
    HIGH = "high", _("high")
    MEDIUM = "medium", _("medium")


class RunQuerySet(models.QuerySet["MaintenanceRun"]):
    """What is asked about runs again and again."""

    def real(self) -> Self:
        """Those that worked on the databases themselves: what figures count."""
        return self.filter(rehearsal=False)

    def waiting_for_approval(self) -> Self:
        """Those that begin when a second person agrees."""
        return self.filter(status=Status.AWAITING_APPROVAL)


class MaintenanceRun(models.Model):
    """One row a run. A run is as bad as its worst target."""

    maintenance_type = models.CharField(_("type"), max_length=10, choices=MaintenanceType)
    target_databases = models.JSONField(_("databases"))
    target_tables = models.JSONField(_("tables"), default=list, blank=True)
    severity_level = models.CharField(_("severity"), max_length=10, choices=SeverityLevel)
    reason = models.TextField(_("reason"))
    allow_data_loss = models.BooleanField(_("data loss allowed"), default=False)
    rehearsal = models.BooleanField(_("rehearsal on a copy"), default=False)
    """Nothing of the databases was touched; it counts in no figures."""

    rehearsed_in = models.ForeignKey(
        "self", verbose_name=_("rehearsed in"), null=True, on_delete=models.SET_NULL, related_name="launches"
    )

    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("requested by"), null=True, on_delete=models.SET_NULL, related_name="+"
    )
    requested_by_name = models.CharField(_("requested by (name)"), max_length=200)
    origin = models.CharField(_("origin"), max_length=20)
    request_key = models.CharField(_("key of the request"), max_length=200, null=True, editable=False)
    """Idempotency-Key of the API: one run for each key of a person."""

    agreed_plan = models.ForeignKey(
        StoredPlan, verbose_name=_("confirmed plan"), null=True, on_delete=models.SET_NULL, related_name="runs"
    )

    asked_settings = models.JSONField(_("settings when it was asked for"), default=dict, editable=False)
    """By database; what an approval is bound to."""

    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.QUEUED)
    ended_because = models.TextField(_("ended because"), blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)
    outage_seconds = models.FloatField(_("outage (s)"), null=True)
    cancel_requested_at = models.DateTimeField(_("cancel requested"), null=True)
    cancel_requested_by = models.CharField(_("cancel requested by"), max_length=200, blank=True)
    report_pdf = models.CharField(_("report"), max_length=500, blank=True)
    performance_csv = models.CharField(_("performance report"), max_length=500, blank=True)
    performance_removed_at = models.DateTimeField(_("measurements removed"), null=True)
    duration_seconds = models.FloatField(_("duration (s)"), null=True)
    """Kept beside its two ends, because pages add up years of runs."""

    objects = RunQuerySet.as_manager()

    class Meta:
        db_table = "tbl_096_maintenance_run"
        verbose_name = _("maintenance run")
        verbose_name_plural = _("maintenance runs")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["status", "id"]),
            models.Index(fields=["created_at", "id"]),
            models.Index(fields=["requested_by_name", "id"]),
            models.Index(fields=["maintenance_type", "id"]),
            models.Index(fields=["severity_level", "id"]),
        ]
        constraints = [models.UniqueConstraint(fields=["requested_by", "request_key"], name="one_run_a_request_key")]
        permissions = [
            ("launch_maintenance", "Can launch a maintenance"),
            ("approve_maintenance", "Can approve a maintenance"),
            ("break_glass", "Can begin a maintenance without the approval it needs"),
            ("cancel_maintenance", "Can cancel a maintenance"),
            ("allow_data_loss", "Can allow data loss in a maintenance"),
            ("read_reports", "Can read history, reports and trends"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        """As people say it: EM-2026-0147."""
        return f"EM-{self.created_at:%Y}-{self.pk:04d}"


class TargetQuerySet(models.QuerySet["RunTarget"]):
    """What is asked about run targets again and again."""

    def real(self) -> Self:
        """Those of runs that worked on the databases themselves: what figures count."""
        return self.filter(run__rehearsal=False)

    def active(self) -> Self:
        """Those that somebody works on or will."""
        return self.filter(status__in=ACTIVE)

    def in_work(self) -> Self:
        """Those that a worker has begun."""
        return self.filter(status__in=(Status.RUNNING, Status.CANCELLING))


class RunTarget(models.Model):
    """One database inside one run: the unit of work, of claiming and of recovery.

    Only `maintenance.workflow.journal` writes here after the launch.
    """

    run = models.ForeignKey(MaintenanceRun, on_delete=models.CASCADE, related_name="targets")
    setting = models.ForeignKey(MaintenanceSetting, null=True, on_delete=models.SET_NULL, related_name="targets")
    database = models.CharField(_("database"), max_length=63)
    engine = models.CharField(_("engine"), max_length=20)
    version = models.CharField(_("server version"), max_length=200, blank=True)
    identity = models.CharField(max_length=40, blank=True, editable=False)
    """Digest of `Facts.identity`: the database itself, under whatever name it is registered."""

    site = models.CharField(max_length=8, blank=True, editable=False)
    """Letters of the installation in every name on the target; empty for what was launched before there were any."""

    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.QUEUED)
    node = models.CharField(_("node of the flowchart"), max_length=2, default=Node.START.value)
    ending = models.CharField(_("status to end in"), max_length=20, choices=Status, blank=True)
    ended_because = MessageField(_("ended because"))

    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    round = models.PositiveIntegerField(_("round"), default=1)
    repairs = models.PositiveIntegerField(_("repairs after integrity errors"), default=0)
    token = models.PositiveIntegerField(_("fencing token"), default=0)
    worker = models.CharField(_("worker"), max_length=200, blank=True)
    lease_until = models.DateTimeField(_("lease until"), null=True)
    beat_at = models.DateTimeField(_("last heartbeat"), null=True)
    enqueued_at = models.DateTimeField(_("put on the queue"), null=True)
    black_box = models.CharField(_("black box"), max_length=600, blank=True)

    tables = models.JSONField(_("tables, canonical names"), null=True)
    plan = MessagesField(_("plan"), null=True)
    gate = models.JSONField(_("connection settings before"), null=True)
    image = models.JSONField(_("image for a rollback"), null=True)
    hold_lost = models.BooleanField(_("others may have written since the baseline"), default=False)
    progress = MessagesField(_("progress"), default=dict)

    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)
    outage_started_at = models.DateTimeField(_("outage began"), null=True)
    outage_ended_at = models.DateTimeField(_("outage ended"), null=True)
    released_at = models.DateTimeField(_("released by a person"), null=True)
    late_at = models.DateTimeField(_("told as late"), null=True)
    watch_until = models.DateTimeField(_("watched until"), null=True)

    ratio = models.FloatField(_("times after / before"), null=True)
    change = models.CharField(_("what became of the queries"), max_length=12, blank=True)
    ratio_low = models.FloatField(_("times after / before, at least"), null=True)
    ratio_high = models.FloatField(_("times after / before, at most"), null=True)
    """Both ends of its interval."""
    bytes_won = models.BigIntegerField(_("space won (bytes)"), null=True)
    out_seconds = models.FloatField(_("outage (s)"), null=True)
    """What came of it, written at the end of the run for pages that add up many; the records behind them go earlier."""

    objects = TargetQuerySet.as_manager()

    class Meta:
        db_table = "run_target"
        verbose_name = _("target of a run")
        verbose_name_plural = _("targets of runs")
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["run", "database"], name="one_target_a_database")]
        indexes = [
            models.Index(fields=["status", "lease_until"]),
            models.Index(fields=["database", "-id"]),
            models.Index(fields=["identity", "-id"]),
        ]

    def __str__(self) -> str:
        return f"{self.run} {self.database}"

    @property
    def outage_seconds(self) -> float:
        """From the first application stopped to everything back; goes on while it lasts."""
        if self.outage_started_at is None:
            return 0.0
        return ((self.outage_ended_at or timezone.now()) - self.outage_started_at).total_seconds()

    @property
    def outage_lasts(self) -> bool:
        """Also after the end of the run: who needs an operator is out of service until somebody released it."""
        return self.outage_started_at is not None and self.outage_ended_at is None

    @property
    def at_work(self) -> bool:
        """Whether pieces of work are under way."""
        return self.node == Node.MAINTAIN

    def deadline(self, limit: timedelta, reserve: timedelta) -> datetime | None:
        """When the work must stop so that `reserve` is left for a rollback."""
        return self.started_at + limit - reserve if self.started_at else None


def longest_outage(targets: Iterable[RunTarget]) -> float:
    """Seconds in which at least one target was out, overlaps counted once; goes on while one lasts."""
    spans = sorted((t.outage_started_at, t.outage_ended_at or timezone.now()) for t in targets if t.outage_started_at)
    total, end = 0.0, datetime.min.replace(tzinfo=timezone.get_current_timezone())
    for begun, over in spans:
        if over > end:
            total += (over - max(begun, end)).total_seconds()
            end = over
    return total


class ScopeHold(models.Model):
    """Held by the run that is active over a scope: 'all', or 'database:<name>'. Unique: one holder."""

    key = models.CharField(max_length=100, unique=True)
    run = models.ForeignKey(MaintenanceRun, on_delete=models.CASCADE, related_name="holds")
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "scope_hold"

    def __str__(self) -> str:
        return self.key


class MeasuringTurn(models.Model):
    """The one target of a run that measures just now, until `until` at the latest."""

    run = models.OneToOneField(MaintenanceRun, on_delete=models.CASCADE, related_name="measuring_turn")
    target = models.ForeignKey(RunTarget, on_delete=models.CASCADE, related_name="+")
    until = models.DateTimeField()

    class Meta:
        db_table = "measuring_turn"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.target_id} until {self.until:%H:%M:%S}"


class ApplicationHold(models.Model):
    """An application that a target of a run keeps stopped.

    Shared by several targets of the run: stopped by the first, started after the last.
    """

    run = models.ForeignKey(MaintenanceRun, on_delete=models.CASCADE, related_name="application_holds")
    target = models.ForeignKey(RunTarget, on_delete=models.CASCADE, related_name="application_holds")
    name = models.CharField(max_length=100)
    was_running = models.BooleanField()
    released_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "application_hold"
        constraints = [models.UniqueConstraint(fields=["target", "name"], name="one_hold_a_target")]

    def __str__(self) -> str:
        return f"{self.name} for {self.target}"
