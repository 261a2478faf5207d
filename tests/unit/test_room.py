"""Work that the disk has no room for is refused with numbers, before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import make_url

from maintenance.engines import open_engine
from maintenance.engines.errors import Unable
from maintenance.engines.messages import msg
from maintenance.engines.values import Action, Diagnosis, Limits, RestoreBudget, Tag
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


SIZED = Diagnosis("a server", 1000, 0, None, 1500, (), ())


@pytest.mark.parametrize(
    ("budget", "extent", "copied", "leaves_open"),
    [
        (RestoreBudget(disk_share=0.7), "full", 1000, ""),
        (RestoreBudget(disk_share=0.6), "definitions", 1000, "a copy would take more of the free space"),
        (RestoreBudget("definitions"), "definitions", 1000, "only the first 1,000 rows are restored"),
        (RestoreBudget("off"), "off", 1000, "found out only when it is needed"),
    ],
)
def test_the_plan_tells_how_far_a_backup_will_be_restored_and_what_the_copy_takes(
    budget: RestoreBudget, extent: str, copied: int, leaves_open: str
) -> None:
    engine = open_engine(make_url("postgresql://dba@localhost/shop"), Tag(1, 1), Limits())
    way_back = engine.rollback.way_back(SIZED, budget)
    assert (way_back.extent, way_back.bytes) == (extent, copied)
    assert leaves_open in str(way_back.leaves_open or "")
