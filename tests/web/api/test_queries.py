"""The number of queries does not grow with what is there."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from maintenance.models import Status
from tests import records
from tests.web.api.calling import Caller, Register


@pytest.mark.django_db
class TestQueries:
    """Their number does not grow with what is there."""

    @pytest.mark.parametrize("path", ["databases", "databases/db1/status", "maintenance", "maintenance/{id}"])
    def test_constant(
        self, machine: Caller, fake: Register, path: str, django_assert_num_queries: Any, connection_queries: Any
    ) -> None:
        caller = machine()
        few = self.fill(fake, range(1, 3), tables=2)
        caller.get("databases")  # notes the use of the token once
        count = connection_queries(lambda: caller.get(path.format(id=few)))
        many = self.fill(fake, range(3, 12), tables=9)
        with django_assert_num_queries(count):
            assert caller.get(path.format(id=many)).status_code == 200

    def test_metrics(self, fake: Register, django_assert_num_queries: Any, connection_queries: Any, db: None) -> None:
        self.fill(fake, range(1, 3), tables=2)
        count = connection_queries(lambda: Client().get("/metrics"))
        assert count <= 21, "of which a look at the audit chain takes five at most"
        self.fill(fake, range(3, 12), tables=9)
        with django_assert_num_queries(count):
            Client().get("/metrics")

    def fill(self, fake: Register, numbers: range, tables: int) -> int:
        names = [f"db{n}" for n in numbers]
        for name in names:
            fake(name)
        run = records.finished_run(names, tables=tables)
        active = records.empty_run(names, status=Status.RUNNING, finished_at=None)
        for name in names:
            records.target_of(active, name, beat_at=timezone.now(), outage_started_at=timezone.now())
        return run.pk
