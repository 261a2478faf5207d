"""How each database stands, worst first: what dashboard and list of databases tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, Subquery

from ..models import ACTIVE, BackupFile, DatabaseState, MaintenanceSetting, RunTarget
from .frame import waiting_for_people

ORDER = ("needs_operator", "maintenance", "critical", "unreachable", "degraded", "watch", "unknown", "well")
SEVERITIES = ("critical", "high", "medium", "low")
TROUBLE = frozenset({"needs_operator", "critical", "unreachable", "degraded"})


@dataclass(frozen=True)
class Standing:
    """`state` is the last look, `target` a maintenance that holds it now, `last` the last that ended."""

    setting: MaintenanceSetting
    word: str
    state: DatabaseState | None
    target: RunTarget | None
    last: RunTarget | None
    backup_at: datetime | None
    """Of the newest backup that read back whole."""

    @property
    def in_trouble(self) -> bool:
        return self.word in TROUBLE

    @property
    def worst(self) -> dict[str, Any] | None:
        """The finding to look at first."""
        found: Sequence[dict[str, Any]] = self.state.findings if self.state else []
        return min(found, key=lambda f: SEVERITIES.index(f["severity"])) if found else None

    @property
    def engine(self) -> str:
        return self.setting.url.split(":")[0].split("+")[0]

    @property
    def measured_at(self) -> datetime | None:
        return self.state.measured_at if self.state else None


def standings() -> list[Standing]:
    """Five queries, however many databases there are."""
    looks = DatabaseState.objects.filter(setting=OuterRef("pk")).order_by("-measured_at")
    targets = RunTarget.objects.filter(database=OuterRef("name"), finished_at__isnull=False).order_by("-id")
    backups = BackupFile.objects.filter(target__setting=OuterRef("pk"), verified=True).order_by("-id")
    settings = list(
        MaintenanceSetting.objects.filter(enabled=True).annotate(
            last_state=Subquery(looks.values("pk")[:1]),
            last_target=Subquery(targets.values("pk")[:1]),
            last_backup=Subquery(backups.values("created_at")[:1]),
        )
    )
    states = {
        s.setting_id: s for s in DatabaseState.objects.filter(pk__in=[s.last_state for s in settings]).defer("tables")
    }
    light = RunTarget.objects.defer("plan", "gate", "image").select_related("run")
    held = {t.database: t for t in light.filter(status__in=ACTIVE)}
    ended = {t.pk: t for t in light.filter(pk__in=[s.last_target for s in settings])}
    stuck = {t.database for t in waiting_for_people()}
    found = []
    for setting in settings:
        state, target = states.get(setting.pk), held.get(setting.name)
        word = (
            "maintenance"
            if target
            else "needs_operator"
            if setting.name in stuck
            else state.state
            if state
            else "unknown"
        )
        found.append(Standing(setting, word, state, target, ended.get(setting.last_target), setting.last_backup))
    return sorted(found, key=_badness)


def _badness(standing: Standing) -> tuple[int, int, str]:
    place = ORDER.index(standing.word) if standing.word in ORDER else 0
    health = standing.state.health if standing.state and standing.state.health is not None else 101
    return place, health, standing.setting.name
