"""What monitoring brings by itself: incidents that it opens, and the feed of its measurements."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import MessageField, MessagesField
from .run import MaintenanceType, SeverityLevel


class Incident(models.Model):
    """One alert, from its first firing until it is resolved or a person closes it. It launches nothing."""

    fingerprint = models.CharField(max_length=100)
    setting = models.ForeignKey(
        "maintenance.MaintenanceSetting", null=True, on_delete=models.SET_NULL, related_name="incidents"
    )
    """None: the labels name no database that is registered."""
    database = models.CharField(_("database"), max_length=200, blank=True)
    alert = models.CharField(_("alert"), max_length=200)
    severity_level = models.CharField(_("severity"), max_length=10, choices=SeverityLevel)
    maintenance_type = models.CharField(_("suggested type"), max_length=10, choices=MaintenanceType, blank=True)
    summary = models.TextField(_("summary"), blank=True)
    labels = models.JSONField(_("labels"), default=dict)
    url = models.CharField(_("source"), max_length=1000, blank=True)
    opened_at = models.DateTimeField(_("opened"))
    seen_at = models.DateTimeField(_("last told"), default=timezone.now)
    closed_at = models.DateTimeField(_("closed"), null=True)
    closed_by = models.CharField(_("closed by"), max_length=200, blank=True)

    class Meta:
        db_table = "incident"
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["fingerprint", "opened_at"], name="one_incident_a_firing")]
        indexes = [models.Index(fields=["closed_at", "-id"])]

    def __str__(self) -> str:
        return f"{self.alert} {self.database}".strip()


class Feed(models.Model):
    """Measurements that this console fetches itself; what could not be fetched stands here."""

    name = models.CharField(_("name"), max_length=40, unique=True)
    tried_at = models.DateTimeField(_("last try"), null=True)
    read_at = models.DateTimeField(_("last success"), null=True)
    error = MessageField(_("error"))
    problems = MessagesField(_("problems"), default=dict)
    """Database -> what of it could not be measured, one message each."""

    class Meta:
        db_table = "feed"

    def __str__(self) -> str:
        return self.name
