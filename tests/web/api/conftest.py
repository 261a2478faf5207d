"""Callers with tokens, and a database whose password must never be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache

from maintenance.api import tokens
from maintenance.models import MaintenanceSetting
from tests.web.api.calling import ALL, CANARY, Caller, Machine, Register


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def machine(people: dict[str, User]) -> Caller:
    """A caller with a token of one of the people, 'monitoring' too."""
    people["monitoring"] = User.objects.create_user("monitoring", password="monitoring-password")
    people["monitoring"].groups.add(Group.objects.get(name="Monitoring"))

    def make(who: str = "dba", *scopes: str, days: float = 1) -> Machine:
        plain, _ = tokens.issue(people[who], "a test", scopes or ALL, timedelta(days=days), "a test")
        return Machine(plain)

    return make


@pytest.fixture
def shop(fake: Register) -> MaintenanceSetting:
    """A database whose password must never be seen."""
    setting = fake("shop")
    setting.password = CANARY
    setting.save()
    return setting


@pytest.fixture
def connection_queries() -> Callable[[Callable[[], Any]], int]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def count(call: Callable[[], Any]) -> int:
        with CaptureQueriesContext(connection) as caught:
            assert call().status_code == 200
        return len(caught)

    return count
