"""The crash is a parameter: die at every write and every effect, on every path; then recover."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from maintenance import tasks
from maintenance.auditing import chain
from maintenance.models import ENDED, MaintenanceRun, MaintenanceSetting, Notification, RunTarget, ScopeHold
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import crashpoints, heartbeat, recovery, runner
from maintenance.workflow.steps.context import Context
from tests import fakes
from tests.fakes import OPEN

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

PATHS: dict[str, tuple[dict[str, list[str]], str]] = {
    "success": ({}, "succeeded"),
    "backup failed": ({"back_up": ["permanent"]}, "succeeded"),
    "action failed": ({"perform": ["permanent"]}, "rolled_back"),
    "integrity error": ({"perform": ["damage"]}, "rolled_back"),
}


class Died(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Reaper:
    """Lists the crash points that are passed; dies at those wanted, each once."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.wanted: list[int] = []

    def __call__(self, name: str) -> None:
        self.passed.append(name)
        if self.wanted and len(self.passed) == self.wanted[0]:
            self.wanted.pop(0)
            self.passed.clear()
            raise Died(name)


@dataclass(frozen=True)
class Picture:
    """All that a death at one point leaves: the control database, the target, the black box."""

    point: str
    control: sqlite3.Connection
    files: dict[Path, bytes | Path]
    """Contents, or where a link leads."""


class Camera:
    """Takes pictures at the wanted points of one life, so that the way to a point is gone once for all deaths on it.

    Other threads wait at their next point meanwhile: between two points lies one effect or one journal line, so
    what is in the picture could have been so at one instant.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._taking = folder, threading.Lock()
        self._passed, self._taken = count(1), list[Picture]()
        self._wanted: Sequence[int] = ()

    def of(self, target_id: int, points: Sequence[int] = ()) -> list[Picture]:
        """Pictures at these points of the life that begins now; it goes on to its end."""
        self._passed, self._wanted, self._taken = count(1), points, []
        live(target_id)
        return self._taken

    def __call__(self, name: str) -> None:
        with self._taking:
            if next(self._passed) in self._wanted:
                self._taken.append(Picture(name, self._control(), self._files()))

    def _control(self) -> sqlite3.Connection:
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=30)) as live:
            live.backup(copy)
        return copy

    def _files(self) -> dict[Path, bytes | Path]:
        return {
            path: path.readlink() if path.is_symlink() else path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_symlink() or path.is_file()
        }

    def back_to(self, picture: Picture) -> None:
        with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=30)) as live:
            picture.control.backup(live)
        for path in self._files():
            path.unlink()
        for path, content in picture.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(content) if isinstance(content, Path) else path.write_bytes(content)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Without reports. No power is cut either: what is written to a file is there. Somebody is told."""
    addresses = {"dba": ["slack://A/B/C/#dba"], "stakeholders": ["slack://A/B/C/#all"]}
    settings.CONFIG_FILE.write_text(json.dumps({"notifications": addresses}))
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def reaper(monkeypatch: pytest.MonkeyPatch) -> Reaper:
    made = Reaper()
    monkeypatch.setattr(crashpoints, "point", made)
    return made


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Camera:
    made = Camera(tmp_path)
    monkeypatch.setattr(crashpoints, "point", made)
    return made


MOST_POINTS = 1000
"""More than any life passes."""


def live(target_id: int, most: int = 10) -> int:
    """Workers come and go until the target has ended; returns how many died."""
    for died in range(most):
        RunTarget.objects.filter(pk=target_id, status__in=["running", "cancelling"]).update(
            lease_until=timezone.now() - timedelta(seconds=1)
        )
        try:
            runner.advance(target_id)
            tasks.sweep(recovery.Watch(), recovery.Recoverers())
            return died
        except Died:
            continue
    raise AssertionError("it never ended")


@pytest.mark.parametrize(
    ("point", "faults", "event"),
    [
        ("claimed", {}, "started"),
        ("backup_failed.finished", {"back_up": ["permanent"]}, "backup_failed"),
        ("maintenance_failed.finished", {"perform": ["permanent"]}, "maintenance_failed"),
        ("integrity_error.finished", {"perform": ["damage"]}, "integrity_error"),
        ("target.ended", {}, "succeeded"),
    ],
)
def test_people_are_told_once_whenever_the_worker_dies(
    point: str,
    faults: dict[str, list[str]],
    event: str,
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Just before what tells them is written down, and just after."""
    fake(**faults)
    target = launch.launch(someone, request_for("shop"), enqueue=False).targets.get()
    deaths = [point, point.removesuffix(".finished") + ".started"]

    def die(name: str) -> None:
        if name in deaths:
            deaths.remove(name)
            raise Died(name)

    monkeypatch.setattr(crashpoints, "point", die)
    live(target.pk)
    assert point not in deaths
    assert Notification.objects.filter(run=target.run_id, event=event).count() == 1


def state_of(setting: MaintenanceSetting) -> dict[str, Any]:
    return dict(json.loads(Path(str(setting.engine_url.database)).read_text()))


def assert_invariants(setting: MaintenanceSetting, run: MaintenanceRun, tables: dict[str, list[int]]) -> None:
    run.refresh_from_db()
    target = run.targets.get()
    state = state_of(setting)
    assert target.status in ENDED
    assert run.finished_at is not None
    assert run.status == target.status
    if target.status != "needs_operator":
        assert state["gate"] == OPEN
        assert state["marker"] is None
        assert state["tables"] == tables
        assert not set(state["sides"]) - {"broken"}
    assert not ScopeHold.objects.exists()
    assert chain.verify().whole
    told = Counter(Notification.objects.filter(run=run).values_list("event", flat=True))
    assert told["started"] == told[run.status] == 1, told
    assert set(told.values()) == {1}, told


STRIDE = int(os.environ.get("DBMAINT_CRASH_STRIDE", "6"))
"""Every so many crash points are tried; `make chaos` tries each."""


@pytest.mark.every(2)
@pytest.mark.parametrize("path", PATHS)
def test_a_death_at_any_point_ends_in_service_with_all_rows(
    path: str,
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    camera: Camera,
) -> None:
    faults, expected = PATHS[path]
    setting = fake(**faults)
    tables = state_of(setting)["tables"]
    run = launch.launch(someone, request_for(setting.name), enqueue=False)
    target = run.targets.get().pk
    deaths = camera.of(target, range(1 + zlib.crc32(path.encode()) % STRIDE, MOST_POINTS, STRIDE))
    for death in deaths:
        camera.back_to(death)
        camera.of(target)
        assert_invariants(setting, run, tables)
        # Faults of the fake are used up by the first life, so a second life may do better, never worse.
        assert run.status in {expected, "succeeded", "rolled_back"}, (death.point, run.status, run.ended_because)
    assert len(deaths) > 60 / STRIDE


@pytest.mark.every(2)
@pytest.mark.parametrize("path", ["success", "integrity error"])
def test_two_deaths_in_a_row_end_safely(
    path: str,
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    camera: Camera,
) -> None:
    faults, _ = PATHS[path]
    setting = fake(**faults)
    tables = state_of(setting)["tables"]
    run = launch.launch(someone, request_for(setting.name), enqueue=False)
    target = run.targets.get().pk
    for first in camera.of(target, range(3, MOST_POINTS, 7 * STRIDE)):
        camera.back_to(first)
        for second in camera.of(target, (2, 9, 17)):
            camera.back_to(second)
            camera.of(target)
            assert_invariants(setting, run, tables)


def test_dying_for_ever_ends_with_an_operator(
    fake: Callable[..., MaintenanceSetting], request_for: Callable[..., Request], someone: Actor, reaper: Reaper
) -> None:
    setting = fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    # The first life reaches the cut; the following ones die at their first effect on the target.
    reaper.wanted = [40, 4, 4, 4]
    live(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == "needs_operator"
    assert "died 4 times" in run.ended_because
    assert setting.name in run.targets.get().steps.filter(node="X").last().sentence  # type: ignore[union-attr]


def test_the_engine_has_let_go_of_the_target_when_the_last_word_is_written(
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake()
    done: list[str] = []
    monkeypatch.setattr(fakes.FakeEngine, "close", lambda engine: done.append("closed"))
    monkeypatch.setattr(crashpoints, "point", done.append)
    runner.advance(launch.launch(someone, request_for("shop"), enqueue=False).targets.get().pk)
    work = done[done.index("claimed") : done.index("target.ended")]
    assert "closed" in work, "nobody would come after a death here"


class TestALockThatDiesWithTheWorker:
    """As with SQLite: after a crash everybody was in again, and may have written."""

    @pytest.fixture
    def setting(self, fake: Callable[..., MaintenanceSetting], monkeypatch: pytest.MonkeyPatch) -> MaintenanceSetting:
        monkeypatch.setattr(fakes.FakeEngine, "dies_with_worker", True)
        return fake()

    def die_at(self, target_id: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def die(point: str) -> None:
            if point == name:
                raise Died(point)

        monkeypatch.setattr(crashpoints, "point", die)
        with pytest.raises(Died):
            runner.advance(target_id)
        monkeypatch.setattr(crashpoints, "point", lambda point: None)

    def write_a_row(self, setting: MaintenanceSetting) -> None:
        with fakes.opened(str(setting.engine_url.database)) as state:
            state["tables"]["orders"].append(99)

    @pytest.mark.parametrize("point", ["fake.measure.before", "action.started", "action.finished", "verify.started"])
    @pytest.mark.usefixtures("reaper")
    def test_what_was_written_between_two_workers_stays(
        self,
        setting: MaintenanceSetting,
        request_for: Callable[..., Request],
        someone: Actor,
        monkeypatch: pytest.MonkeyPatch,
        point: str,
    ) -> None:
        run = launch.launch(someone, request_for("shop"), enqueue=False)
        self.die_at(run.targets.get().pk, point, monkeypatch)
        self.write_a_row(setting)
        live(run.targets.get().pk)
        assert_invariants(setting, run, {**state_of(setting)["tables"], "orders": [1, 2, 3, 4, 99]})
        assert run.status == "succeeded", run.ended_because

    @pytest.mark.usefixtures("reaper")
    def test_it_stays_too_when_the_second_worker_gives_up(
        self,
        setting: MaintenanceSetting,
        request_for: Callable[..., Request],
        someone: Actor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run = launch.launch(someone, request_for("shop"), enqueue=False)
        self.die_at(run.targets.get().pk, "action.started", monkeypatch)
        self.write_a_row(setting)
        with fakes.opened(str(setting.engine_url.database)) as state:
            state["faults"]["image"] = ["permanent"]
        live(run.targets.get().pk)
        assert_invariants(setting, run, {**state_of(setting)["tables"], "orders": [1, 2, 3, 4, 99]})
        assert run.status in ("failed", "rolled_back"), run.ended_because

    @pytest.mark.usefixtures("reaper")
    def test_rows_that_went_missing_with_the_worker_are_not_taken_for_the_truth(
        self,
        setting: MaintenanceSetting,
        request_for: Callable[..., Request],
        someone: Actor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with fakes.opened(str(setting.engine_url.database)) as state:
            state["faults"]["perform"] = ["damage"]
        run = launch.launch(someone, request_for("shop"), enqueue=False)
        target = run.targets.get()
        self.die_at(target.pk, "verify.started", monkeypatch)
        live(target.pk)
        run.refresh_from_db()
        assert run.status == "failed"
        assert "orders had 4 rows and has 3" in run.ended_because
        assert state_of(setting)["sides"][f"image{target.pk}"]["orders"] == [1, 2, 3, 4]
        kept = target.steps.filter(part="clean").last()
        assert kept is not None
        assert kept.sentence == f"Kept for people to look at: image{target.pk}"

    @pytest.mark.parametrize(
        ("point", "writes", "status", "orders"),
        [
            ("roll_back.cut.started", False, "rolled_back", [1, 2, 3, 4]),
            ("fake.swap.before", False, "rolled_back", [1, 2, 3, 4]),
            ("fake.swap.after", False, "rolled_back", [1, 2, 3, 4]),
            ("roll_back.cut.started", True, "needs_operator", [2, 3, 4, 99]),
            ("fake.swap.before", True, "needs_operator", [2, 3, 4, 99]),
            ("fake.swap.after", True, "needs_operator", [1, 2, 3, 4, 99]),
            ("roll_back.swap.finished", True, "rolled_back", [1, 2, 3, 4, 99]),
        ],
    )
    @pytest.mark.usefixtures("reaper")
    def test_a_rollback_goes_on_only_over_what_was_seen_before(
        self,
        setting: MaintenanceSetting,
        request_for: Callable[..., Request],
        someone: Actor,
        monkeypatch: pytest.MonkeyPatch,
        point: str,
        writes: bool,
        status: str,
        orders: list[int],
    ) -> None:
        with fakes.opened(str(setting.engine_url.database)) as state:
            state["faults"]["perform"] = ["damage"]
        run = launch.launch(someone, request_for("shop"), enqueue=False)
        self.die_at(run.targets.get().pk, point, monkeypatch)
        if writes:
            self.write_a_row(setting)
        live(run.targets.get().pk)
        assert_invariants(setting, run, {**state_of(setting)["tables"], "orders": orders})
        assert (run.status, state_of(setting)["tables"]["orders"]) == (status, orders), run.ended_because


@pytest.mark.usefixtures("reaper")
def test_a_cancel_that_comes_while_a_dead_workers_run_is_taken_up_ends_in_service(
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = fake()
    tables = state_of(setting)["tables"]
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    TestALockThatDiesWithTheWorker().die_at(run.targets.get().pk, "action.started", monkeypatch)
    launch.cancel(someone, run)
    beats = heartbeat.Heart.start

    def beat_at_once(heart: heartbeat.Heart) -> None:
        heart.beat()
        beats(heart)

    monkeypatch.setattr(heartbeat.Heart, "start", beat_at_once)
    step = runner._step

    def and_at_every_step(ctx: Any) -> bool:
        hearts = [t for t in threading.enumerate() if isinstance(t, heartbeat.Heart)]
        for heart in hearts:
            heart.beat()
        return step(ctx)

    monkeypatch.setattr(runner, "_step", and_at_every_step)
    live(run.targets.get().pk)
    assert_invariants(setting, run, tables)
    assert run.status == "cancelled", run.ended_because


@pytest.mark.usefixtures("reaper")
def test_a_worker_that_lost_its_lease_while_it_waited_does_not_try_again(
    fake: Callable[..., MaintenanceSetting],
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = fake(cut=["transient"])
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    wait = Context.wait

    def lose(ctx: Context, seconds: float, doing: str) -> None:
        RunTarget.objects.filter(pk=ctx.target.pk).update(token=99)
        wait(ctx, seconds, doing)

    monkeypatch.setattr(Context, "wait", lose)
    assert runner.advance(run.targets.get().pk) is False
    assert state_of(setting)["calls"].count("cut") == 1


@pytest.mark.usefixtures("reaper")
def test_a_console_that_cannot_begin_gives_up_in_the_end(
    fake: Callable[..., MaintenanceSetting], request_for: Callable[..., Request], someone: Actor, settings: Any
) -> None:
    fake()
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    settings.CONFIG_FILE.write_text("{ this is not JSON")
    for _ in range(runner.LAST_ATTEMPT):
        live(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == "failed"
    assert "could not work on shop" in run.ended_because
