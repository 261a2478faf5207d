"""Which rehearsal a maintenance may refer to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.utils import timezone

from maintenance.models import MaintenanceRun, Status

from .request import Request

TELLS = timedelta(days=7)
"""A rehearsal says nothing of a database as it is a week later."""


def rehearsed(request: Request, databases: Sequence[str]) -> MaintenanceRun | None:
    """Return the newest rehearsal of the same work on the same databases that succeeded; None without one."""
    candidates = MaintenanceRun.objects.filter(
        rehearsal=True,
        status=Status.SUCCEEDED,
        maintenance_type=request.maintenance_type,
        allow_data_loss=request.allow_data_loss,
        finished_at__gt=timezone.now() - TELLS,
    )
    for run in candidates.order_by("-id"):
        if sorted(run.target_databases) == sorted(databases) and run.target_tables == list(request.target_tables):
            return run
    return None
