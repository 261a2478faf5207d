"""Which of two looks counts: our own, or what monitoring told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from maintenance.models import DatabaseState, MaintenanceSetting
from maintenance.observation.health import standings


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("own", "told", "health", "source"),
    [
        (None, "well", None, "monitoring"),
        ("critical", None, None, "diagnosis"),
        ("critical", "well", 99, "diagnosis"),
        ("well", "degraded", None, "monitoring"),
        ("well", "well", None, "diagnosis"),
        ("well", "well", 97, "monitoring"),
        ("unreachable", "well", None, "monitoring"),
        ("well", "unreachable", None, "monitoring"),
    ],
)
def test_what_monitoring_tells_later_never_hides_what_was_found(
    fake: Callable[..., MaintenanceSetting], own: str | None, told: str | None, health: int | None, source: str
) -> None:
    shop = fake("shop")
    now = timezone.now()
    if own:
        before = now - timedelta(minutes=1)
        DatabaseState.objects.create(setting=shop, source="diagnosis", state=own, health=40, measured_at=before)
    if told:
        DatabaseState.objects.create(setting=shop, source="monitoring", state=told, health=health, measured_at=now)
    [standing] = standings()
    assert standing.state is not None
    assert standing.state.source == source


@pytest.mark.django_db
def test_an_older_word_of_monitoring_does_not_count(fake: Callable[..., MaintenanceSetting]) -> None:
    shop = fake("shop")
    now = timezone.now()
    DatabaseState.objects.create(
        setting=shop, source="monitoring", state="critical", measured_at=now - timedelta(days=1)
    )
    DatabaseState.objects.create(setting=shop, source="diagnosis", state="well", measured_at=now)
    assert standings()[0].word == "well"
