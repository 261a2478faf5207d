"""Incidents: alerts of monitoring wait here for a person, and pre-fill the launch form. They start nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.engines.values import Json
from maintenance.models import Incident, MaintenanceSetting, MaintenanceType, SeverityLevel

SEVERITIES = {
    "critical": SeverityLevel.CRITICAL,
    "page": SeverityLevel.CRITICAL,
    "high": SeverityLevel.HIGH,
    "error": SeverityLevel.HIGH,
}
"""Words of the label `severity` that are in use; any other is medium."""


@dataclass(frozen=True)
class Alert:
    """What Alertmanager tells of one alert."""

    fingerprint: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime | None
    """None while it fires."""
    url: str = ""


def take(actor: str, alerts: Sequence[Alert]) -> list[Incident]:
    """Open, renew and close incidents in one commit with their audit entries. Told twice, it changes nothing."""
    names = {alert.labels.get("database", "") for alert in alerts}
    known = {s.name: s for s in MaintenanceSetting.objects.filter(enabled=True, name__in=names)}
    with transaction.atomic():
        found = [_take(actor, alert, known.get(alert.labels.get("database", ""))) for alert in alerts]
    return [incident for incident in found if incident is not None]


def _take(actor: str, alert: Alert, setting: MaintenanceSetting | None) -> Incident | None:
    if alert.ends_at is not None:
        return _resolve(actor, alert)
    incident, opened = Incident.objects.update_or_create(
        fingerprint=alert.fingerprint,
        opened_at=alert.starts_at,
        defaults={
            "setting": setting,
            "database": alert.labels.get("database", "")[:200],
            "alert": alert.labels.get("alertname", "")[:200],
            "severity_level": SEVERITIES.get(alert.labels.get("severity", ""), SeverityLevel.MEDIUM),
            "maintenance_type": _type(alert.labels.get("maintenance_type", "")),
            "summary": alert.annotations.get("summary") or alert.annotations.get("description", ""),
            "labels": dict(alert.labels),
            "url": alert.url[:1000],
            "seen_at": timezone.now(),
        },
    )
    if opened:
        told: Json = {"alert": incident.alert, "database": incident.database, "severity_level": incident.severity_level}
        chain.record(actor, "incident.opened", f"incident {incident.pk}", after=told)
    return incident


def _resolve(actor: str, alert: Alert) -> Incident | None:
    """None when it never was an incident here."""
    incident = Incident.objects.filter(fingerprint=alert.fingerprint, opened_at=alert.starts_at).first()
    if incident is not None:
        _close(actor, incident, alert.ends_at or timezone.now())
    return incident


def close(actor: str, incident: Incident) -> bool:
    """Close it by a person's word; return False when it was closed already."""
    with transaction.atomic():
        return _close(actor, incident, timezone.now())


def _close(actor: str, incident: Incident, at: datetime) -> bool:
    closed = Incident.objects.filter(pk=incident.pk, closed_at=None).update(closed_at=at, closed_by=actor)
    if closed:
        chain.record(actor, "incident.closed", f"incident {incident.pk}")
        incident.closed_at, incident.closed_by = at, actor
    return bool(closed)


def _type(word: str) -> str:
    return word if word in MaintenanceType.values else ""
