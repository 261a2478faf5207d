"""One person tries to begin alone what needs two."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from maintenance import tasks
from maintenance.api import tokens
from maintenance.auditing import chain
from maintenance.models import Approval, AuditEntry, MaintenanceRun, MaintenanceSetting, RunTarget, ScopeHold
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.requests.rule import needs_second_person, settle_rule
from maintenance.workflow import recovery, runner
from tests.web.test_settings_admin import save

pytestmark = pytest.mark.django_db
As = Callable[[str], Client]
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]


@pytest.fixture
def ruled(fake: Register) -> MaintenanceSetting:
    setting = fake()
    setting.approval_severities = ["critical"]
    setting.save()
    return setting


@pytest.fixture
def asker(people: dict[str, User]) -> Actor:
    return Actor("dba", "web", people["dba"])


@pytest.fixture
def second(people: dict[str, User]) -> Actor:
    user = User.objects.create_user("dba2", email="dba2@example.org")
    user.groups.set(people["dba"].groups.all())
    return Actor("dba2", "web", user)


@pytest.fixture
def run(ruled: MaintenanceSetting, asker: Actor, request_for: Ask) -> MaintenanceRun:
    return launch.launch(asker, request_for("shop"))


class TestTheRule:
    @pytest.mark.parametrize("severity", ["critical", "high", "medium"])
    @pytest.mark.parametrize("kind", ["repair", "optimize", "rebuild"])
    def test_is_not_avoided_by_a_lower_severity(
        self, severity: str, kind: str, ruled: MaintenanceSetting, asker: Actor, request_for: Ask
    ) -> None:
        run = launch.launch(asker, request_for("shop", severity_level=severity, maintenance_type=kind))
        assert run.status == "awaiting_approval"

    @pytest.mark.parametrize("answers", [True, False])
    def test_is_not_avoided_by_a_second_name_of_the_database(
        self, answers: bool, ruled: MaintenanceSetting, asker: Actor, request_for: Ask
    ) -> None:
        if not answers:
            earlier = launch.launch(asker, request_for("shop"))
            launch.cancel(asker, earlier)
            MaintenanceSetting.objects.filter(pk=ruled.pk).update(url="fake:////nowhere/shop.json")
        other = MaintenanceSetting.objects.get(pk=ruled.pk)
        other.pk, other.name, other.url, other.approval_severities = None, "shop-2", ruled.url, []
        other.save()
        assert launch.launch(asker, request_for("shop-2")).status == "awaiting_approval"

    def test_is_not_that_of_another_database(
        self, ruled: MaintenanceSetting, fake: Register, asker: Actor, request_for: Ask
    ) -> None:
        fake("other")
        assert launch.launch(asker, request_for("other")).status == "queued"

    def test_waits_for_a_second_person_when_it_becomes_weaker(
        self, ruled: MaintenanceSetting, as_: As, people: dict[str, User]
    ) -> None:
        for _ in range(2):
            assert "until a second person saves the same" in save(as_("administrator"), ruled, approval_severities=[])
            ruled.refresh_from_db()
            assert ruled.approval_severities == ["critical"]
        other = User.objects.create_user("administrator2")
        other.groups.set(people["administrator"].groups.all())
        people["administrator2"] = other
        save(as_("administrator2"), ruled, approval_severities=[])
        ruled.refresh_from_db()
        assert (ruled.approval_severities, ruled.proposed_rule) == ([], None)

    @pytest.mark.parametrize("severity", ["critical", "high", "medium"])
    @pytest.mark.parametrize("kind", ["repair", "optimize", "rebuild"])
    def test_knows_the_kind_of_work(
        self, kind: str, severity: str, fake: Register, asker: Actor, request_for: Ask
    ) -> None:
        fake()
        MaintenanceSetting.objects.update(approval_types=["rebuild"])
        run = launch.launch(asker, request_for("shop", maintenance_type=kind, severity_level=severity))
        assert (run.status == "awaiting_approval") is (kind == "rebuild")

    @pytest.mark.parametrize(
        "rule", [{"approval_data_loss": True}, {"approval_types": ["optimize"]}, {"approval_outage_seconds": 1e9}]
    )
    def test_knows_what_may_be_lost(self, rule: dict[str, Any], fake: Register, request_for: Ask) -> None:
        setting = fake()
        for name, value in rule.items():
            setattr(setting, name, value)
        asked = request_for("shop", maintenance_type="repair", allow_data_loss=True)
        assert needs_second_person([setting], asked)

    @pytest.mark.parametrize(
        ("limit", "outages", "waits"),
        [(0, [], False), (60, [], True), (60, [59], False), (60, [60], True), (60, [10, 10, 90, 10], True)],
    )
    def test_knows_how_long_the_outage_is(
        self, limit: float, outages: list[int], waits: bool, fake: Register, request_for: Ask
    ) -> None:
        setting = fake()
        setting.approval_outage_seconds = limit
        for seconds in outages:
            past = MaintenanceRun.objects.create(maintenance_type="repair", target_databases=["shop"])
            began = timezone.now() - timedelta(days=1)
            RunTarget.objects.create(
                run=past,
                setting=setting,
                database="shop",
                outage_started_at=began,
                outage_ended_at=began + timedelta(seconds=seconds),
            )
        assert needs_second_person([setting], request_for("shop", maintenance_type="repair")) is waits

    def test_is_none_where_nobody_set_one(self, fake: Register, request_for: Ask) -> None:
        assert not needs_second_person([fake()], request_for("shop", allow_data_loss=True))

    @pytest.mark.parametrize(
        ("field", "strict", "weak"),
        [
            ("approval_severities", ["high"], []),
            ("approval_types", ["optimize", "rebuild"], ["rebuild"]),
            ("approval_data_loss", True, False),
            ("approval_outage_seconds", 60, 61),
            ("approval_outage_seconds", 60, 0),
        ],
    )
    def test_takes_two_people_to_weaken_and_says_who_proposed_it(
        self, field: str, strict: Any, weak: Any, fake: Register, people: dict[str, User]
    ) -> None:
        setting = fake()
        MaintenanceSetting.objects.update(**{field: strict})
        first, same = (
            Actor("administrator", "web", people["administrator"]),
            Actor("ＡＤＭＩＮＩＳＴＲＡＴＯＲ ", "command"),
        )
        second = Actor("other", "web", User.objects.create_user("other"))

        def ask(actor: Actor) -> bool:
            setting.refresh_from_db()
            setattr(setting, field, weak)
            waits = settle_rule(setting, actor)
            setting.save()
            return waits

        assert [ask(first), ask(first), ask(same)] == [True, True, True]
        assert getattr(setting, field) == strict
        [entry] = AuditEntry.objects.filter(operation="rule.proposed")
        assert (entry.actor, entry.object, (entry.after or {})[field]) == ("administrator", "shop", weak)
        assert not ask(second)
        setting.refresh_from_db()
        assert (getattr(setting, field), setting.proposed_rule) == (weak, None)

    def test_that_waits_stands_on_the_page_of_settings(self, ruled: MaintenanceSetting, as_: As) -> None:
        page = save(as_("administrator"), ruled, approval_severities=[])
        path = f"/admin/maintenance/maintenancesetting/{ruled.pk}/change/"
        assert "administrator, " in as_("administrator").get(path).content.decode()
        assert "waits until a second person" in page
        ruled.refresh_from_db()
        save(as_("administrator"), ruled, jobs=3)
        ruled.refresh_from_db()
        assert ruled.proposed_rule is not None, "it goes on waiting while other settings change"

    def test_that_waited_too_long_is_proposed_anew(
        self, ruled: MaintenanceSetting, people: dict[str, User], settings: Any
    ) -> None:
        ruled.approval_severities = []
        assert settle_rule(ruled, Actor("administrator", "web", people["administrator"]))
        assert ruled.proposed_rule is not None
        ruled.proposed_rule["at"] = (timezone.now() - timedelta(hours=settings.APPROVAL_HOURS + 1)).isoformat()
        ruled.save()
        ruled.approval_severities = []
        assert settle_rule(ruled, Actor("other", "command"))

    def test_that_is_weaker_in_another_way_waits_for_its_own_second_person(
        self, ruled: MaintenanceSetting, people: dict[str, User]
    ) -> None:
        """Two who want different things have not agreed on either."""
        MaintenanceSetting.objects.filter(pk=ruled.pk).update(approval_types=["rebuild"])
        ruled.refresh_from_db()
        ruled.approval_severities = []
        assert settle_rule(ruled, Actor("administrator", "web", people["administrator"]))
        ruled.save()
        ruled.approval_types = []
        assert settle_rule(ruled, Actor("other", "command"))
        ruled.save()
        ruled.refresh_from_db()
        assert (ruled.approval_severities, ruled.approval_types) == (["critical"], ["rebuild"])

    def test_becomes_stricter_at_once(self, ruled: MaintenanceSetting, as_: As) -> None:
        save(as_("administrator"), ruled, approval_severities=["critical", "high"])
        ruled.refresh_from_db()
        assert ruled.approval_severities == ["critical", "high"]

    def test_does_not_go_with_its_row(self, ruled: MaintenanceSetting, as_: As) -> None:
        path = f"/admin/maintenance/maintenancesetting/{ruled.pk}/delete/"
        assert as_("administrator").post(path, {"post": "yes"}).status_code == 403
        assert MaintenanceSetting.objects.exists()

    def test_is_no_weaker_by_the_command_line(self, settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
        command = ("register_target", "shop", "sqlite:////data/shop.db")
        call_command(*command, '--set=approval_severities=["critical"]')
        with pytest.raises(SystemExit) as ended:
            call_command(*command, "--set=approval_severities=[]")
        assert ended.value.code == 4
        assert MaintenanceSetting.objects.get().approval_severities == ["critical"]


class TestTheSecondPerson:
    @pytest.mark.parametrize("name", ["dba", "DBA", "Dba ", "ｄｂａ"])
    def test_is_not_the_first_under_another_name(self, name: str, run: MaintenanceRun, people: dict[str, User]) -> None:
        user, _ = User.objects.get_or_create(username=name)
        user.is_superuser = True
        user.save()
        with pytest.raises(launch.NotPermitted, match="a second person has to approve it"):
            launch.approve(Actor(name, "api", user), run)
        run.refresh_from_db()
        assert run.status == "awaiting_approval"

    def test_is_not_the_first_with_the_same_mail(
        self, run: MaintenanceRun, second: Actor, people: dict[str, User]
    ) -> None:
        User.objects.filter(username="dba").update(email="DBA2@example.org")
        run.refresh_from_db()
        with pytest.raises(launch.NotPermitted):
            launch.approve(second, run)

    @pytest.mark.parametrize("name", ["dba2", "DBA2 ", "ｄｂａ２"])
    def test_is_not_who_changed_the_settings_meanwhile(self, name: str, run: MaintenanceRun, second: Actor) -> None:
        chain.record(name, "setting.changed", "shop", before={"jobs": 2}, after={"jobs": 2})
        chain.record("dba", "setting.changed", "shop", before={"jobs": 2}, after={"jobs": 2})
        with pytest.raises(launch.NotPermitted, match="changed the settings of shop since"):
            launch.approve(second, run)

    def test_is_not_who_changed_the_settings_with_the_same_mail(self, run: MaintenanceRun, second: Actor) -> None:
        User.objects.create_user("clerk", email="DBA2@example.org")
        chain.record("clerk", "setting.changed", "shop")
        with pytest.raises(launch.NotPermitted):
            launch.approve(second, run)

    def test_may_have_changed_them_before_or_those_of_others(self, run: MaintenanceRun, second: Actor) -> None:
        chain.record("dba2", "setting.changed", "ledger")
        chain.record("dba2", "setting.changed", "shop")
        MaintenanceRun.objects.update(created_at=timezone.now() + timedelta(seconds=1))
        run.refresh_from_db()
        launch.approve(second, run)
        assert Approval.objects.get().by_name == "dba2"

    def test_agrees_to_plan_and_settings(self, run: MaintenanceRun, second: Actor) -> None:
        assert run.agreed_plan is not None
        assert run.agreed_plan.targets
        launch.approve(second, run)
        [word] = Approval.objects.all()
        assert len(word.digest) == 64
        assert (AuditEntry.objects.get(operation="run.approved").after or {})["digest"] == word.digest


@pytest.fixture
def told(settings: Any) -> None:
    settings.CONFIG_FILE.write_text(json.dumps({"notifications": {"dba": ["json://localhost/dba"]}}))


@pytest.mark.usefixtures("told")
class TestYesOrNo:
    def page(self, as_: As, run: MaintenanceRun) -> str:
        return as_("dba").get(f"/runs/{run.pk}/approve/").content.decode()

    def test_is_said_before_plan_findings_lock_outage_and_disk(self, run: MaintenanceRun, as_: As) -> None:
        page = self.page(as_, run)
        assert run.agreed_plan is not None
        [target] = run.agreed_plan.targets
        assert target["findings"]
        assert target["actions"]
        assert all(action["object"] in page for action in target["actions"])
        for words in (
            "What it locks",
            "What is wrong with shop",
            "Nobody can use shop",
            "needed at one time",
            "holds the lock",
        ):
            assert words in page
        assert "No setting changed." in page

    @pytest.mark.parametrize("field", ["backup_dir", "bloat_share", "jobs"])
    def test_is_said_before_what_changed(self, field: str, run: MaintenanceRun, as_: As) -> None:
        MaintenanceSetting.objects.update(**{field: CHANGES[field]})
        page = self.page(as_, run)
        assert f">shop.{field}<" in page
        assert f">{CHANGES[field]}<" in page
        assert "No setting changed." not in page

    def test_yes_is_audited_and_told(self, run: MaintenanceRun, second: Actor) -> None:
        launch.approve(second, run)
        assert AuditEntry.objects.filter(operation="run.approved", actor="dba2").count() == 1
        assert "dba2 approved it." in run.notifications.get(event="approved").body

    def test_no_ends_it_is_audited_and_told(
        self, run: MaintenanceRun, second: Actor, asker: Actor, request_for: Ask
    ) -> None:
        assert second.user is not None
        client = Client()
        client.force_login(second.user)
        client.post(f"/runs/{run.pk}/reject/", {"comment": "not before the month is closed"})
        run.refresh_from_db()
        assert run.status == "cancelled"
        assert "dba2 rejected it: not before the month is closed" in run.ended_because
        [entry] = AuditEntry.objects.filter(operation="run.rejected")
        assert (entry.actor, entry.object) == ("dba2", run.number)
        assert "not before the month is closed" in run.notifications.get(event="rejected").body
        assert not ScopeHold.objects.exists()
        with pytest.raises(launch.BadInput, match="does not wait"):
            launch.approve(second, run)
        launch.launch(asker, request_for("shop"))

    def test_yes_wants_the_password_again(self, run: MaintenanceRun, second: Actor) -> None:
        assert second.user is not None
        second.user.set_password("second-password")
        second.user.save()
        client = Client()
        client.force_login(second.user)
        assert 'type="password"' in client.get(f"/runs/{run.pk}/approve/").content.decode()
        for sent in ({}, {"password": ""}, {"password": "guess"}):
            assert client.post(f"/runs/{run.pk}/approve/", sent).status_code == 200
            assert MaintenanceRun.objects.get().status == "awaiting_approval"
        assert AuditEntry.objects.filter(operation="approve.wrong_password", actor="dba2").count() == 1
        assert client.post(f"/runs/{run.pk}/approve/", {"password": "second-password"}).status_code == 302
        assert MaintenanceRun.objects.get().status == "queued"

    def test_no_is_said_by_machines_too(self, run: MaintenanceRun, second: Actor) -> None:
        assert second.user is not None

        def call(scope: str, comment: str) -> int:
            plain, _ = tokens.issue(second.user, scope, [scope], timedelta(days=1), "test")  # type: ignore[arg-type]
            sent = {"Authorization": f"Bearer {plain}"}
            address = f"/api/v1/maintenance/{run.pk}/reject"
            return int(Client().post(address, {"comment": comment}, "application/json", headers=sent).status_code)

        assert [call("launch", "no"), call("approve", ""), call("approve", "  "), call("approve", "not now")] == [
            403,
            422,
            409,
            202,
        ]
        run.refresh_from_db()
        assert (run.status, "dba2 rejected it: not now" in run.ended_because) == ("cancelled", True)
        assert call("approve", "again") == 409

    def test_no_is_said_from_the_command_line_too(self, run: MaintenanceRun, capsys: Any) -> None:
        for words, code in ((("4711", "--comment=no"), 2), ((run.number, "--comment= "), 2)):
            with pytest.raises(SystemExit) as ended:
                call_command("reject", *words)
            assert ended.value.code == code
        call_command("reject", run.number, "--comment=not now")
        run.refresh_from_db()
        assert run.status == "cancelled"
        assert AuditEntry.objects.filter(operation="run.rejected", actor="root (command line)").count() == 1

    @pytest.mark.parametrize("comment", ["", "  "])
    def test_no_needs_a_comment(self, comment: str, run: MaintenanceRun, second: Actor) -> None:
        with pytest.raises(launch.BadInput, match="A comment is required"):
            launch.reject(second, run, comment)
        run.refresh_from_db()
        assert run.status == "awaiting_approval"

    def test_no_is_not_for_everybody(self, run: MaintenanceRun, people: dict[str, User]) -> None:
        with pytest.raises(launch.NotPermitted):
            launch.reject(Actor("manager", "web", people["manager"]), run, "no")

    def test_no_comes_too_late_after_yes(self, run: MaintenanceRun, second: Actor) -> None:
        launch.approve(second, run)
        with pytest.raises(launch.BadInput, match="does not wait"):
            launch.reject(second, run, "no")


CHANGES = {
    "backup_dir": "/elsewhere",
    "alternate_backup_dir": "/elsewhere",
    "bloat_share": 0.01,
    "functional_checks": ["SELECT 1"],
    "benchmark_queries": ["SELECT 1"],
    "applications": ["shop-web"],
    "jobs": 9,
    "url": "fake:////elsewhere",
    "timeout_minutes": 5,
    "approval_severities": [],
    "approval_types": ["repair"],
}


class TestWhatWasAskedFor:
    @pytest.mark.parametrize("field", CHANGES)
    def test_is_asked_again_when_settings_changed_meanwhile(
        self, field: str, run: MaintenanceRun, second: Actor
    ) -> None:
        MaintenanceSetting.objects.update(**{field: CHANGES[field]})
        with pytest.raises(launch.BadInput, match=rf"shop\.{field} changed since EM-.* was asked for; cancel it and"):
            launch.approve(second, run)
        run.refresh_from_db()
        assert run.status == "awaiting_approval"
        assert not Approval.objects.exists()

    def test_is_asked_again_when_the_commands_of_an_application_changed(
        self, ruled: MaintenanceSetting, asker: Actor, second: Actor, request_for: Ask, settings: Any
    ) -> None:
        def describe(stop: str) -> None:
            words = {"stop": [stop], "start": ["true"], "check": ["true"]}
            settings.CONFIG_FILE.write_text(json.dumps({"applications": {"web": words}}))

        describe("true")
        MaintenanceSetting.objects.update(applications=["web"])
        run = launch.launch(asker, request_for("shop"))
        describe("false # another command")
        with pytest.raises(launch.BadInput, match=r"shop\.commands changed"):
            launch.approve(second, run)

    def test_is_asked_again_after_a_day(self, run: MaintenanceRun, second: Actor, settings: Any) -> None:
        MaintenanceRun.objects.update(created_at=timezone.now() - timedelta(hours=settings.APPROVAL_HOURS, minutes=1))
        run.refresh_from_db()
        with pytest.raises(launch.BadInput, match="more than 24 hours ago"):
            launch.approve(second, run)

    @pytest.mark.parametrize("how", ["settings", "age"])
    def test_is_asked_again_although_the_glass_is_broken(
        self, how: str, run: MaintenanceRun, people: dict[str, User], settings: Any
    ) -> None:
        if how == "settings":
            MaintenanceSetting.objects.update(backup_dir="/elsewhere")
        else:
            past = timezone.now() - timedelta(hours=settings.APPROVAL_HOURS, minutes=1)
            MaintenanceRun.objects.update(created_at=past)
        run.refresh_from_db()
        people["dba"].groups.add(Group.objects.get(name="Break glass"))
        dba = Actor("dba", "web", User.objects.get(username="dba"))
        with pytest.raises(launch.BadInput, match="cancel it and ask again"):
            launch.go_without_approval(dba, run, "nobody answers the phone")
        run.refresh_from_db()
        assert run.status == "awaiting_approval"
        assert not Approval.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_is_not_begun_with_other_settings_although_the_glass_was_broken(
        self, fake: Register, request_for: Ask
    ) -> None:
        fake()
        MaintenanceSetting.objects.update(approval_severities=["critical"])
        run = launch.launch(Actor("one (command line)", "command"), request_for("shop"))
        launch.go_without_approval(Actor("one (command line)", "command"), run, "nobody answers the phone")
        MaintenanceSetting.objects.update(bloat_share=0.01)
        runner.advance(run.targets.get().pk)
        target = RunTarget.objects.get()
        assert (target.status, target.outage_started_at) == ("failed", None)
        assert "shop.bloat_share changed" in target.ended_because

    @pytest.mark.parametrize("how", ["settings", "age"])
    def test_ends_by_itself_when_nobody_may_approve_it_any_more(
        self, how: str, run: MaintenanceRun, asker: Actor, request_for: Ask, settings: Any
    ) -> None:
        settings.CONFIG_FILE.write_text(json.dumps({"notifications": {"dba": ["json://localhost/dba"]}}))
        if how == "settings":
            MaintenanceSetting.objects.update(bloat_share=0.01)
        else:
            past = timezone.now() - timedelta(hours=settings.APPROVAL_HOURS, minutes=1)
            MaintenanceRun.objects.update(created_at=past)
        tasks.sweep(recovery.Watch(), recovery.Recoverers())
        tasks.sweep(recovery.Watch(), recovery.Recoverers())
        run.refresh_from_db()
        assert run.status == "cancelled"
        assert "ask again" in run.ended_because
        assert not ScopeHold.objects.exists()
        [entry] = AuditEntry.objects.filter(operation="run.outdated")
        assert (entry.actor, entry.object) == ("console", run.number)
        assert run.notifications.filter(event="outdated").count() == 1
        assert launch.launch(asker, request_for("shop")).status == "awaiting_approval"

    def test_waits_while_somebody_may_approve_it(self, run: MaintenanceRun, second: Actor) -> None:
        tasks.sweep(recovery.Watch(), recovery.Recoverers())
        launch.approve(second, run)
        assert not launch.end_outdated(MaintenanceRun.objects.get())
        assert MaintenanceRun.objects.get().status == "queued"

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("how", ["settings", "digest", "age"])
    def test_is_not_begun_when_it_is_not_what_was_approved(self, how: str, fake: Register, request_for: Ask) -> None:
        setting = fake()
        MaintenanceSetting.objects.update(approval_severities=["critical"])
        run = launch.launch(Actor("one (command line)", "command"), request_for("shop"))
        launch.approve(Actor("two (command line)", "command"), run)
        if how == "settings":
            MaintenanceSetting.objects.update(bloat_share=0.01)
        elif how == "digest":
            Approval.objects.update(digest="0" * 64)
        else:
            Approval.objects.update(at=timezone.now() - timedelta(days=30))
        runner.advance(run.targets.get().pk)
        target = RunTarget.objects.get()
        assert (target.status, target.outage_started_at) == ("failed", None)
        assert "ask again" in target.ended_because
        assert setting.name == "shop"

    @pytest.mark.django_db(transaction=True)
    def test_is_done_when_it_is(self, fake: Register, request_for: Ask) -> None:
        fake()
        MaintenanceSetting.objects.update(approval_severities=["critical"])
        run = launch.launch(Actor("one (command line)", "command"), request_for("shop"))
        launch.approve(Actor("two (command line)", "command"), run)
        runner.advance(run.targets.get().pk)
        assert RunTarget.objects.get().status == "succeeded"
