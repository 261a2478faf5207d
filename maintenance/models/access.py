"""Who may do what beyond a login: tokens for machines, approvals by a second person; and how they like it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Preference(models.Model):
    """How a person wants pages. What is empty is as their browser asks."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="preference")
    language = models.CharField(_("language"), max_length=10, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True)

    class Meta:
        db_table = "preference"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.user}: {self.language} {self.time_zone}"


class ApiToken(models.Model):
    """A bearer token; only its SHA-256 is kept."""

    class Scope(models.TextChoices):
        """What a token may be used for, within what its owner may do."""

        READ = "read", _("read states and history")
        MONITOR = "monitor", _("post states (monitoring)")
        ALERT = "alert", _("open incidents (Alertmanager)")
        LAUNCH = "launch", _("launch maintenance")
        APPROVE = "approve", _("approve maintenance that others asked for")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=100)
    sha256 = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(_("scopes"), default=list)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires"))
    last_used_at = models.DateTimeField(_("last used"), null=True)
    seal = models.CharField(max_length=64)
    """Over what it may do and how its owner stood when it was made: of a row that anybody else wrote it is wrong."""

    class Meta:
        db_table = "api_token"

    def __str__(self) -> str:
        return self.name


class Approval(models.Model):
    """A second person's word on a run: the one who asked cannot give it. Or why it began without."""

    run = models.OneToOneField("maintenance.MaintenanceRun", on_delete=models.CASCADE, related_name="approval")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    by_name = models.CharField(_("approved by"), max_length=200)
    at = models.DateTimeField(_("approved"), default=timezone.now)
    broken_glass = models.TextField(_("began without approval because"), blank=True)
    """Empty where a second person approved."""
    digest = models.CharField(max_length=64, blank=True, editable=False)
    """Of the plan and the settings that were approved, or with which the glass was broken."""

    class Meta:
        db_table = "approval"

    def __str__(self) -> str:
        return f"{self.run} {'begun without approval' if self.broken_glass else 'approved'} by {self.by_name}"
