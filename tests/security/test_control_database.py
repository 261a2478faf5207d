"""Who can write into the control database, and nothing else, tries to make a worker run something."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from multiprocessing import Value
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as project
from django.contrib import admin
from django.core import signing
from django.test import Client
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import OrmQ, Schedule, Success, Task
from django_q.monitor import monitor
from django_q.queues import Queue
from django_q.signing import SignedPackage
from django_q.tasks import async_task
from django_q.worker import worker

from maintenance import broker, queue, tasks
from maintenance.auditing import chain
from maintenance.checks.settings import queue_settings
from maintenance.models import AuditEntry
from maintenance.workflow import recovery
from tests.acceptance.conftest import Console

pytestmark = pytest.mark.django_db(transaction=True)
As = Callable[[str], Client]


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def refusals() -> list[dict[str, Any]]:
    return [entry.after or {} for entry in AuditEntry.objects.filter(operation="queue.refused")]


def taken() -> list[dict[str, Any]]:
    """What a worker gets to see of the queue."""
    found: list[dict[str, Any]] = []
    for _ in range(OrmQ.objects.count()):
        found += [SignedPackage.loads(payload) for _, payload in get_broker().dequeue()]
    return found


def put(payload: str) -> None:
    OrmQ.objects.create(key=project.Q_CLUSTER["name"], payload=payload, lock=timezone.now())


@pytest.mark.parametrize(
    ("function", "more"),
    [
        ("os.system", {}),
        ("subprocess.check_output", {}),
        ("maintenance.retention.remove", {}),
        ("maintenance.tasks.sweep", {}),
        ("maintenance.tasks.advance.__globals__", {}),
        ("maintenance.tasks.advance ", {}),
        ("antigravity.x", {}),
        ("maintenance.tasks.look", {"hook": "os.system"}),
    ],
)
def test_a_message_that_names_anything_else_is_told_once_and_goes(
    function: str, more: dict[str, str], tmp_path: Path
) -> None:
    """Made with the console's own key, as a schedule or a page of the queue would make it."""
    async_task(function, f"touch {tmp_path}/ran", **more)
    assert OrmQ.objects.count() == 1
    assert taken() == []
    assert not OrmQ.objects.exists()
    get_broker().dequeue()
    [told] = refusals()
    assert told["function"] == function
    assert not (tmp_path / "ran").exists()
    assert "antigravity" not in sys.modules
    assert chain.verify().whole


def test_nothing_that_was_pickled_elsewhere_is_opened(tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "ran")
    put(str(SignedPackage.dumps({"func": "maintenance.tasks.look", "args": (bomb,), "name": "x", "kwargs": {}})))
    put(str(SignedPackage.dumps(bomb)))
    put("not even a message")
    put("")
    assert taken() == []
    assert len(refusals()) == 4
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "message",
    [
        {"task": "os.system", "ids": [1], "name": "x"},
        {"task": "maintenance.tasks.look", "ids": ["1"], "name": "x"},
        {"task": "maintenance.tasks.look", "ids": [True], "name": "x"},
        {"task": "maintenance.tasks.look", "ids": [1, 2], "name": "x"},
        {"task": ["maintenance.tasks.look"], "ids": [1], "name": "x"},
        {"task": "maintenance.tasks.look"},
        [],
        "x",
    ],
)
def test_a_signed_message_names_a_task_of_ours_and_an_id(message: Any) -> None:
    put(signing.dumps(message, salt=broker.SALT))
    assert taken() == []
    assert len(refusals()) == 1


def test_messages_of_ours_arrive_as_they_were_sent() -> None:
    queue.send("maintenance.tasks.look", 7, task_name="look at 7")
    [message] = taken()
    assert (message["func"], message["args"], message["kwargs"]) == ("maintenance.tasks.look", (7,), {})
    assert set(message) == {"id", "name", "func", "args", "kwargs", "save", "ack_failure", "started"}
    assert refusals() == []


def test_a_planted_result_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """django-q2 reads old results when it keeps a new one."""
    bomb = tmp_path / "ran"
    now = timezone.now()
    for success in (True, False):
        made = {"id": f"{success}", "name": "x", "func": "x", "started": now, "stopped": now, "success": success}
        Task.objects.create(**made, args=Bomb(bomb), result=None)
    bomb.unlink(missing_ok=True)
    for outcome in (True, False):
        work, results = Queue(), Queue()
        queue.send("maintenance.tasks.look", 7, task_name="look at 7")
        monkeypatch.setattr(tasks, "look", lambda pk, outcome=outcome: None if outcome else 1 / 0)
        for receipt, payload in get_broker().dequeue():
            work.put({**SignedPackage.loads(payload), "ack_id": receipt, "cluster": "dbmaint"})
        work.put("STOP")
        worker(work, results, Value("f", -1))
        results.put("STOP")
        monitor(results, get_broker())
    assert not OrmQ.objects.exists()
    assert not bomb.exists()


def test_schedules_are_not_used_and_told_once(tmp_path: Path) -> None:
    Schedule.objects.create(name="nightly", func="os.system", args=f"'touch {tmp_path}/ran'", hook="os.system")
    for _ in range(2):
        tasks.sweep(recovery.Watch(), recovery.Recoverers())
    assert not Schedule.objects.exists()
    assert not OrmQ.objects.exists()
    [told] = refusals()
    assert (told["function"], told["hook"]) == ("os.system", "os.system")
    assert not (tmp_path / "ran").exists()


def test_daily_work_is_sent_by_one_of_many_clusters_once_a_day() -> None:
    for _ in range(3):
        tasks.send_daily()
    assert OrmQ.objects.count() == len(tasks.DAILY)
    assert {message["func"] for message in taken()} == {f"maintenance.tasks.{name}" for name in tasks.DAILY}
    assert not Schedule.objects.exists()


@pytest.mark.django_db
def test_the_queue_is_not_in_the_admin_site(as_: As, people: dict[str, Any]) -> None:
    people["administrator"].is_superuser = people["administrator"].is_staff = True
    people["administrator"].save()
    client = as_("administrator")
    assert "django_q" not in client.get("/admin/").content.decode()
    for model in ("schedule", "ormq", "success", "failure", "task"):
        assert client.get(f"/admin/django_q/{model}/").status_code == 404
        assert client.post(f"/admin/django_q/{model}/add/").status_code == 404
    assert not any(admin.site.is_registered(model) for model in (Schedule, OrmQ, Success))


@pytest.mark.parametrize(
    "change", [{"scheduler": True}, {"save_limit": 200}, {"broker_class": "django_q.brokers.orm.ORM"}]
)
def test_settings_that_would_open_the_queue_are_refused_at_start(change: dict[str, Any], settings: Any) -> None:
    assert queue_settings(None) == []
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, **change}
    assert [next(iter(change)) in error.msg for error in queue_settings(None)] == [True]


class TestTheRealWorker:
    """Its own processes, with rows that somebody wrote."""

    def test_runs_none_of_it(self, console: Console, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        planted = (
            "import os; from django_q.models import OrmQ, Schedule; from django_q.tasks import async_task;"
            f"async_task('os.system', 'touch {ran}');"
            f"Schedule.objects.create(func='os.system', args=\"'touch {ran}'\", hook='os.system')"
        )
        done = console.run("shell", "--no-imports", "-v0", "-c", planted)
        assert done.returncode == 0, done.stderr
        with console.start("work", DBMAINT_SWEEP_SECONDS="1") as working:
            look = (
                "from maintenance.models import AuditEntry as A; from django_q.models import OrmQ, Schedule;"
                "print(A.objects.filter(operation='queue.refused').count(), Schedule.objects.count())"
            )
            over = time.monotonic() + 60
            told: list[str] = []
            while told != ["2", "0"] and time.monotonic() < over:
                told = console.run("shell", "--no-imports", "-v0", "-c", look).stdout.split()
            working.terminate()
        assert told == ["2", "0"]
        assert not ran.exists()


def test_a_pickle_can_be_read_for_its_function_without_being_opened(tmp_path: Path) -> None:
    payload = str(SignedPackage.dumps({"name": "x", "func": "os.system", "args": (Bomb(tmp_path / "ran"),)}))
    assert broker.function_in(payload) == "os.system"
    assert broker.function_in("nonsense") == ""
    assert broker.function_in(pickle.dumps(1).hex()) == ""
    assert not (tmp_path / "ran").exists()
