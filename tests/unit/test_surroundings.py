"""What stands around a maintenance fails: applications that do not obey, a control database that is away, a death
of the last resort itself."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from maintenance import tasks
from maintenance.auditing import chain
from maintenance.engines import programs
from maintenance.models import MaintenanceRun, MaintenanceSetting, ScopeHold
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import crashpoints, recovery, runner
from tests import fakes
from tests.unit.test_crashes import Died

pytestmark = pytest.mark.django_db(transaction=True)
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """Is there while the application runs."""
    made = tmp_path / "the application runs"
    made.touch()
    return made


def application(settings: Any, flag: Path, **changes: Any) -> None:
    words: dict[str, Any] = {
        "stop": ["rm", "-f", str(flag)],
        "start": ["touch", str(flag)],
        "check": ["test", "-e", str(flag)],
        "timeout_seconds": 10,
    }
    settings.CONFIG_FILE.write_text(json.dumps({"applications": {"shop-web": {**words, **changes}}}))


def go(request: Request, someone: Actor) -> MaintenanceRun:
    run = launch.launch(someone, request, enqueue=False)
    runner.advance(run.targets.get().pk)
    return MaintenanceRun.objects.get(pk=run.pk)


def state(setting: MaintenanceSetting) -> dict[str, Any]:
    with fakes.opened(str(setting.engine_url.database)) as found:
        return dict(found)


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        (["sleep", "60"], "shop-web"),
        (["false"], "shop-web"),
        (["true"], "its check still says it is running"),
    ],
    ids=["hangs", "fails", "lies"],
)
def test_an_application_that_does_not_stop_ends_the_work_before_anything_is_cut(
    fake: Register, request_for: Ask, someone: Actor, settings: Any, flag: Path, stop: list[str], words: str
) -> None:
    setting = fake()
    application(settings, flag, stop=stop, timeout_seconds=1)
    MaintenanceSetting.objects.update(applications=["shop-web"])
    begun = time.monotonic()
    run = go(request_for("shop"), someone)
    assert time.monotonic() - begun < 20
    assert run.status == "failed"
    assert words in run.ended_because
    assert flag.exists()
    assert "cut" not in state(setting)["calls"]
    assert state(setting)["gate"] == fakes.OPEN


def test_an_application_that_stopped_although_its_stop_failed_is_started_again(
    fake: Register, request_for: Ask, someone: Actor, settings: Any, flag: Path
) -> None:
    fake()
    application(settings, flag, stop=["sh", "-c", f"rm -f '{flag}'; exit 1"])
    MaintenanceSetting.objects.update(applications=["shop-web"])
    assert go(request_for("shop"), someone).status == "failed"
    assert flag.exists()


def test_an_application_that_does_not_start_is_told_to_people_with_what_to_type(
    fake: Register, request_for: Ask, someone: Actor, settings: Any, flag: Path
) -> None:
    fake()
    application(settings, flag, start=["true"], timeout_seconds=1)
    MaintenanceSetting.objects.update(applications=["shop-web"])
    run = go(request_for("shop"), someone)
    assert run.status == "needs_operator"
    assert "its check says it is not running" in run.ended_because
    sentence = run.targets.get().steps.filter(node="X", part="").get().sentence
    assert "manage.py release shop" in sentence


@pytest.mark.parametrize(
    "left", ["sleep 20 & exit 0", "setsid sleep 20 & exit 0", "(while :; do echo x; done) & exit 0"]
)
def test_a_command_that_leaves_its_output_to_a_daemon_is_not_waited_for_after_its_end(left: str) -> None:
    """It would be waited for as long as the daemon lives, in the midst of an outage."""
    begun = time.monotonic()
    programs.run(["sh", "-c", f"echo started; {left}"], timeout=10)
    assert time.monotonic() - begun < 15, "the daemon lives for 20 s"


def test_the_last_words_of_a_command_are_read_whole() -> None:
    assert programs.run(["sh", "-c", "seq 100000; echo end"], timeout=30).endswith("100000\nend")


@pytest.fixture
def impatient() -> Iterator[Path]:
    """The control database's file; who finds it locked hears of it at once."""
    options = connection.settings_dict["OPTIONS"]
    usual = options.get("timeout")
    options["timeout"] = 0.1
    connection.close()
    yield Path(str(connection.settings_dict["NAME"]))
    options["timeout"] = usual
    connection.close()


@pytest.mark.long
def test_while_the_control_database_is_away_the_worker_waits_and_then_goes_on(
    fake: Register, request_for: Ask, someone: Actor, impatient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = fake()
    locked = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(impatient, timeout=10, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            locked.set()
            time.sleep(1)
            other.execute("ROLLBACK")

    def passing(name: str) -> None:
        if name == "fake.perform.before" and not locked.is_set():
            threading.Thread(target=hold).start()
            locked.wait(10)

    monkeypatch.setattr(crashpoints, "point", passing)
    run = go(request_for("shop"), someone)
    assert locked.is_set()
    assert run.status == "succeeded", run.ended_because
    assert state(setting)["calls"].count("perform orders") == 1
    assert chain.verify().whole


@pytest.mark.parametrize("point", ["claimed", "fake.open_gate.before", "fake.open_gate.after", "target.ended"])
def test_a_release_that_dies_can_be_given_again(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    setting = fake()
    target = launch.launch(someone, request_for("shop"), enqueue=False).targets.get()
    deaths = ["action.started"]

    def die(name: str) -> None:
        if name in deaths:
            raise Died(name)

    monkeypatch.setattr(crashpoints, "point", die)
    with pytest.raises(Died):
        runner.advance(target.pk)
    assert state(setting)["gate"] != fakes.OPEN
    deaths[0] = point
    for _ in range(2):
        type(target).objects.filter(pk=target.pk).update(lease_until=None)
        try:
            call_command("release", "shop")
        except (Died, SystemExit):
            continue
    deaths.clear()
    type(target).objects.filter(pk=target.pk).update(lease_until=None)
    with suppress(SystemExit):  # 2 when one of the dead had opened it already
        call_command("release", "shop")
    assert state(setting)["gate"] == fakes.OPEN
    assert state(setting)["marker"] is None
    assert not runner.advance(target.pk), "no worker takes it up again"
    tasks.sweep(recovery.Watch(), recovery.Recoverers())
    target.refresh_from_db()
    assert target.status == "needs_operator"
    assert not ScopeHold.objects.exists()
    assert chain.verify().whole


def test_a_cancel_from_the_command_line_reaches_the_work_and_ends_in_service(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    setting = fake()
    rows = state(setting)["tables"]
    settings.LEASE_SECONDS = 1.0
    perform = fakes.FakeEngine.perform
    run = launch.launch(someone, request_for("shop"), enqueue=False)
    asked: list[str] = []

    def slowly(engine: fakes.FakeEngine, action: Any, allow_data_loss: bool) -> Any:
        if not asked:
            asked.append(run.number)
            call_command("cancel", run.number)
        assert engine.stopping.wait(20), "the order arrives"
        return perform(engine, action, allow_data_loss)

    monkeypatch.setattr(fakes.FakeEngine, "perform", slowly)
    MaintenanceSetting.objects.update(jobs=1)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == "cancelled", run.ended_because
    assert state(setting)["gate"] == fakes.OPEN
    assert state(setting)["tables"] == rows
    with pytest.raises(SystemExit) as again:
        call_command("cancel", str(run.pk))
    assert again.value.code == 2
    with pytest.raises(SystemExit) as unknown:
        call_command("cancel", "EM-2026-9999")
    assert unknown.value.code == 2


@pytest.mark.parametrize("typed", ["EM-1999-{:04d}", "shop-{}", "-{}", "{}x", "9" * 30])
def test_a_number_that_is_not_quite_that_of_the_run_cancels_nothing(
    fake: Register, request_for: Ask, someone: Actor, typed: str
) -> None:
    fake()
    run = launch.launch(someone, request_for("shop"))
    with pytest.raises(SystemExit) as ended:
        call_command("cancel", "--", typed.format(run.pk))
    assert ended.value.code == 2
    run.refresh_from_db()
    assert (run.status, run.cancel_requested_at) == ("queued", None)
