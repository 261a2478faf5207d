"""TBL-097 DB状態管理: states over time of every target."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import MessageField, MessagesField


class DatabaseState(models.Model):
    """One look at a database: diagnosis, monitoring feed, after maintenance, or watch window."""

    class Source(models.TextChoices):
        DIAGNOSIS = "diagnosis", _("diagnosis")
        MONITORING = "monitoring", _("monitoring")
        AFTER = "after", _("after maintenance")
        WATCH = "watch", _("watch window")

    setting = models.ForeignKey("maintenance.MaintenanceSetting", on_delete=models.CASCADE, related_name="states")
    target = models.ForeignKey("maintenance.RunTarget", null=True, on_delete=models.SET_NULL, related_name="states")
    source = models.CharField(_("source"), max_length=12, choices=Source)
    state = models.CharField(_("state"), max_length=20)
    health = models.PositiveIntegerField(_("health score"), null=True)
    findings = MessagesField(_("findings"), default=list)
    tables = models.JSONField(_("tables"), default=list)
    size_bytes = models.BigIntegerField(_("size (bytes)"), null=True)
    free_bytes = models.BigIntegerField(_("free (bytes)"), null=True)
    connections = models.IntegerField(_("connections"), null=True)
    max_connections = models.IntegerField(_("connections allowed"), null=True)
    version = models.CharField(_("server version"), max_length=200, blank=True)
    error = MessageField(_("error"))
    measured_at = models.DateTimeField(_("measured"), default=timezone.now)

    class Meta:
        db_table = "tbl_097_database_state"
        verbose_name = _("database state")
        verbose_name_plural = _("database states")
        ordering = ["-id"]
        indexes = [models.Index(fields=["setting", "-measured_at"])]

    def __str__(self) -> str:
        return f"{self.setting} {self.state} {self.measured_at:%Y-%m-%d %H:%M}"
