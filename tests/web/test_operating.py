"""A run that needs an operator: what its page says on top, its two buttons, and what is there after the release."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from maintenance import tasks
from maintenance.models import Acknowledgement, AuditEntry, MaintenanceRun, MaintenanceSetting, Notification
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import release as release_module
from maintenance.workflow import runner
from tests import fakes

pytestmark = pytest.mark.django_db(transaction=True)
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]
As = Callable[[str], Client]
STUCK: dict[str, Any] = {"open_gate": ["permanent"] * 12}
DOUBTFUL: dict[str, Any] = {"perform": ["damage"] * 3, "restore_beside": ["permanent"] * 9}


@pytest.fixture
def stuck(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., MaintenanceRun]:
    """A run that ended with its database left to people."""
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    monkeypatch.setattr("maintenance.queue.enqueue_release", lambda pk: None)

    def make(**faults: Any) -> MaintenanceRun:
        fake(**(faults or STUCK))
        run = launch.launch(someone, request_for("shop"), enqueue=False)
        runner.advance(run.targets.get().pk)
        run.refresh_from_db()
        assert run.status == "needs_operator"
        return run

    return make


def text(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def box(page: str) -> str:
    """Return what a person reads in the box on top, in one line."""
    part = page.split('id="needed"')[1].split('id="says"')[0]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", part)))


def mended(run: MaintenanceRun) -> None:
    """What kept the database from being opened is over."""
    setting = run.targets.get().setting
    assert setting is not None
    with fakes.opened(setting.url.removeprefix("fake:///")) as state:
        state["faults"] = {}


def release(client: Client, run: MaintenanceRun, password: str = "dba-password") -> str:
    sent = {"database": "shop", "password": password}
    return client.post(f"/runs/{run.pk}/release/", sent, follow=True).content.decode()


def test_the_box_says_state_cause_and_what_to_type_before_anything_else(
    stuck: Callable[..., MaintenanceRun], as_: As
) -> None:
    run = stuck()
    page = text(as_("dba"), f"/runs/{run.pk}/")
    told = box(page)
    assert page.index('id="needed"') < page.index('id="says"') < page.index('id="flow"')
    assert "shop needs an operator" in told
    assert "told to fail" in told, "the cause"
    assert "closed: nobody can work until it is opened" in told
    commands = re.findall(r"<code>([^<]+)</code>", page.split('id="needed"')[1].split('id="says"')[0])
    assert commands[:2] == ["manage.py diagnose shop", "manage.py release shop"]
    assert html.unescape(commands[2]).startswith("open "), "the engine's own, for when the console is of no use"


@pytest.mark.parametrize(
    ("faults", "data"),
    [
        (STUCK, "The work is done and the data was proven whole. Only service did not come back."),
        (DOUBTFUL, "The data is in doubt: work on it had begun, and it could neither be proven nor taken back."),
    ],
)
def test_the_state_of_the_data_is_what_was_observed_last(
    faults: dict[str, Any], data: str, stuck: Callable[..., MaintenanceRun], as_: As
) -> None:
    assert data in box(text(as_("manager"), f"/runs/{stuck(**faults).pk}/"))


def test_the_mark_of_a_line_says_what_the_line_says(stuck: Callable[..., MaintenanceRun], as_: As) -> None:
    """What records a failure is finished, and no success for it."""
    page = text(as_("dba"), f"/runs/{stuck(**DOUBTFUL).pk}/")
    lines = re.findall(r'<span class="mark (\w+)" aria-hidden="true">(.)</span>.*?</li>', page, re.S)
    assert ("bad", "!") in lines
    called = next(x for x in re.findall(r"<li id=.line.*?</li>", page, re.S) if "needs an operator" in x)
    assert 'class="mark bad"' in called
    drawing = page.split('<svg class="flow"')[1].split("</svg>")[0]
    assert not re.search(r'<g class="done aside', drawing), "a failure that was answered is no success"


def test_release_and_acknowledge_want_the_password(stuck: Callable[..., MaintenanceRun], as_: As) -> None:
    run = stuck()
    assert "The password is wrong; nothing was done." in release(as_("dba"), run, "guess")
    as_("dba").post(f"/runs/{run.pk}/acknowledge/", {"password": "guess"})
    assert not run.targets.get().release_requests.exists()
    assert not Acknowledgement.objects.exists()
    as_("dba").post(f"/runs/{run.pk}/acknowledge/", {"password": "dba-password"})
    assert Acknowledgement.objects.get().by_name == "dba"


def test_a_worker_releases_what_a_person_asked_for_and_page_outage_and_report_follow(
    stuck: Callable[..., MaintenanceRun], as_: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, client = stuck(), as_("dba")
    made: list[str] = []
    monkeypatch.setattr("reports.write.make_again", lambda run, who: made.append(f"{run.number} by {who}"))
    assert "dba asked for its release." in box(release(client, run))
    [asked] = run.targets.get().release_requests.all()
    assert AuditEntry.objects.filter(operation="target.release_asked", actor="dba").count() == 1
    mended(run)
    tasks.release(asked.pk)
    target = run.targets.get()
    assert target.released_at is not None
    assert not target.outage_lasts
    assert made == [f"{run.number} by dba"]
    page = text(client, f"/runs/{run.pk}/")
    assert "needs an operator" not in box(page)
    assert "shop needs an operator" not in text(client, "/account/")
    assert "shop needed an operator and was opened again" in page
    assert "does not wait for an operator" in release(client, run), "and not a second time"


def test_a_release_that_failed_says_why_and_can_be_asked_for_again(
    stuck: Callable[..., MaintenanceRun], as_: As
) -> None:
    run, client = stuck(open_gate=["permanent"] * 40), as_("dba")
    release(client, run)
    tasks.release(run.targets.get().release_requests.get().pk)
    told = box(text(client, f"/runs/{run.pk}/"))
    assert "The release that dba asked for failed:" in told
    assert "told to fail" in told
    assert run.targets.get().released_at is None
    release(client, run)
    assert run.targets.get().release_requests.count() == 2


def test_a_release_that_breaks_off_is_never_told_as_done(
    stuck: Callable[..., MaintenanceRun], as_: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, client = stuck(), as_("dba")
    release(client, run)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("maintenance.workflow.release.release_by_box", broken)
    with pytest.raises(ZeroDivisionError):
        tasks.release(run.targets.get().release_requests.get().pk)
    told = box(text(client, f"/runs/{run.pk}/"))
    assert "it broke off; the log of the worker says where" in told
    assert run.targets.get().released_at is None


def test_what_another_maintenance_closed_since_is_not_opened_by_an_old_request(
    stuck: Callable[..., MaintenanceRun], as_: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, client = stuck(), as_("dba")
    release(client, run)
    target = run.targets.get()
    box_of = release_module.Remembered

    def of_another(*args: Any) -> Any:
        remembered = box_of(*args)
        remembered.target = target.pk + 1
        return remembered

    monkeypatch.setattr(release_module, "Remembered", of_another)
    mended(run)
    tasks.release(target.release_requests.get().pk)
    setting = target.setting
    assert setting is not None
    with fakes.opened(setting.url.removeprefix("fake:///")) as state:
        assert state["marker"] is not None, "still closed"
    assert "nothing to release" in box(text(client, f"/runs/{run.pk}/"))


def test_comments_and_hand_over_stay_with_the_run_and_are_told(
    stuck: Callable[..., MaintenanceRun], as_: As, people: dict[str, User], settings: Any, django_user_model: Any
) -> None:
    settings.CONFIG_FILE.write_text('{"notifications": {"dba": ["json://127.0.0.1:9/"]}}')
    run, client = stuck(), as_("dba")
    second = django_user_model.objects.create_user("night-shift", password="x")
    second.groups.set(people["dba"].groups.all())
    address = f"/runs/{run.pk}/comment/"
    client.post(address, {"text": "The disk is being replaced."})
    client.post(address, {"text": "I have to go.", "handed_to": "night-shift"})
    client.post(address, {"text": "", "handed_to": "night-shift"})
    client.post(address, {"text": "for nobody", "handed_to": "manager"})
    page = text(as_("manager"), f"/runs/{run.pk}/")
    assert page.index("The disk is being replaced.") < page.index("I have to go.")
    assert "handed over to night-shift" in page
    assert "for nobody" not in page
    assert "dba handed it over to night-shift: I have to go." in Notification.objects.get(event="handed_over").body
    assert [e.operation for e in AuditEntry.objects.filter(object=run.number, actor="dba").order_by("id")] == [
        "run.commented",
        "run.handed_over",
    ]
