"""Plans as people saw them before they confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import MessageField, MessagesField

if TYPE_CHECKING:
    from .run import MaintenanceRun


class StoredPlan(models.Model):
    """Asked for, then made by a worker: `targets` when it could be made, else `refused`."""

    asked_by = models.CharField(_("asked by"), max_length=200)
    request = models.JSONField(_("request"))
    """The specification's parameters, as `Request` has them."""
    targets = MessagesField(_("plan"), default=list)
    refused = MessageField(_("refused because"))
    asked_at = models.DateTimeField(_("asked"), default=timezone.now)
    made_at = models.DateTimeField(_("made"), null=True)

    class Meta:
        db_table = "stored_plan"
        ordering = ["id"]

    def __str__(self) -> str:
        return f"plan {self.pk}"

    def launched(self) -> MaintenanceRun | None:
        """Return the run that carried it out, or will; a rehearsal of it is none."""
        return self.runs.filter(rehearsal=False).first()

    def actions(self, database: str) -> list[dict[str, Any]]:
        """The actions on one database, as JSON types."""
        return next((target["actions"] for target in self.targets if target["database"] == database), [])

    def work(self) -> list[tuple[str, str, str]]:
        """(database, object, kind) of every action, sorted: what two plans are compared by, because sizes and
        sessions change from second to second."""
        return sorted((t["database"], a["object"], a["kind"]) for t in self.targets for a in t["actions"])
