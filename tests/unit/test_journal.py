"""Claims, fencing, the black box and the audit chain."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.checks import settings as checks
from maintenance.engines.messages import msg
from maintenance.engines.values import Sample
from maintenance.models import AuditEntry, MaintenanceSetting, Node, RunTarget, Status, StepRecord, StepState
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import crashpoints, journal, lease, runner
from maintenance.workflow.blackbox import BlackBox
from tests import fakes

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def target(fake: Callable[..., MaintenanceSetting], request_for: Callable[..., Request], someone: Actor) -> RunTarget:
    fake()
    return launch.launch(someone, request_for("shop"), enqueue=False).targets.get()


def silence(target: RunTarget) -> None:
    """The worker has not been heard for longer than its lease."""
    RunTarget.objects.filter(pk=target.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_only_one_worker_gets_a_target(target: RunTarget) -> None:
    assert journal.claim(target.pk) is not None
    assert journal.claim(target.pk, "elsewhere:1:1.0") is None


def test_a_worker_that_was_only_slow_may_write_nothing_more(target: RunTarget) -> None:
    slow = journal.claim(target.pk, "elsewhere:1:1.0")
    assert slow is not None
    line = slow.started(Node.DIAGNOSE, "diagnose", "", 1)
    silence(target)
    successor = journal.claim(target.pk)
    assert successor is not None
    assert successor.token == slow.token + 1
    for write in (
        lambda: slow.started(Node.DECIDE, "decide", "", 1),
        lambda: slow.closed(line, StepState.FINISHED, msg("late")),
        lambda: slow.change(node="Z"),
        lambda: slow.beat(),
        lambda: slow.ended(Status.SUCCEEDED, msg("late")),
    ):
        with pytest.raises(journal.LeaseLost):
            write()
    assert StepRecord.objects.get(pk=line.pk).state == "started"
    assert RunTarget.objects.get(pk=target.pk).node == "A"


def test_a_dead_process_of_this_host_need_not_be_waited_for(target: RunTarget) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    place, _, birth = lease.this_worker().rsplit(":", 2)
    dead = f"{place}:{child.pid}:{birth}"
    assert journal.claim(target.pk, dead) is not None
    assert lease.worker_is_gone(dead)
    assert not lease.worker_is_gone(lease.this_worker())
    assert not lease.worker_is_gone("elsewhere:1:1.0")
    assert journal.claim(target.pk) is not None


def test_two_hosts_of_one_name_do_not_take_each_other_for_rebooted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tmp_path / "machine-id"
    monkeypatch.setattr(lease, "MACHINE_ID", machine)
    for first, second in (("a" * 32, "b" * 32), ("a" * 32, None), (None, "b" * 32)):
        machine.unlink(missing_ok=True)
        if first:
            machine.write_text(f"{first}\n")
        worker = lease.this_worker()
        assert not first or first not in worker, "the machine's id is nobody's business"
        place, pid, _ = worker.rsplit(":", 2)
        rebooted = f"{place}:{pid}:00000000/1"
        assert lease.worker_is_gone(rebooted)
        machine.unlink(missing_ok=True)
        if second:
            machine.write_text(f"{second}\n")
        assert not lease.worker_is_gone(rebooted)


def test_what_is_measured_again_after_a_crash_takes_the_place_of_the_first(target: RunTarget) -> None:
    held = journal.claim(target.pk)
    assert held is not None
    held.measured("before", 1, [Sample("SELECT 1", (2.0,), 7, "blocks", 1)])
    held.measured("after", 1, [Sample("SELECT 1", (1.0,), 3, "blocks", 1)])
    held.measured("before", 1, [Sample("SELECT 2", (9.0,), 8, "blocks", 1), Sample("SELECT 1", (4.0,), 7, "blocks", 1)])
    kept = target.measurements.values_list("phase", "query", "times_ms", "cost")
    assert list(kept) == [
        ("after", "SELECT 1", [1.0], 3),
        ("before", "SELECT 2", [9.0], 8),
        ("before", "SELECT 1", [4.0], 7),
    ]


@pytest.mark.long
def test_every_journal_line_is_in_the_black_box_too(target: RunTarget) -> None:
    runner.advance(target.pk)
    target.refresh_from_db()
    lines = BlackBox(Path(target.black_box)).lines()
    closed = StepRecord.objects.filter(target=target).exclude(state="started").values_list("sentence", flat=True)
    assert set(closed) <= {line.get("sentence") for line in lines}
    assert {line["kind"] for line in lines} >= {"opened", "changed", "started", "finished", "ended"}
    assert Path(target.black_box).stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_crash_tore_swallows_no_other(tmp_path: Path) -> None:
    box = BlackBox(tmp_path / "box.jsonl")
    box.write({"kind": "first"})
    with open(box.path, "ab") as file:
        file.write(b'{"kind": "torn by a cra')
    box.write({"kind": "second"})
    assert [line["kind"] for line in box.lines()] == ["first", "second"]


@pytest.mark.parametrize(
    ("wanted", "dies_at"), [("b", 2), ("b#2", 4), ("#3", 3), ("a#9", None), ("c", None), (None, None)]
)
def test_a_crash_point_is_named_or_numbered(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, dies_at: int | None
) -> None:
    passed: list[str] = []
    died: list[int] = []
    monkeypatch.setattr(crashpoints, "_passed", Counter())
    monkeypatch.setattr("os.kill", lambda pid, how: died.append(len(passed)))
    monkeypatch.delenv("DBMAINT_CRASH_AT", raising=False)
    if wanted is not None:
        monkeypatch.setenv("DBMAINT_CRASH_AT", wanted)
    for name in ("a", "b", "a", "b"):
        passed.append(name)
        crashpoints.point(name)
    assert died == ([dies_at] if dies_at else [])


def test_release_needs_the_black_box_alone(
    target: RunTarget, fake: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Died(BaseException):
        pass

    def die(name: str) -> None:
        if name == "action.started":
            raise Died

    monkeypatch.setattr(crashpoints, "point", die)
    with pytest.raises(Died):
        runner.advance(target.pk)
    monkeypatch.undo()
    path = Path(str(MaintenanceSetting.objects.get().engine_url.database))
    assert json.loads(path.read_text())["gate"]["limit"] == 0
    RunTarget.objects.all().delete()
    call_command("release", "shop")
    assert json.loads(path.read_text())["gate"] == fakes.OPEN
    assert "shop is open as before." in capsys.readouterr().out


@pytest.mark.parametrize(("header", "session"), [({}, "dbmaint:5:3"), ({"site": "bcdfghjk"}, "dbmaint:bcdfghjk5:3")])
def test_release_goes_by_the_names_that_its_box_was_begun_with(
    fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: dict[str, str], session: str
) -> None:
    """A box of the version before has no letters of an installation."""
    url = fake().engine_url
    box = BlackBox(tmp_path / "box.jsonl")
    box.write({"kind": "opened", "url": str(url), "sealed_password": "", "target": 5, "token": 2, **header})
    box.write({"kind": "changed", "gate": fakes.OPEN})
    asked: list[str] = []
    monkeypatch.setattr(fakes.FakeEngine, "fence", lambda engine: asked.append(engine.tag.session))
    call_command("release", "shop", "--black-box", str(box.path))
    assert asked == [session]


def test_release_never_interferes_with_a_live_worker(target: RunTarget) -> None:
    mine = journal.claim(target.pk)
    assert mine is not None
    mine.open_box("shop", [], {"url": "fake:////x", "sealed_password": "", "run": 1}, ())
    with pytest.raises(SystemExit) as ended:
        call_command("release", "shop")
    assert ended.value.code == 4


@pytest.mark.parametrize("name", ["nowhere", "9" * 5000])
def test_release_says_where_no_maintenance_ever_began(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("release", name)
    assert ended.value.code == 2
    assert f"no maintenance ever began on {name}." in capsys.readouterr().err


class TestAuditChain:
    @pytest.fixture(autouse=True)
    def _entries(self) -> None:
        for number in range(5):
            chain.record("dba", "setting.changed", f"shop {number}", {"jobs": 1}, {"jobs": number})
        assert chain.verify().whole

    def test_an_edited_entry_is_found(self) -> None:
        entry = AuditEntry.objects.order_by("id")[2]
        AuditEntry.objects.filter(pk=entry.pk).update(actor="somebody else")
        assert chain.verify().broken_at == entry.pk

    def test_a_deleted_entry_is_found(self) -> None:
        second, third = AuditEntry.objects.order_by("id")[1:3]
        second.delete()
        assert chain.verify().broken_at == third.pk

    def test_a_cut_off_end_is_found(self) -> None:
        AuditEntry.objects.order_by("id").last().delete()  # type: ignore[union-attr]
        assert "ends after 4 entries" in chain.verify().problem

    def test_swapped_entries_are_found(self) -> None:
        a, b = AuditEntry.objects.order_by("id")[1:3]
        AuditEntry.objects.filter(pk=a.pk).update(hash="x")
        AuditEntry.objects.filter(pk=b.pk).update(hash=a.hash, object=a.object, at=a.at)
        AuditEntry.objects.filter(pk=a.pk).update(hash=b.hash, object=b.object, at=b.at)
        assert not chain.verify().whole

    def test_the_command_ends_with_1_and_names_the_entry(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("verify_audit")
        assert "whole: 5 entries" in capsys.readouterr().out
        AuditEntry.objects.filter(pk=AuditEntry.objects.order_by("id")[0].pk).update(operation="nothing")
        with pytest.raises(SystemExit) as ended:
            call_command("verify_audit")
        assert ended.value.code == 1


@pytest.mark.parametrize(
    ("change", "identity"),
    [
        ({"max_attempts": 0}, "maintenance.E001"),
        ({"ack_failures": False}, "maintenance.E002"),
        ({"timeout": 60}, "maintenance.E003"),
        ({"retry": 60}, "maintenance.E004"),
        ({"orm": None}, "maintenance.E005"),
    ],
)
def test_queue_settings_that_would_start_a_run_twice_are_refused(
    settings: Any, change: dict[str, Any], identity: str
) -> None:
    assert checks.queue_settings(None) == []
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, **change}
    assert identity in [error.id for error in checks.queue_settings(None)]
