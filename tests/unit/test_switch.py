"""What the procedure does with the dead man's switch: when it is armed, and what a worker does that comes too late."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maintenance.models import MaintenanceRun, MaintenanceSetting, RunTarget
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import crashpoints, runner
from tests import fakes
from tests.unit.test_crashes import Died, live

pytestmark = pytest.mark.django_db(transaction=True)
Register = Callable[..., MaintenanceSetting]


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)


def path_of(setting: MaintenanceSetting) -> str:
    return str(setting.engine_url.database)


def calls(setting: MaintenanceSetting) -> list[str]:
    with fakes.opened(path_of(setting)) as state:
        return [c.split()[0] for c in state["calls"]]


def tables(setting: MaintenanceSetting) -> dict[str, list[int]]:
    with fakes.opened(path_of(setting)) as state:
        return dict(state["tables"])


def begin(request: Request, someone: Actor) -> RunTarget:
    return launch.launch(someone, request, enqueue=False).targets.get()


def at(monkeypatch: pytest.MonkeyPatch, point: str, happens: Callable[[], None]) -> None:
    """`happens` once, at the first passing of this point."""
    waiting = [point]

    def passing(name: str) -> None:
        if name in waiting:
            waiting.clear()
            happens()

    monkeypatch.setattr(crashpoints, "point", passing)


def fires_and_a_row_is_written(setting: MaintenanceSetting) -> Callable[[], None]:
    def happens() -> None:
        fakes.fire(path_of(setting))
        with fakes.opened(path_of(setting)) as state:
            assert state["gate"] == fakes.OPEN, "it was armed"
            state["tables"]["orders"].append(99)

    return happens


def test_it_is_armed_only_while_the_data_is_known_to_be_whole(
    fake: Register, request_for: Callable[..., Request], someone: Actor
) -> None:
    setting = fake()
    target = begin(request_for("shop"), someone)
    runner.advance(target.pk)
    told = calls(setting)
    armed, off = [i for i, c in enumerate(told) if c == "arm"], [i for i, c in enumerate(told) if c == "disarm"]
    work = [i for i, c in enumerate(told) if c == "perform"]
    assert told.index("cut") < armed[0] < off[0] < work[0] <= work[-1] < armed[1] < off[1]
    proof = max(i for i, c in enumerate(told) if c == "fingerprint")
    assert work[-1] < proof < armed[1]
    said = [str(s) for s in target.steps.filter(part__contains="switch").values_list("sentence", flat=True)]
    assert said == [
        "shop opens by itself when nothing is heard of this console for 900 s.",
        "shop stays closed until its data is proven.",
        "shop opens by itself when nothing is heard of this console for 900 s.",
        "Automatic reopening is off again.",
    ]


def test_a_rollback_and_what_is_left_to_people_are_never_opened_by_it(
    fake: Register, request_for: Callable[..., Request], someone: Actor
) -> None:
    setting = fake(perform=["damage"], restore_beside=["permanent"])
    target = begin(request_for("shop"), someone)
    runner.advance(target.pk)
    target.refresh_from_db()
    assert target.status == "needs_operator"
    with fakes.opened(path_of(setting)) as state:
        assert state["switch"] is None
        assert state["marker"] is not None


def test_no_switch_where_the_setting_says_so(
    fake: Register, request_for: Callable[..., Request], someone: Actor
) -> None:
    setting = fake()
    MaintenanceSetting.objects.update(switch_seconds=0)
    target = begin(request_for("shop"), someone)
    runner.advance(target.pk)
    assert "arm" not in calls(setting)


def test_a_target_that_can_have_none_is_maintained_without(
    fake: Register, request_for: Callable[..., Request], someone: Actor
) -> None:
    fake(arm=["permanent", "permanent"])
    target = begin(request_for("shop"), someone)
    runner.advance(target.pk)
    target.refresh_from_db()
    assert target.status == "succeeded"
    said = target.steps.filter(part="arm the switch").first()
    assert said is not None
    assert said.sentence == "Automatic reopening of shop could not be set: told to fail"


@pytest.mark.parametrize("point", ["cut_connections.arm the switch.finished", "fake.image.after", "maintain.started"])
def test_a_late_worker_sees_that_it_was_opened_and_begins_again_at_the_cut(
    fake: Register,
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    setting = fake()
    target = begin(request_for("shop"), someone)
    at(monkeypatch, point, fires_and_a_row_is_written(setting))
    runner.advance(target.pk)
    target.refresh_from_db()
    assert target.status == "succeeded", target.ended_because
    assert tables(setting)["orders"] == [1, 2, 3, 4, 99]
    told = calls(setting)
    assert told.index("perform") > max(i for i, c in enumerate(told) if c == "cut")
    assert told.count("cut") == told.count("image") == 2
    assert target.round == 2


def test_it_is_not_closed_and_opened_for_ever(
    fake: Register, request_for: Callable[..., Request], someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    target = begin(request_for("shop"), someone)

    def always(name: str) -> None:
        if name == "maintain.started":
            fakes.fire(path_of(setting))

    monkeypatch.setattr(crashpoints, "point", always)
    runner.advance(target.pk)
    target.refresh_from_db()
    assert target.status == "rolled_back"
    assert "opened again and again" in target.ended_because
    assert "perform" not in calls(setting)


def test_rows_written_after_it_opened_survive_a_failure_at_the_cut(
    fake: Register, request_for: Callable[..., Request], someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake(measure=["permanent"], image=["permanent"])
    target = begin(request_for("shop"), someone)
    at(monkeypatch, "fake.image.before", fires_and_a_row_is_written(setting))
    runner.advance(target.pk)
    target.refresh_from_db()
    assert target.status == "failed", target.ended_because
    assert tables(setting)["orders"] == [1, 2, 3, 4, 99]
    with fakes.opened(path_of(setting)) as state:
        assert state["gate"] == fakes.OPEN


@pytest.mark.parametrize("point", ["benchmark.load test.finished", "resume.started"])
def test_opened_after_the_proof_it_is_not_restricted_again(
    fake: Register,
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    setting = fake()
    target = begin(request_for("shop"), someone)
    at(monkeypatch, point, fires_and_a_row_is_written(setting))
    runner.advance(target.pk)
    target.refresh_from_db()
    assert target.status == "succeeded", target.ended_because
    assert tables(setting)["orders"] == [1, 2, 3, 4, 99]
    with fakes.opened(path_of(setting)) as state:
        assert [c for c in state["calls"] if c.startswith("open_gate")] == ["open_gate"]


@pytest.mark.parametrize(
    ("point", "cuts"),
    [("fake.image.after", 2), ("benchmark.started", 2), ("benchmark.load test.finished", 1), ("resume.started", 1)],
)
def test_a_console_that_comes_back_after_it_opened_keeps_what_was_written(
    fake: Register,
    request_for: Callable[..., Request],
    someone: Actor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    point: str,
    cuts: int,
) -> None:
    setting = fake()
    target = begin(request_for("shop"), someone)

    def die() -> None:
        raise Died(point)

    at(monkeypatch, point, die)
    with pytest.raises(Died):
        runner.advance(target.pk)
    armed = point != "benchmark.started"
    if armed:
        fires_and_a_row_is_written(setting)()
    live(target.pk)
    target.refresh_from_db()
    assert target.status == "succeeded", target.ended_because
    assert tables(setting)["orders"] == [1, 2, 3, 4, *([99] if armed else [])]
    assert calls(setting).count("cut") == cuts
    run: Any = MaintenanceRun.objects.get(pk=target.run_id)
    assert run.status == "succeeded"


def test_what_is_left_to_people_says_exactly_what_to_type(
    fake: Register, request_for: Callable[..., Request], someone: Actor, settings: Any, tmp_path: Path
) -> None:
    flag = tmp_path / "runs"
    flag.touch()
    words = {"stop": ["rm", "-f", str(flag)], "start": ["touch", str(flag)], "check": ["test", "-e", str(flag)]}
    settings.CONFIG_FILE.write_text(json.dumps({"applications": {"shop web": words}}))
    setting = fake(perform=["damage"], restore_beside=["permanent"])
    MaintenanceSetting.objects.update(applications=["shop web"])
    target = begin(request_for("shop"), someone)
    runner.advance(target.pk)
    line = target.steps.filter(node="X", part="").last()
    assert line is not None
    assert "open it again with: manage.py release shop - or, without this console: " in line.sentence
    opening, _, starting = line.sentence.partition("without this console: ")[2].partition("; ")
    assert opening == f"open {path_of(setting)} {json.dumps(fakes.OPEN)}"
    assert starting == f"touch {flag}"
