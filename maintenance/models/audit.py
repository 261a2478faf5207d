"""The audit log: a chain in which every entry carries the hash of the one before."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class AuditEntry(models.Model):
    """Written only by `maintenance.auditing.chain.record`; never changed, never deleted one by one."""

    at = models.DateTimeField(_("at"), default=timezone.now)
    actor = models.CharField(_("who"), max_length=200)
    operation = models.CharField(_("operation"), max_length=60)
    object = models.CharField(_("object"), max_length=200)
    before = models.JSONField(_("before"), null=True)
    after = models.JSONField(_("after"), null=True)
    after_break = models.BooleanField(_("after a break"), default=False)
    """Written after the chain was found broken, and before a person accepted that."""
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        db_table = "audit_entry"
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        ordering = ["id"]
        indexes = [models.Index(fields=["object", "id"], name="entries_of_an_object")]
        default_permissions = ("view",)
        permissions = [("verify_audit", "Can verify the audit log")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.operation} {self.object}"


class AuditHead(models.Model):
    """The one row every new entry locks, so that the chain has one order. It proves nothing: nobody signs it."""

    hash = models.CharField(max_length=64)
    entries = models.BigIntegerField(default=0)

    class Meta:
        db_table = "audit_head"
        default_permissions = ()

    def __str__(self) -> str:
        return self.hash


class AuditSignature(models.Model):
    """How far a file of checkpoints goes. Signed with a key outside the database, so nobody can set it back unseen."""

    file = models.CharField(max_length=32, unique=True)
    kind = models.CharField(max_length=10)
    """`head`, or `broken` from the time on when the chain was found to be."""
    entries = models.BigIntegerField()
    hash = models.CharField(max_length=64)
    signature = models.CharField(max_length=128)
    at = models.DateTimeField(_("at"), default=timezone.now)

    class Meta:
        db_table = "audit_signature"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.entries} entries ({self.kind})"


class AuditSeal(models.Model):
    """The first `entries` entries prove nothing any more, the chain goes on from `hash`.

    Retention removed them, or a person accepted that they are broken and said why (`accepted_because`).
    """

    entries = models.BigIntegerField(unique=True)
    hash = models.CharField(max_length=64)
    signature = models.CharField(max_length=128)
    until = models.DateTimeField(_("until"))
    by = models.CharField(_("who"), max_length=200)
    accepted_because = models.TextField(_("accepted because"), blank=True)
    sealed_at = models.DateTimeField(_("at"), default=timezone.now)

    class Meta:
        db_table = "audit_seal"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.entries} entries until {self.until:%Y-%m-%d}"
