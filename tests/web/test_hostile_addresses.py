"""What people, and programs that try doors, write behind the question mark: never an error of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from maintenance.models import MaintenanceRun

from .test_permissions import ANSWERS, OK, address, world

__all__ = ["world"]

NAMES = [
    *("actor", "after", "change", "database", "databases", "incident", "maintenance_type", "month", "name", "next"),
    *("object", "offset", "operation", "page", "repeat", "severity_level", "since", "sort", "status", "tables", "text"),
    *("until", "who"),
]
VALUES = ["", "-1", "9" * 30, "9" * 5000, "²", "\x00", "'", "日本", "nan", "0001-01-01", "9999-12-31", "2026-13-45"]
PAGES = [
    (name, "auditor" if answers[3] != OK else "dba")
    for (method, name), answers in ANSWERS.items()
    if method == "GET" and (OK in answers or 286 in answers) and not name.startswith("admin:")
]


@pytest.mark.every(3)
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.long
@pytest.mark.django_db
def test_no_value_in_an_address_is_an_error_of_ours(
    value: str, world: dict[str, str], as_: Callable[[str], Client]
) -> None:
    query = dict.fromkeys(NAMES, value)
    people = {person: as_(person) for person in {person for _, person in PAGES}}
    answers = {name: people[person].get(address(name, world), query).status_code for name, person in PAGES}
    assert {name: status for name, status in answers.items() if status >= 500} == {}
    assert MaintenanceRun.objects.count() == 1
