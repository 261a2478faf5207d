"""The plan a person sees before anything is changed: made from a read-only look, and kept as it was seen."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.utils import timezone

from maintenance.engines.errors import EngineError
from maintenance.engines.messages import Message, msg
from maintenance.models import MaintenanceSetting, StoredPlan
from maintenance.models.asked import settings_digest
from maintenance.results import remedies
from maintenance.workflow.steps.decide import refuse_without_room

from .request import BadInput, Checked, Refused, Request, check, engine_of

UNUSED = timedelta(days=1)


def plan(request: Request) -> list[dict[str, Any]]:
    """Return what would be done in each database, and why, as JSON types; changes nothing. Raises BadInput."""
    checked = check(request)
    return [_plan_one(checked, setting) for setting in checked.settings]


def make(plan_id: int) -> None:
    """Fill the plan that a person asked for, or say why there is none: a worker's part."""
    asked = StoredPlan.objects.filter(pk=plan_id, made_at=None).first()
    if asked is None:
        return
    try:
        asked.targets = plan(Request(**asked.request))
    except Refused as refusal:
        asked.refused = refusal.sentence
    except Exception as error:
        # Whoever waits before the page has to learn of it; the worker's own log gets the traceback.
        asked.refused = msg(
            "A bug in the console during {step}: {kind}: {error}",
            step="plan",
            kind=type(error).__name__,
            error=str(error),
        )
        raise
    finally:
        asked.made_at = timezone.now()
        asked.save()


def forget_unused() -> None:
    """Delete plans that nobody launched within `UNUSED`."""
    StoredPlan.objects.filter(runs=None, asked_at__lt=timezone.now() - UNUSED).delete()


def plan_now(asked_by: str, request: Request) -> StoredPlan:
    """Make and keep a plan at once, for callers that wait. Raises BadInput."""
    forget_unused()
    return StoredPlan.objects.create(
        asked_by=asked_by, request=request.stored(), targets=plan(request), made_at=timezone.now()
    )


def _plan_one(checked: Checked, setting: MaintenanceSetting) -> dict[str, Any]:
    request = checked.request
    tables = checked.tables[setting.name] or None
    engine = engine_of(setting)
    try:
        diagnosis = engine.diagnostics.diagnose(setting.thresholds, tables)
        actions = engine.planner.plan(
            request.maintenance_type,  # type: ignore[arg-type]
            diagnosis,
            setting.thresholds,
            tables,
            request.allow_data_loss,
        )
        refused: Message | None = None
        try:
            refuse_without_room(actions, diagnosis, setting.limits.jobs, setting.name)
        except EngineError as error:
            refused = error.sentence
    except EngineError as error:
        raise BadInput(msg("{database}: {error}", database=setting.name, error=error.sentence)) from error
    finally:
        engine.close()
    way_back = engine.rollback.way_back(diagnosis, setting.restore_budget)
    at_once = sum(sorted((a.disk_bytes for a in actions), reverse=True)[: setting.limits.jobs])
    findings, work = [asdict(finding) for finding in diagnosis.findings], [asdict(action) for action in actions]
    return {
        "database": setting.name,
        "engine": engine.name,
        "version": diagnosis.version,
        "size_bytes": diagnosis.size_bytes,
        "free_bytes": diagnosis.free_bytes,
        "connections": diagnosis.connections,
        "applications": setting.applications,
        "settings": settings_digest(setting),
        "refused": refused,
        "findings": findings,
        "left": remedies.left(findings, work, request.maintenance_type, {fact.name for fact in diagnosis.tables}),
        "actions": work,
        "backup_dir": setting.backup_dir,
        "disk_needed_bytes": at_once + way_back.bytes,
        "copy_bytes": way_back.bytes,
        "restore_test": way_back.extent,
        "restore_test_leaves_open": way_back.leaves_open,
    }
