"""Work that the disk has no room for is refused with numbers, before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from maintenance.engines.errors import Unable
from maintenance.engines.messages import msg
from maintenance.engines.values import Action, Diagnosis
from maintenance.models import MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from maintenance.workflow.steps.decide import refuse_without_room
from tests.fakes import FakeEngine

MB = 1_000_000


def work(*sizes: int) -> list[Action]:
    return [Action(f"t{size}", "rebuild", msg("because"), msg("nobody reads"), 1, size * MB) for size in sizes]


def with_free(free: int | None) -> Diagnosis:
    return Diagnosis("Fake 1", 1, 1, 100, None if free is None else free * MB, (), ())


def test_the_largest_pieces_at_one_time_count_with_a_fifth_to_spare() -> None:
    with pytest.raises(Unable, match=r"it needs 180\.0 MB of free disk space, 179\.0 MB are free; make room"):
        refuse_without_room(work(10, 100, 50, 40), with_free(179), 2, "shop")
    refuse_without_room(work(10, 100, 50, 40), with_free(180), 2, "shop")


def test_each_further_job_asks_for_its_own_room() -> None:
    with pytest.raises(Unable, match=r"needs 228\.0 MB"):
        refuse_without_room(work(10, 100, 50, 40), with_free(227), 3, "shop")
    refuse_without_room(work(10, 100, 50, 40), with_free(120), 1, "shop")


def test_nothing_is_refused_where_the_server_cannot_tell_what_is_free() -> None:
    refuse_without_room(work(100), with_free(None), 1, "shop")


@pytest.mark.django_db(transaction=True)
def test_a_run_without_room_ends_before_its_backup(
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    diagnose = FakeEngine.diagnose

    def full(self: FakeEngine, *given: Any) -> Diagnosis:
        return replace(diagnose(self, *given), free_bytes=1)

    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    monkeypatch.setattr(FakeEngine, "diagnose", full)
    fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert (run.status, run.outage_seconds) == ("failed", 0)
    assert "1 B are free; make room or name fewer tables" in run.ended_because
    assert not run.targets.get().backup_files.exists()
