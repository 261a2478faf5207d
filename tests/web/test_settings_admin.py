"""TBL-098 in the admin site: validated, audited with before and after, and the password never comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.forms.models import model_to_dict
from django.test import Client
from django.utils import translation

from maintenance.admin import MaintenanceSettingAdmin
from maintenance.auditing import chain
from maintenance.forms.setting import SettingForm
from maintenance.models import AuditEntry, MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.text.permissions import PERMISSIONS

pytestmark = pytest.mark.django_db
As = Callable[[str], Client]
Register = Callable[..., MaintenanceSetting]


def values(setting: MaintenanceSetting, **changes: Any) -> dict[str, Any]:
    """The form as a browser would send it."""
    found = {k: v for k, v in model_to_dict(setting).items() if v is not None}
    lists: dict[str, Any] = {
        "release_stages": ", ".join(str(x) for x in setting.release_stages),
        "functional_checks": "".join(f"{x};\n" for x in setting.functional_checks),
        "benchmark_queries": "".join(f"{x};\n" for x in setting.benchmark_queries),
    }
    return {**found, **lists, "new_password": "", **changes}


def save(client: Client, setting: MaintenanceSetting, **changes: Any) -> str:
    path = f"/admin/maintenance/maintenancesetting/{setting.pk}/change/"
    return client.post(path, values(setting, **changes), follow=True).content.decode()


def test_a_change_is_audited_with_before_and_after(as_: As, fake: Register) -> None:
    setting = fake()
    save(as_("administrator"), setting, jobs=4)
    setting.refresh_from_db()
    assert setting.jobs == 4
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.operation, entry.object) == ("administrator", "setting.changed", "shop")
    assert (entry.before or {})["jobs"] == 2
    assert (entry.after or {})["jobs"] == 4
    assert chain.verify().whole


def test_the_password_goes_in_and_never_comes_out(as_: As, fake: Register) -> None:
    setting, client = fake(), as_("administrator")
    save(client, setting, new_password="s3cret-words")
    setting.refresh_from_db()
    assert setting.password == "s3cret-words"
    page = save(client, setting, jobs=3)
    setting.refresh_from_db()
    assert setting.password == "s3cret-words", "empty leaves it as it is"
    assert "s3cret-words" not in page
    assert setting.sealed_password not in page
    told = json.dumps(list(AuditEntry.objects.values("before", "after")))
    assert "s3cret-words" not in told
    assert setting.sealed_password not in told


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"url": "oracle://host/db"}, "Use one of: "),
        ({"url": "what"}, "Use one of: "),
        ({"url": "postgresql://dba@host/db?password=s3cret-words"}, "Give the password before the @"),
        ({"backup_dir": "relative/folder"}, "Give an absolute path."),
        ({"applications": ["no-such"]}, "no-such is not one of the available choices"),
        ({"approval_severities": ["terrible"]}, "terrible is not one of the available choices"),
        ({"bloat_share": "1.5"}, "less than or equal to 1"),
        ({"release_stages": "ten"}, "Give percentages separated by commas, e.g. 10, 50."),
        ({"release_stages": "50, 10"}, "larger than the one before it"),
        ({"release_stages": "10, 100"}, "below 100"),
        ({"functional_checks": "DELETE FROM orders;"}, "This does not read: DELETE FROM orders"),
        ({"benchmark_queries": "SELECT 1;\nDROP TABLE orders;"}, "This does not read: DROP TABLE orders"),
        ({"timeout_minutes": "30", "reserve_minutes": "30"}, "Less than the maximum duration"),
        ({"lock_seconds": "0"}, "Give a number above 0."),
        ({"stage_wait_seconds": "-1"}, "greater than or equal to 0"),
    ],
)
def test_what_could_never_work_is_refused_at_save(
    changes: dict[str, str], sentence: str, as_: As, fake: Register
) -> None:
    assert sentence in save(as_("administrator"), fake(), **changes)
    assert not AuditEntry.objects.exists()


@pytest.mark.long
def test_lists_are_ticked_or_typed_as_people_write_them(as_: As, fake: Register, tmp_path: Path, settings: Any) -> None:
    stop = {"stop": ["true"], "start": ["true"], "check": ["true"]}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"applications": {"shop-web": stop, "shop-mail": stop}}))
    settings.CONFIG_FILE = config
    setting, client = fake(), as_("administrator")
    save(
        client,
        setting,
        applications=["shop-mail"],
        approval_severities=["critical", "high"],
        release_stages="5, 12.5 , 50",
        functional_checks="SELECT count(*) > 0\n  FROM orders;\r\nselect ';' = ';'",
    )
    setting.refresh_from_db()
    assert setting.applications == ["shop-mail"]
    assert setting.approval_severities == ["critical", "high"]
    assert setting.release_stages == [5, 12.5, 50]
    assert setting.functional_checks == ["SELECT count(*) > 0\n  FROM orders", "select ';' = ';'"]
    page = client.get(f"/admin/maintenance/maintenancesetting/{setting.pk}/change/").content.decode()
    assert 'value="5, 12.5, 50"' in page
    assert re.search(r'value="shop-mail"[^>]* checked', page)
    assert re.search(r'value="shop-web"(?![^>]* checked)', page)
    assert page.count(" checked") == 4, "enabled, an application, two severities"


def test_an_application_that_config_json_lost_is_still_shown_and_named(as_: As, fake: Register) -> None:
    setting, client = fake(), as_("administrator")
    setting.applications = ["shop-web"]
    setting.save()
    assert "config.json does not describe: shop-web." in save(client, setting)
    save(client, setting, applications=[])
    setting.refresh_from_db()
    assert setting.applications == []


@pytest.mark.parametrize(("language", "word"), [("en", "Default: 7200."), ("ja", "既定値: 7200。")])
def test_every_field_says_what_it_does_and_what_it_is_by_default(language: str, word: str, fake: Register) -> None:
    with translation.override(language):
        form = SettingForm(instance=fake())
        told = {name: str(field.help_text) for name, field in form.fields.items()}
    assert [name for name, text in told.items() if not text] == []
    assert told["statement_seconds"].endswith(word)
    shown = {name for _, options in MaintenanceSettingAdmin.fieldsets for name in options["fields"]}
    assert set(told) <= shown


def test_deleting_is_audited(as_: As, fake: Register) -> None:
    setting = fake()
    as_("administrator").post(f"/admin/maintenance/maintenancesetting/{setting.pk}/delete/", {"post": "yes"})
    assert not MaintenanceSetting.objects.exists()
    assert AuditEntry.objects.get().operation == "setting.deleted"


@pytest.mark.long
def test_what_a_maintenance_works_on_stays_what_it_is_until_that_is_over(
    as_: As, fake: Register, request_for: Callable[..., Request], someone: Actor
) -> None:
    """A successor of its worker would go to another server with the connection settings of the first."""
    setting, client = fake(), as_("administrator")
    launch.launch(someone, request_for("shop"))
    assert "EM-" in save(client, setting, url=f"{setting.url}-elsewhere")
    assert "EM-" in save(client, setting, name="store")
    path = f"/admin/maintenance/maintenancesetting/{setting.pk}/delete/"
    assert "EM-" in client.post(path, {"post": "yes"}).content.decode()
    save(client, setting, jobs=7)
    assert [(s.name, s.url, s.jobs) for s in MaintenanceSetting.objects.all()] == [("shop", setting.url, 7)]
    launch.cancel(someone, MaintenanceRun.objects.get())
    save(client, setting, name="store")
    assert MaintenanceSetting.objects.get().name == "store"


@pytest.mark.long
def test_the_connection_is_tested_with_the_servers_words(as_: As, fake: Register, tmp_path: Path) -> None:
    setting, client = fake(), as_("administrator")
    path = f"/admin/maintenance/maintenancesetting/{setting.pk}/test/"
    assert "Connected: Fake 1." in client.post(path, follow=True).content.decode()
    (tmp_path / "shop.json").unlink()
    assert "No connection: " in client.post(path, follow=True).content.decode()


def test_the_rights_of_the_account_are_shown_with_the_statements_that_give_them(
    as_: As, fake: Register, tmp_path: Path
) -> None:
    setting, client = fake(), as_("administrator")
    path = f"/admin/maintenance/maintenancesetting/{setting.pk}/grants/"
    page = client.post(path).content.decode()
    assert "<pre>GRANT EVERYTHING TO dba;\n</pre>" in page
    assert "Only the owner of the machine can repair it" in page
    assert "no statement gives it" in page
    assert "GRANT EVERYTHING TO db_admin;" in client.post(path, {"role": "db_admin"}).content.decode()
    (tmp_path / "shop.json").unlink()
    assert "No connection: " in client.post(path, follow=True).content.decode()


def looked(client: Client, setting: MaintenanceSetting, **changes: Any) -> str:
    path = f"/admin/maintenance/maintenancesetting/{setting.pk}/look/"
    return client.post(path, values(setting, **changes), headers={"HX-Request": "true"}).content.decode()


def test_values_are_tried_before_they_are_saved(as_: As, fake: Register, looked_at: Any) -> None:
    setting, client = fake(), as_("administrator")
    looked_at(setting)
    page = looked(client, setting, bloat_share=0.4)
    assert "Connected: " in page
    assert f"{setting.backup_dir} is " in page
    assert "1 of 1 tables would be rewritten." in looked(client, setting, bloat_share=0.4, minimum_bytes=0)
    assert "0 of 1 tables would be rewritten." in looked(client, setting, bloat_share=0.6, minimum_bytes=0)
    before = model_to_dict(setting)
    setting.refresh_from_db()
    assert model_to_dict(setting) == before, "nothing is saved"
    tested = AuditEntry.objects.filter(operation="setting.tested", object="shop")
    assert tested.count() == 3
    assert "Nothing is saved yet" in page


@pytest.mark.parametrize("url", ["mysql://dba@rogue.example/db?local_infile=1", "postgresql://dba@rogue.example/db"])
def test_trying_values_never_takes_the_stored_password_elsewhere(
    url: str, as_: As, fake: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, client = fake(), as_("administrator")
    save(client, setting, new_password="s3cret-words")
    asked: list[object] = []
    monkeypatch.setattr("maintenance.admin.connected", asked.append)
    page = looked(client, setting, url=url)
    assert "✕" in page
    assert "s3cret-words" not in page
    assert asked == []


@pytest.mark.parametrize("who", ["dba", "manager", "auditor"])
def test_only_who_may_change_settings_tries_values(who: str, as_: As, fake: Register) -> None:
    setting = fake()
    client = as_(who)
    for path in (f"{setting.pk}/look/", "look/"):
        assert client.post(f"/admin/maintenance/maintenancesetting/{path}", values(setting)).status_code in (302, 403)
    assert not AuditEntry.objects.filter(operation="setting.tested").exists()


def test_a_new_database_is_tried_before_it_is_registered(as_: As, fake: Register) -> None:
    known = fake()
    sent = values(known, name="other", backup_dir=f"{known.backup_dir}-other")
    page = as_("administrator").post("/admin/maintenance/maintenancesetting/look/", sent).content.decode()
    assert "is not there yet and will be made" in page
    assert MaintenanceSetting.objects.count() == 1


def test_each_field_tells_who_changed_it_last_and_what_it_was(as_: As, fake: Register) -> None:
    setting, client = fake(), as_("administrator")
    save(client, setting, jobs=4)
    setting.refresh_from_db()
    page = client.get(f"/admin/maintenance/maintenancesetting/{setting.pk}/change/").content.decode()
    assert page.count("Last changed by administrator") == 1
    assert "; before: 2</span>" in page


@pytest.mark.parametrize(("language", "word"), [("en", "launch a maintenance"), ("ja", "メンテナンスの開始")])
def test_people_and_groups_are_told_in_words(language: str, word: str, people: dict[str, User]) -> None:
    User.objects.create_superuser("root", password="root-password")
    client = Client(headers={"Accept-Language": language})
    client.force_login(User.objects.get(username="root"))
    group = Group.objects.get(name="DBA")
    for path in (f"user/{people['dba'].pk}/change/", "group/", f"group/{group.pk}/change/"):
        page = client.get(f"/admin/auth/{path}").content.decode()
        assert word in page
        assert "Can launch a maintenance" not in page


def test_what_a_group_may_is_ticked_and_audited(people: dict[str, User]) -> None:
    User.objects.create_superuser("root", password="root-password")
    client = Client()
    client.force_login(User.objects.get(username="root"))
    group = Group.objects.get(name="Management")
    chosen = Permission.objects.get(codename="cancel_maintenance")
    client.post(f"/admin/auth/group/{group.pk}/change/", {"name": "Management", "permissions": [chosen.pk]})
    assert [p.codename for p in group.permissions.all()] == ["cancel_maintenance"]
    assert (AuditEntry.objects.get(operation="group.changed").after or {})["permissions"] == ["cancel_maintenance"]


def test_nobody_makes_a_superuser_who_is_none(people: dict[str, User]) -> None:
    administrator = people["administrator"]
    administrator.user_permissions.add(*Permission.objects.filter(codename__in=["change_user", "view_user"]))
    client = Client()
    client.force_login(User.objects.get(pk=administrator.pk))
    sent = {"username": "administrator", "is_active": "on", "is_superuser": "on"}
    client.post(f"/admin/auth/user/{administrator.pk}/change/", sent)
    assert not User.objects.get(pk=administrator.pk).is_superuser


def test_every_permission_of_ours_has_words() -> None:
    ours = Permission.objects.filter(content_type__app_label="maintenance")
    granted = set(ours.filter(group__isnull=False).values_list("codename", flat=True))
    assert granted <= set(PERMISSIONS)


@pytest.mark.long
def test_people_and_their_groups_are_audited(people: dict[str, User]) -> None:
    User.objects.create_superuser("root", password="root-password")
    client = Client()
    client.force_login(User.objects.get(username="root"))
    group = Group.objects.get(name="DBA")
    manager = people["manager"]
    sent = {"username": "manager", "is_active": "on", "groups": [group.pk], "date_joined_0": "2026-01-01"}
    client.post(f"/admin/auth/user/{manager.pk}/change/", {**sent, "date_joined_1": "00:00:00"})
    entry = AuditEntry.objects.get(operation="person.changed")
    assert (entry.before or {})["groups"] == ["Management"]
    assert (entry.after or {})["groups"] == ["DBA"]
