"""The one door: who may, what is refused and with which words, and that exactly one of many gets in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, connections
from django.utils import timezone
from django_q.models import OrmQ

from maintenance.auditing import chain
from maintenance.engines.parts import AT_WORK_ELSEWHERE
from maintenance.models import (
    Approval,
    AuditEntry,
    MaintenanceRun,
    MaintenanceSetting,
    Notification,
    RunTarget,
    ScopeHold,
    letters,
)
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.requests.request import check
from tests.fakes import FakeEngine

Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


def person(user: User) -> Actor:
    return Actor(user.username, "form", user)


@pytest.mark.django_db
def test_what_another_installation_holds_is_refused(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake()
    monkeypatch.setattr(FakeEngine, "held_by_other_installation", lambda self: AT_WORK_ELSEWHERE)
    with pytest.raises(launch.Locked, match=r"^shop: another installation of this console is at work on it"):
        launch.launch(someone, request_for("shop"))
    assert not MaintenanceRun.objects.exists()


@pytest.mark.django_db
def test_every_run_bears_the_letters_of_its_installation(fake: Register, request_for: Ask, someone: Actor) -> None:
    fake()
    drawn = letters()
    assert re.fullmatch("[bcdfghjkmnpqrstvwxz]{8}", drawn)
    assert launch.launch(someone, request_for("shop")).targets.get().site == drawn == letters()


@pytest.mark.django_db
class TestWhoMay:
    @pytest.mark.parametrize("name", ["manager", "administrator", "auditor", "outsider"])
    def test_only_a_dba_may_launch(self, people: dict[str, User], fake: Register, request_for: Ask, name: str) -> None:
        fake()
        with pytest.raises(launch.NotPermitted, match=f"{name} may not launch"):
            launch.launch(person(people[name]), request_for("shop"))
        assert not MaintenanceRun.objects.exists()
        assert launch.launch(person(people["dba"]), request_for("shop")).status == "queued"

    def test_data_loss_has_a_permission_of_its_own(
        self, people: dict[str, User], fake: Register, request_for: Ask
    ) -> None:
        fake()
        with pytest.raises(launch.NotPermitted, match="allow data loss"):
            launch.launch(person(people["dba"]), request_for("shop", allow_data_loss=True))

    @pytest.mark.long
    def test_the_one_who_asked_cannot_approve_superusers_included(
        self, people: dict[str, User], fake: Register, request_for: Ask
    ) -> None:
        setting = fake()
        setting.approval_severities = ["high"]
        setting.save()
        boss = User.objects.create_superuser("boss", password="boss-password")
        run = launch.launch(person(boss), request_for("shop"))
        assert (run.status, OrmQ.objects.count()) == ("awaiting_approval", 0)
        with pytest.raises(launch.NotPermitted, match="a second person"):
            launch.approve(person(boss), run)
        launch.approve(person(people["dba"]), run)
        run.refresh_from_db()
        assert (run.status, OrmQ.objects.count()) == ("queued", 1)
        with pytest.raises(launch.BadInput, match="does not wait"):
            launch.approve(person(people["dba"]), run)

    @pytest.mark.parametrize("name", ["boss", "someone else"])
    def test_an_account_that_asked_cannot_approve_under_another_name(
        self, fake: Register, request_for: Ask, name: str
    ) -> None:
        setting = fake()
        setting.approval_severities = ["high"]
        setting.save()
        boss = User.objects.create_superuser("boss", password="boss-password")
        run = launch.launch(person(boss), request_for("shop"))
        boss.username = name
        boss.save()
        with pytest.raises(launch.NotPermitted, match="a second person has to approve it"):
            launch.approve(person(boss), run)
        run.refresh_from_db()
        assert run.status == "awaiting_approval"
        other = User.objects.create_superuser("other", password="other-password")
        launch.approve(person(other), run)

    @pytest.mark.long
    def test_breaking_the_glass_wants_its_permission_and_a_reason_and_is_told(
        self, people: dict[str, User], fake: Register, request_for: Ask, settings: Any
    ) -> None:
        setting = fake()
        setting.approval_severities = ["high"]
        setting.save()
        settings.CONFIG_FILE.write_text(json.dumps({"notifications": {"dba": ["json://localhost"]}}))
        with pytest.raises(launch.NotPermitted, match="without its approval"):
            launch.launch(person(people["dba"]), request_for("shop"), break_glass="nobody answers")
        assert not MaintenanceRun.objects.exists()
        people["dba"].groups.add(Group.objects.get(name="Break glass"))
        dba = person(User.objects.get(username="dba"))
        run = launch.launch(dba, request_for("shop"), break_glass="nobody answers")
        assert (run.status, run.targets.get().status, OrmQ.objects.count()) == ("queued", "queued", 1)
        assert (run.approval.by_name, run.approval.broken_glass) == ("dba", "nobody answers")
        told = AuditEntry.objects.get(operation="run.glass_broken").after
        assert told == {"reason": "nobody answers", "digest": run.approval.digest}
        assert "nobody answers" in Notification.objects.get(event="glass_broken").body
        with pytest.raises(launch.BadInput, match="does not wait"):
            launch.go_without_approval(dba, run, "again")
        with pytest.raises(launch.BadInput, match="A reason is required"):
            launch.go_without_approval(dba, run, "  ")

    def test_a_reason_to_break_the_glass_means_nothing_where_no_approval_is_needed(
        self, people: dict[str, User], fake: Register, request_for: Ask
    ) -> None:
        fake()
        run = launch.launch(person(people["dba"]), request_for("shop"), break_glass="nobody answers")
        assert run.status == "queued"
        assert not Approval.objects.exists()


@pytest.mark.django_db
class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"maintenance_type": "polish"}, "maintenance_type is 'polish'; it is one of repair, optimize, rebuild"),
            ({"severity_level": "urgent"}, "severity_level is 'urgent'; it is one of critical, high, medium"),
            ({"target_databases": ["nowhere"]}, "There is no database nowhere; registered are: shop"),
            ({"target_databases": []}, "Name at least one database"),
            ({"target_tables": ["nothing"]}, "There is no table nothing in shop"),
            ({"reason": "  "}, "A reason is required"),
        ],
    )
    def test_bad_input_is_one_sentence(
        self, fake: Register, request_for: Ask, someone: Actor, changes: dict[str, Any], words: str
    ) -> None:
        fake()
        with pytest.raises(launch.BadInput, match=words):
            launch.launch(someone, request_for("shop", **changes))
        assert not MaintenanceRun.objects.exists()
        assert not AuditEntry.objects.exists()

    def test_a_replica(self, fake: Register, request_for: Ask, someone: Actor) -> None:
        setting = fake()
        path = Path(str(setting.engine_url.database))
        path.write_text(json.dumps({**json.loads(path.read_text()), "replica": True}))
        with pytest.raises(launch.BadInput, match="shop is a replica; maintain its primary"):
            launch.launch(someone, request_for("shop"))

    def test_a_target_that_is_not_there(self, fake: Register, request_for: Ask, someone: Actor) -> None:
        Path(str(fake().engine_url.database)).unlink()
        with pytest.raises(launch.BadInput, match=r"shop: Failed while opening .*: no such file"):
            launch.launch(someone, request_for("shop"))

    def test_the_control_database_itself(self, request_for: Ask, someone: Actor, tmp_path: Path) -> None:
        MaintenanceSetting.objects.create(
            name="itself", url=f"sqlite:///{connection.settings_dict['NAME']}", backup_dir=str(tmp_path)
        )
        with pytest.raises(launch.BadInput, match="itself is the control database of this console"):
            launch.launch(someone, request_for("itself"))

    def test_a_backup_folder_that_is_the_data_folder(self, request_for: Ask, someone: Actor, tmp_path: Path) -> None:
        import sqlite3

        file = tmp_path / "data" / "shop.db"
        file.parent.mkdir()
        with sqlite3.connect(file) as plain:
            plain.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        plain.close()
        MaintenanceSetting.objects.create(name="shop", url=f"sqlite:///{file}", backup_dir=str(file.parent))
        with pytest.raises(launch.BadInput, match="is the data folder; choose another"):
            launch.launch(someone, request_for("shop"))

    def test_an_application_that_config_json_does_not_describe(
        self, fake: Register, request_for: Ask, someone: Actor
    ) -> None:
        """It would be missed only after the backup, which may have taken hours."""
        fake()
        MaintenanceSetting.objects.update(applications=["web"])
        with pytest.raises(launch.BadInput, match=r"web not described in config\.json"):
            launch.launch(someone, request_for("shop"))

    def test_a_broken_config_json(self, fake: Register, request_for: Ask, someone: Actor, settings: Any) -> None:
        fake()
        settings.CONFIG_FILE.write_text("{")
        with pytest.raises(launch.BadInput, match=r"config\.json"):
            launch.launch(someone, request_for("shop"))
        assert not MaintenanceRun.objects.exists()

    @pytest.mark.long
    def test_what_another_run_leaves_to_people_while_this_one_is_checked(
        self, fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other holds the lock until its end, and its end leaves the database closed."""
        fake()
        other = launch.launch(someone, request_for("shop"))
        looked = check

        def checked(*asked: Any) -> Any:
            found = looked(*asked)
            other.targets.update(status="needs_operator", gate={"limit": -1}, finished_at=timezone.now())
            ScopeHold.objects.all().delete()
            return found

        monkeypatch.setattr("maintenance.requests.launch.check", checked)
        with pytest.raises(launch.BadInput, match="shop waits for an operator since"):
            launch.launch(someone, request_for("shop"))
        assert MaintenanceRun.objects.get() == other

    @pytest.mark.long
    def test_what_an_earlier_run_left_closed_under_another_name_too(
        self, fake: Register, request_for: Ask, someone: Actor
    ) -> None:
        shop = fake()
        link = Path(str(shop.engine_url.database)).with_name("link.json")
        link.symlink_to("shop.json")
        second = {"backup_dir": shop.backup_dir, "alternate_backup_dir": shop.alternate_backup_dir}
        MaintenanceSetting.objects.create(name="again", url=f"fake:///{link}", **second)
        fake("crm")
        run = launch.launch(someone, request_for("shop"), enqueue=False)
        run.targets.update(status="needs_operator", gate={"limit": -1}, finished_at=timezone.now())
        ScopeHold.objects.all().delete()
        with pytest.raises(launch.BadInput, match=r"again is the same database as shop, which waits .*release shop$"):
            launch.launch(someone, request_for("again"))
        shop.delete()
        with pytest.raises(launch.BadInput, match="again is the same database as shop"):
            launch.launch(someone, request_for("again"))
        assert launch.launch(someone, request_for("crm"), enqueue=False)

    def test_a_second_launch_is_told_who_holds_the_lock(self, fake: Register, request_for: Ask, someone: Actor) -> None:
        fake("shop")
        fake("crm")
        first = launch.launch(someone, request_for("shop"))
        with pytest.raises(launch.Locked, match=f"{first.number} of shop holds the lock since"):
            launch.launch(someone, request_for("crm"))

    @pytest.mark.long
    def test_with_a_lock_for_each_database_another_one_may_run(
        self, fake: Register, request_for: Ask, someone: Actor, settings: Any
    ) -> None:
        settings.CONFIG_FILE.write_text('{"exclusive_scope": "database"}')
        fake("shop")
        fake("crm")
        launch.launch(someone, request_for("shop"))
        launch.launch(someone, request_for("crm"))
        with pytest.raises(launch.Locked):
            launch.launch(someone, request_for("crm"))

    @pytest.mark.parametrize(("held", "asked"), [("database", "all"), ("all", "database")])
    def test_one_lock_over_all_and_one_for_each_database_keep_each_other_out(
        self, fake: Register, request_for: Ask, someone: Actor, settings: Any, held: str, asked: str
    ) -> None:
        """The rule may be changed while a maintenance runs."""
        fake("shop")
        fake("crm")
        settings.CONFIG_FILE.write_text(json.dumps({"exclusive_scope": held}))
        first = launch.launch(someone, request_for("shop"))
        settings.CONFIG_FILE.write_text(json.dumps({"exclusive_scope": asked}))
        with pytest.raises(launch.Locked, match=f"{first.number} of shop holds the lock since"):
            launch.launch(someone, request_for("crm"))


@pytest.mark.django_db
@pytest.mark.long
def test_row_audit_entry_and_one_message_a_target_are_one_commit(
    fake: Register, request_for: Ask, someone: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("shop")
    fake("crm")
    run = launch.launch(someone, request_for())
    assert RunTarget.objects.count() == OrmQ.objects.count() == 2
    assert [e.operation for e in AuditEntry.objects.all()] == ["run.launched"]
    assert chain.verify().whole
    launch.cancel(someone, run)
    RunTarget.objects.all().delete()
    OrmQ.objects.all().delete()
    monkeypatch.setattr("maintenance.auditing.chain.record", lambda *args, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        launch.launch(someone, request_for())
    assert not RunTarget.objects.exists()
    assert not OrmQ.objects.exists()
    assert not ScopeHold.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.long
def test_of_fifty_at_the_same_instant_exactly_one_starts(fake: Register, request_for: Ask, someone: Actor) -> None:
    fake()

    def one(number: int) -> str:
        try:
            launch.launch(someone, request_for("shop"))
            return "started"
        except launch.Locked:
            return "locked"
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(one, range(50)))
    assert (outcomes.count("started"), outcomes.count("locked")) == (1, 49)
    assert MaintenanceRun.objects.count() == OrmQ.objects.count() == 1


def test_a_plan_serves_its_own_person_and_its_own_request(
    people: dict[str, User], fake: Register, request_for: Ask
) -> None:
    fake()
    theirs = launch.plan_now("somebody else", request_for("shop"))
    with pytest.raises(launch.BadInput, match="was made for somebody else"):
        launch.launch(person(people["dba"]), request_for("shop"), agreed=theirs)
    other = launch.plan_now("dba", request_for("shop", maintenance_type="optimize"))
    with pytest.raises(launch.BadInput, match="was made for other parameters"):
        launch.launch(person(people["dba"]), request_for("shop"), agreed=other)
    assert not MaintenanceRun.objects.exists()
