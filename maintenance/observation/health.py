"""How each database stands, worst first: what dashboard and list of databases tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, Subquery

from maintenance.models import BackupFile, DatabaseState, MaintenanceSetting, RunTarget
from maintenance.models.querysets import waiting_for_people
from maintenance.results.remedies import recommended
from maintenance.workflow.lease import worker_lost

ORDER = ("needs_operator", "maintenance", "critical", "unreachable", "degraded", "watch", "unknown", "well")
SEVERITIES = ("critical", "high", "medium", "low")
MONITORING = DatabaseState.Source.MONITORING
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
    stuck: RunTarget | None = None
    """What left it closed for people."""

    @property
    def in_trouble(self) -> bool:
        return self.word in TROUBLE

    @property
    def worker_lost(self) -> bool:
        return self.target is not None and worker_lost(self.target)

    @property
    def worst(self) -> dict[str, Any] | None:
        """Return the finding to look at first; None without any."""
        found: Sequence[dict[str, Any]] = self.state.findings if self.state else []
        return min(found, key=lambda f: SEVERITIES.index(f["severity"])) if found else None

    @property
    def recommended(self) -> str:
        """The type of maintenance to begin with; '' where none mends what was found."""
        kind = recommended(self.state.findings) if self.state else None
        return "" if kind is None else kind.value

    @property
    def engine(self) -> str:
        return self.setting.url.split(":")[0].split("+")[0]

    @property
    def measured_at(self) -> datetime | None:
        return self.state.measured_at if self.state else None


def worst_first(findings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the findings by severity."""
    return sorted(findings, key=lambda f: SEVERITIES.index(f["severity"]))


def standings() -> list[Standing]:
    """Return how each database stands by five queries, however many there are."""
    looks = DatabaseState.objects.filter(setting=OuterRef("pk")).order_by("-measured_at")
    targets = RunTarget.objects.real().filter(database=OuterRef("name"), finished_at__isnull=False).order_by("-id")
    backups = BackupFile.objects.filter(
        target__setting=OuterRef("pk"), target__run__rehearsal=False, verified=True
    ).order_by("-id")
    settings = list(
        MaintenanceSetting.objects.filter(enabled=True).annotate(
            last_look=Subquery(looks.exclude(source=MONITORING).values("pk")[:1]),
            last_told=Subquery(looks.filter(source=MONITORING).values("pk")[:1]),
            last_target=Subquery(targets.values("pk")[:1]),
            last_backup=Subquery(backups.values("created_at")[:1]),
        )
    )
    wanted = [pk for s in settings for pk in (s.last_look, s.last_told)]
    states = {s.pk: s for s in DatabaseState.objects.filter(pk__in=wanted).defer("tables")}
    light = RunTarget.objects.defer("plan", "gate", "image").select_related("run")
    held = {t.database: t for t in light.real().active().order_by()}
    ended = {t.pk: t for t in light.filter(pk__in=[s.last_target for s in settings])}
    stuck = {t.database: t for t in waiting_for_people()}
    found = []
    for setting in settings:
        state = _what_counts(states.get(setting.last_look), states.get(setting.last_told))
        target = held.get(setting.name)
        word = (
            "maintenance"
            if target
            else "needs_operator"
            if setting.name in stuck
            else state.state
            if state
            else "unknown"
        )
        last = ended.get(setting.last_target)
        found.append(
            Standing(
                setting, word, state, target, last, setting.last_backup, None if target else stuck.get(setting.name)
            )
        )
    return sorted(found, key=_badness)


def _what_counts(look: DatabaseState | None, told: DatabaseState | None) -> DatabaseState | None:
    """Monitoring sees less than a look of our own: newer word of it counts unless it would hide what we found."""
    if look is None or told is None:
        return look or told
    if told.measured_at <= look.measured_at or told.state == "unknown":
        return look
    if look.state == "unreachable" or _place(told.state) < _place(look.state):
        return told
    return told if told.state == look.state and told.health is not None else look


def _place(word: str) -> int:
    return ORDER.index(word) if word in ORDER else 0


def _badness(standing: Standing) -> tuple[int, int, str]:
    health = standing.state.health if standing.state and standing.state.health is not None else 101
    return _place(standing.word), health, standing.setting.name
