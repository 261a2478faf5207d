"""Messages to people, written in the transaction of the event and delivered later."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Notification(models.Model):
    """One message to one audience of config.json. A dead mail server never delays the procedure."""

    run = models.ForeignKey("maintenance.MaintenanceRun", on_delete=models.CASCADE, related_name="notifications")
    audience = models.CharField(_("audience"), max_length=40)
    event = models.CharField(_("event"), max_length=40)
    title = models.CharField(_("title"), max_length=300)
    body = models.TextField(_("body"))
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    delivered_at = models.DateTimeField(_("delivered"), null=True)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    next_try_at = models.DateTimeField(_("next try"), default=timezone.now)
    error = models.TextField(_("error"), blank=True)

    class Meta:
        db_table = "notification"
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.event} to {self.audience}"


class Worker(models.Model):
    """A cluster that is alive says so here, every few seconds."""

    name = models.CharField(max_length=200, unique=True)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "worker"

    def __str__(self) -> str:
        return self.name
