"""Looks at databases outside a run: on demand, and at short intervals after a maintenance."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from maintenance.conf.secrets import mark_reader
from maintenance.engines import open_engine
from maintenance.engines.errors import EngineError
from maintenance.engines.values import Tag
from maintenance.models import DatabaseState, MaintenanceSetting, RunTarget
from maintenance.models.recording import write_state


def looking() -> Tag:
    """Return the tag of sessions that belong to no run."""
    return Tag(0, 0, signer=mark_reader())


def look(setting_id: int, source: DatabaseState.Source | None = None) -> DatabaseState:
    """Write a row of TBL-097 and return it; an unreachable database is a state too."""
    setting = MaintenanceSetting.objects.get(pk=setting_id)
    if source is None:
        source = DatabaseState.Source.WATCH if setting_id in _watched() else DatabaseState.Source.DIAGNOSIS
    engine = open_engine(setting.engine_url, looking(), setting.limits)
    try:
        return write_state(setting, source, engine.diagnostics.diagnose(setting.thresholds))
    except EngineError as error:
        return DatabaseState.objects.create(setting=setting, source=source, state="unreachable", error=error.sentence)
    finally:
        engine.close()


def _watched() -> set[int]:
    found = RunTarget.objects.filter(watch_until__gt=timezone.now(), setting__isnull=False)
    return {x for x in found.values_list("setting_id", flat=True) if x is not None}


def due() -> list[int]:
    """Return settings in their watch window whose last look is older than their interval."""
    found = []
    for setting in MaintenanceSetting.objects.filter(pk__in=_watched()):
        last = setting.states.order_by("-id").first()
        if last is None or last.measured_at < timezone.now() - timedelta(seconds=setting.watch_interval_seconds):
            found.append(setting.pk)
    return found
