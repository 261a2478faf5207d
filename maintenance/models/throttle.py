"""What was tried in vain, and from where people have signed in before."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class FailedTries(models.Model):
    """Of one account at one address, of an address, or of an account."""

    key = models.CharField(max_length=250, unique=True)
    count = models.PositiveIntegerField(default=1)
    turned_away = models.PositiveIntegerField(default=0)
    """Tries since then that were not even looked at."""
    last_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "failed_tries"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"


class KnownAddress(models.Model):
    """A person signed in from here before: what strangers try elsewhere, or beside them, does not lock them out."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    address = models.CharField(max_length=64)
    last_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "known_address"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user", "address"], name="one_known_address")]

    def __str__(self) -> str:
        return f"{self.user} {self.address}"
