"""What a second person's word is bound to: the settings and the plan a maintenance was asked with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from maintenance.conf import config

from .run import MaintenanceRun
from .setting import MaintenanceSetting

UNBOUND = {"id", "sealed_password", "proposed_rule", "created_at", "updated_at"}
"""Columns of TBL-098 that change nothing of the work."""


def asked_with(settings: Iterable[MaintenanceSetting]) -> dict[str, Any]:
    """Every setting of these databases, and the commands of their applications, by database; JSON types."""
    known = config.load().applications
    return {
        setting.name: {
            **{f.name: getattr(setting, f.name) for f in MaintenanceSetting._meta.fields if f.name not in UNBOUND},
            "commands": {name: _json(asdict(known[name])) for name in setting.applications if name in known},
        }
        for setting in settings
    }


def changed_since(run: MaintenanceRun) -> list[str]:
    """Names such as `shop.backup_dir` of what is not as it was when the run was asked for; empty where nothing is."""
    return [name for name, _, _ in changes_since(run)]


def changes_since(run: MaintenanceRun) -> list[tuple[str, object, object]]:
    """The same with what it was then, and what it is now."""
    names = list(run.asked_settings)
    now = _json(asked_with(MaintenanceSetting.objects.filter(name__in=names)))
    found = []
    for name in names:
        before, after = run.asked_settings[name], now.get(name, {})
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                found.append((f"{name}.{key}", before.get(key), after.get(key)))
    return found


def digest(run: MaintenanceRun) -> str:
    """Of plan and settings as the run was asked for with them: 64 hexadecimal characters."""
    plan = run.agreed_plan.targets if run.agreed_plan else None
    return hashlib.sha256(json.dumps([run.asked_settings, plan], sort_keys=True).encode()).hexdigest()


def settings_digest(setting: MaintenanceSetting) -> str:
    """Of the settings of one database and the commands of its applications: 64 hexadecimal characters."""
    return hashlib.sha256(json.dumps(asked_with([setting]), sort_keys=True).encode()).hexdigest()


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))
