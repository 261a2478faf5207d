"""Messages to people, written in the transaction of the event and delivered later."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import MessageField


class Notification(models.Model):
    """One message to one address of config.json. A dead mail server never delays the procedure."""

    run = models.ForeignKey(
        "maintenance.MaintenanceRun", null=True, on_delete=models.CASCADE, related_name="notifications"
    )
    """None: it is about the console itself."""
    audience = models.CharField(_("audience"), max_length=40)
    event = models.CharField(_("event"), max_length=40)
    channel = models.CharField(_("channel"), max_length=40, blank=True)
    """Scheme of the address: mailto, slack, twilio."""
    digest = models.CharField(max_length=64, blank=True, editable=False)
    """SHA-256 of the address, which itself may hold a secret and stays in config.json."""
    address = models.CharField(_("address, secrets hidden"), max_length=500, blank=True)
    repetition = models.PositiveIntegerField(_("repetition"), default=0)
    title = models.CharField(_("title"), max_length=300)
    body = models.TextField(_("body"))
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    delivered_at = models.DateTimeField(_("delivered"), null=True)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    next_try_at = models.DateTimeField(_("next try"), default=timezone.now)
    error = models.TextField(_("error"), blank=True)

    class Meta:
        db_table = "notification"
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        ordering = ["id"]
        indexes = [models.Index(fields=["delivered_at", "next_try_at"])]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "audience", "digest", "repetition"],
                condition=models.Q(event="needs_operator", repetition__gt=0),
                name="one_reminder_an_address",
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.audience}"


class Acknowledgement(models.Model):
    """Somebody is on a run that needs an operator; the reminders stop."""

    run = models.OneToOneField("maintenance.MaintenanceRun", on_delete=models.CASCADE, related_name="acknowledgement")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    by_name = models.CharField(_("acknowledged by"), max_length=200)
    at = models.DateTimeField(_("acknowledged"), default=timezone.now)

    class Meta:
        db_table = "acknowledgement"

    def __str__(self) -> str:
        return f"{self.run} acknowledged by {self.by_name}"


class ReleaseRequest(models.Model):
    """Somebody asked on a page to open a target again that waits for people; a worker does it."""

    target = models.ForeignKey("maintenance.RunTarget", on_delete=models.CASCADE, related_name="release_requests")
    by_name = models.CharField(_("asked by"), max_length=200)
    at = models.DateTimeField(_("asked"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished"), null=True)
    failed = MessageField(_("what could not be brought back"))

    class Meta:
        db_table = "release_request"
        default_permissions = ()
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.target} released by {self.by_name}"


class Comment(models.Model):
    """What somebody has to say of a run, for those who come after them; `handed_to` is who is on it from then on."""

    run = models.ForeignKey("maintenance.MaintenanceRun", on_delete=models.CASCADE, related_name="comments")
    by_name = models.CharField(_("written by"), max_length=200)
    at = models.DateTimeField(_("written"), default=timezone.now)
    text = models.TextField(_("comment"))
    handed_to = models.CharField(_("handed over to"), max_length=200, blank=True)

    class Meta:
        db_table = "run_comment"
        default_permissions = ()
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.run} by {self.by_name}"


class DailyWork(models.Model):
    """What every day needs once, and when it began last."""

    name = models.CharField(max_length=40, unique=True)
    begun_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "daily_work"
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Worker(models.Model):
    """A cluster that is alive says so here, every few seconds."""

    name = models.CharField(max_length=200, unique=True)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "worker"

    def __str__(self) -> str:
        return self.name
