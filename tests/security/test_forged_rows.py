"""Who can read or write the control database's rows of sessions, people, rights and settings: what that is worth."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as project
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP

from maintenance import retention
from maintenance.api import tokens
from maintenance.identity import factors
from maintenance.identity.sessions import stored
from maintenance.models import Authenticator, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from tests.security.test_control_database import Bomb

pytestmark = pytest.mark.django_db
As = Callable[[str], Client]


class TestSessions:
    """Rows of sessions, read or written by somebody who has not the browser."""

    def rows(self) -> dict[str, str]:
        return dict(Session.objects.values_list("session_key", "session_data"))

    def test_a_row_does_not_hold_the_cookie(self, as_: As) -> None:
        client = as_("dba")
        cookie = client.cookies["sessionid"].value
        assert client.get("/launch/").status_code == 200
        assert not any(cookie in key or cookie in data for key, data in self.rows().items())
        for key in self.rows():
            thief = Client()
            thief.cookies["sessionid"] = key
            assert thief.get("/launch/").status_code == 302

    def test_content_copied_into_another_row_opens_nothing(self, as_: As, people: dict[str, User]) -> None:
        own = as_("outsider")
        [mine] = self.rows()
        as_("dba")
        [theirs] = [data for key, data in self.rows().items() if key != mine]
        Session.objects.filter(session_key=mine).update(session_data=theirs)
        assert own.get("/account/").status_code == 302
        planted = "x" * 32
        Session.objects.create(
            session_key=stored(planted), session_data=theirs, expire_date=timezone.now() + timedelta(days=1)
        )
        own.cookies["sessionid"] = planted
        assert own.get("/account/").status_code == 302

    def test_no_row_is_unpickled(self, as_: As, tmp_path: Path) -> None:
        client = as_("dba")
        bomb = base64.b64encode(b"x:" + pickle.dumps(Bomb(tmp_path / "ran"))).decode()
        Session.objects.update(session_data=bomb)
        assert client.get("/account/").status_code == 302
        assert not (tmp_path / "ran").exists()
        assert project.SESSION_SERIALIZER.endswith("JSONSerializer")

    def test_a_session_ends_with_its_row_and_with_logging_out(self, as_: As) -> None:
        one, other = as_("dba"), as_("dba")
        one.post("/accounts/logout/")
        assert one.get("/account/").status_code == 302
        assert other.get("/account/").status_code == 200
        Session.objects.update(expire_date=timezone.now())
        retention.remove("test")
        assert not Session.objects.exists()
        assert other.get("/account/").status_code == 302

    def test_nothing_is_cached_in_the_database(self) -> None:
        assert [cache["BACKEND"].rsplit(".", 1)[1] for cache in project.CACHES.values()] == ["LocMemCache"]


class TestWhoSomebodyIs:
    """Whoever can write the table of people is any of them; what that is worth."""

    def test_rights_that_were_written_into_tables_end_the_tokens(self, people: dict[str, User]) -> None:
        plain, _ = tokens.issue(people["manager"], "t", ["read", "launch"], timedelta(days=1), "test")
        permission = Permission.objects.get(codename="launch_maintenance")
        with connection.cursor() as cursor:
            row = (people["manager"].pk, permission.pk)
            cursor.execute("INSERT INTO auth_user_user_permissions (user_id, permission_id) VALUES (%s, %s)", row)
        answer = Client().get("/api/v1/databases", headers={"Authorization": f"Bearer {plain}"})
        assert answer.status_code == 401

    def test_a_permission_that_was_renamed_ends_them_too(self, people: dict[str, User]) -> None:
        plain, _ = tokens.issue(people["manager"], "t", ["read"], timedelta(days=1), "test")
        held = people["manager"].groups.get().permissions.first()
        assert held is not None
        Permission.objects.filter(codename="launch_maintenance").update(codename="was_launch_maintenance")
        Permission.objects.filter(pk=held.pk).update(codename="launch_maintenance")
        answer = Client().get("/api/v1/databases", headers={"Authorization": f"Bearer {plain}"})
        assert answer.status_code == 401

    def test_a_second_factor_copied_from_another_row_opens_nothing(self, people: dict[str, User]) -> None:
        for name in ("dba", "outsider"):
            key = Authenticator.new_key(people[name])
            Authenticator.objects.create(user=people[name], name="x", confirmed=True, key=key)
        mine = Authenticator.objects.get(user=people["outsider"])
        Authenticator.objects.filter(user=people["dba"]).update(key=mine.key)
        assert not Authenticator.objects.get(user=people["dba"]).readable
        assert factors.device_with(people["dba"], f"{TOTP(mine.bin_key).token():06d}") is None

    def test_a_command_is_never_in_a_row(self, fake: Callable[..., MaintenanceSetting], someone: Actor) -> None:
        setting = fake()
        MaintenanceSetting.objects.update(applications=["touch /tmp/ran; x"])
        with pytest.raises(launch.BadInput, match="not described in config"):
            launch.launch(someone, Request("repair", [setting.name], "high", "slow"))
