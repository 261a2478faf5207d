"""What a run leaves behind: journal lines, actions, measurements, backup files."""

from __future__ import annotations

from typing import cast

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .evidence import E, StepEvidence
from .fields import MessageField, MessagesField


class StepState(models.TextChoices):
    STARTED = "started", _("started")
    FINISHED = "finished", _("finished")
    FAILED = "failed", _("failed")
    INTERRUPTED = "interrupted", _("interrupted")
    UNDONE = "undone", _("undone")


class StepRecord(models.Model):
    """One line of the journal: a step of the flowchart, or (with `part`) one effect inside it.

    Committed as 'started' before the effect and as 'finished' after it.
    """

    target = models.ForeignKey("maintenance.RunTarget", on_delete=models.CASCADE, related_name="steps")
    node = models.CharField(_("node"), max_length=2)
    step = models.CharField(_("step"), max_length=40)
    part = models.CharField(_("part"), max_length=100, blank=True)
    round = models.PositiveIntegerField(_("round"), default=1)
    attempt = models.PositiveIntegerField(_("attempt"), default=1)
    state = models.CharField(_("state"), max_length=12, choices=StepState, default=StepState.STARTED)
    sentence = MessageField(_("sentence"))
    before = models.JSONField(_("state before"), null=True)
    result = MessagesField(_("result"), null=True)
    token = models.PositiveIntegerField(_("fencing token"))
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        db_table = "step_record"
        ordering = ["id"]
        indexes = [models.Index(fields=["target", "node", "part"])]

    def __str__(self) -> str:
        return f"{self.step} {self.part} {self.state}".replace("  ", " ")

    @property
    def seconds(self) -> float | None:
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None

    def evidence(self, kind: type[E]) -> E:
        """Return what the effect left. Raises TypeError or KeyError where it left something else."""
        return kind.from_json(self.result or {})

    def keep(self, evidence: StepEvidence) -> None:
        """Set what the effect left; the caller saves."""
        self.result = evidence.to_json()


class ActionRecord(models.Model):
    """One piece of maintenance on one object, with what was observed of its effect."""

    target = models.ForeignKey("maintenance.RunTarget", on_delete=models.CASCADE, related_name="actions")
    round = models.PositiveIntegerField(_("round"), default=1)
    object = models.CharField(_("object"), max_length=500)
    action = models.CharField(_("action"), max_length=60)
    reason = MessageField(_("reason"))
    state = models.CharField(_("state"), max_length=12, choices=StepState, default=StepState.STARTED)
    sentence = MessageField(_("sentence"))
    bytes_before = models.BigIntegerField(_("bytes before"), null=True)
    bytes_after = models.BigIntegerField(_("bytes after"), null=True)
    losses = MessagesField(_("rows lost"), default=list)
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        db_table = "action_record"
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.action} {self.object} {self.state}"

    @property
    def seconds(self) -> float | None:
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None


class Measurement(models.Model):
    """One query measured in one block of a phase: times in ms, deterministic cost in `cost_unit`."""

    target = models.ForeignKey("maintenance.RunTarget", on_delete=models.CASCADE, related_name="measurements")
    phase = models.CharField(_("phase"), max_length=6, choices=[("before", _("before")), ("after", _("after"))])
    round = models.PositiveIntegerField(_("round"), default=1)
    block = models.PositiveSmallIntegerField(_("block"), default=1)
    query = models.TextField(_("query"))
    times_ms = models.JSONField(_("times (ms)"))
    control_ms = models.JSONField(_("times of the control query (ms)"), default=list)
    cut_short = models.BooleanField(_("did not end in its time"), default=False)
    cost = models.BigIntegerField(_("cost"), null=True)
    cost_unit = models.CharField(_("unit of cost"), max_length=60, blank=True)
    rows = models.BigIntegerField(_("rows"), null=True)
    error = models.TextField(_("error"), blank=True)
    measured_at = models.DateTimeField(_("measured"), default=timezone.now)

    class Meta:
        db_table = "measurement"
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["target", "phase", "round", "block", "query"], name="one_measurement_a_block"
            )
        ]

    def __str__(self) -> str:
        return f"{self.phase}: {self.query}"


class BackupFile(models.Model):
    """A backup that reads back, or a record of one that failed (`verified` false, `error` set)."""

    target = models.ForeignKey("maintenance.RunTarget", on_delete=models.CASCADE, related_name="backup_files")
    role = models.CharField(
        _("role"),
        max_length=10,
        choices=[("primary", _("primary")), ("alternate", _("alternate")), ("catch_up", _("catch-up"))],
    )
    method = models.CharField(_("method"), max_length=40)
    path = models.CharField(_("path"), max_length=600)
    bytes = models.BigIntegerField(_("bytes"), null=True)
    sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    verified = models.BooleanField(_("read back whole"), default=False)
    error = MessageField(_("error"))
    snapshot = models.JSONField(_("fingerprints of its content"), default=dict)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    removed_at = models.DateTimeField(_("removed"), null=True)

    class Meta:
        db_table = "backup_file"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.path

    @property
    def trouble(self) -> str:
        """Why it does not count, without the kind of the error, which is for machines."""
        return str(self.error) if "error" not in self.error.values else cast(str, self.error.values["error"])
