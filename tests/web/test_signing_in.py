"""Logging in: lock-out, second factor, ends of sessions, and the headers that every page has."""

from __future__ import annotations

import re
import time
from base64 import b32encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from maintenance import middleware
from maintenance.auditing import chain
from maintenance.identity.addresses import address
from maintenance.models import AuditEntry, Authenticator, FailedTries, MaintenanceSetting

pytestmark = [pytest.mark.django_db, pytest.mark.whole]
As = Callable[[str], Client]


@pytest.fixture(autouse=True)
def _no_drift(settings: Any) -> None:
    """The clock of the test and that of the console are one, also when a code's 30 seconds end between two lines."""
    settings.OTP_TOTP_SYNC = False


def log_in(who: str, password: str | None = None, client: Client | None = None, **more: Any) -> HttpResponse:
    data = {"username": who, "password": password or f"{who}-password"}
    return (client or Client()).post("/accounts/login/", data, **more)  # type: ignore[return-value]


def code(user: User, steps: int = 0) -> str:
    device = Authenticator.objects.get(user=user)
    made = TOTP(device.bin_key)
    made.time = time.time() + 30 * steps
    return f"{made.token():06d}"


@pytest.fixture
def required(settings: Any) -> None:
    settings.SECOND_FACTOR_REQUIRED = True


def enrol(client: Client, user: User) -> list[str]:
    """Sets the second factor up as a person would; the recovery codes."""
    client.get("/account/second-factor/enrol/")
    answer = client.post("/account/second-factor/enrol/", {"code": code(user), "password": f"{user.username}-password"})
    return re.findall(r"<li>([a-z2-7]{8}-[a-z2-7]{8})</li>", answer.content.decode())


class TestLockOut:
    def test_five_wrong_passwords_lock_the_name_for_this_address(self, people: dict[str, User]) -> None:
        for _ in range(4):
            assert log_in("dba", "guess").status_code == 200
        assert log_in("dba", "guess").status_code == 429
        locked = log_in("dba")
        assert locked.status_code == 429
        assert "Try again in 15 minutes" in locked.content.decode()
        assert log_in("manager").status_code == 302

    def test_another_address_is_let_in(self, people: dict[str, User]) -> None:
        """Whoever attacks from outside cannot keep the DBA out in an emergency."""
        for _ in range(6):
            log_in("dba", "guess", REMOTE_ADDR="203.0.113.9")
        assert log_in("dba", REMOTE_ADDR="10.0.0.7").status_code == 302

    def test_the_lock_ends(self, people: dict[str, User]) -> None:
        for _ in range(6):
            log_in("dba", "guess")
        FailedTries.objects.update(last_at=timezone.now() - timedelta(minutes=14))
        assert log_in("dba").status_code == 429
        FailedTries.objects.update(last_at=timezone.now() - timedelta(minutes=15, seconds=1))
        assert log_in("dba").status_code == 302

    @pytest.mark.long
    def test_every_try_is_audited_but_not_those_at_a_locked_door(self, people: dict[str, User]) -> None:
        log_in("dba")
        for _ in range(20):
            log_in("manager", "guess")
        told = list(AuditEntry.objects.order_by("id").values_list("actor", "operation", "object"))
        assert told[0] == ("dba", "login", "127.0.0.1")
        assert told[1:] == [("manager", "login.failed", "127.0.0.1")] * 4 + [("manager", "login.locked", "127.0.0.1")]
        assert chain.verify().whole

    @pytest.mark.parametrize(
        ("peer", "forwarded", "client"),
        [
            ("203.0.113.9", "10.0.0.1", "203.0.113.9"),
            ("127.0.0.1", "203.0.113.9", "127.0.0.1"),
            ("10.0.0.2", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
            ("10.0.0.2", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
            ("", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.2", "", "10.0.0.2"),
        ],
    )
    def test_only_a_configured_proxy_is_believed(
        self, rf: Any, settings: Any, peer: str, forwarded: str, client: str
    ) -> None:
        settings.PROXIES = ("10.0.0.2", "unix")
        assert address(rf.get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded)) == client


class TestSecondFactor:
    @pytest.mark.parametrize("who", ["dba", "administrator", "auditor"])
    def test_whoever_may_change_something_has_to_set_it_up(self, who: str, required: None, as_: As) -> None:
        client = as_(who)
        for path in ("/", "/launch/", "/audit/", "/admin/", "/account/"):
            assert client.get(path).headers["Location"].startswith("/account/second-factor/enrol/?next=")
        assert client.post("/launch/").headers["Location"] == "/account/second-factor/enrol/"
        assert client.get("/api/v1/databases").status_code == 401
        assert client.get("/account/second-factor/enrol/").status_code == 200

    @pytest.mark.parametrize("permission", ["break_glass", "cancel_maintenance"])
    def test_one_permission_to_change_something_is_enough(
        self, permission: str, required: None, as_: As, people: dict[str, User]
    ) -> None:
        people["manager"].user_permissions.add(Permission.objects.get(codename=permission))
        assert as_("manager").get("/")["Location"].startswith("/account/second-factor/enrol/")

    def test_readers_do_not_need_one(self, required: None, as_: As) -> None:
        assert as_("manager").get("/").status_code == 200

    def test_it_is_optional_for_the_demo(self, as_: As) -> None:
        assert as_("dba").get("/launch/").status_code == 200

    @pytest.mark.long
    def test_setting_it_up_wants_a_code_and_the_password(
        self, required: None, as_: As, people: dict[str, User]
    ) -> None:
        client, user = as_("dba"), people["dba"]
        page = client.get("/account/second-factor/enrol/").content.decode()
        assert "<svg" in page
        wrong = {"code": "000000", "password": "dba-password"}
        assert "not the code" in client.post("/account/second-factor/enrol/", wrong).content.decode()
        Authenticator.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
        stranger = {"code": code(user), "password": "guess"}
        assert "The password is wrong" in client.post("/account/second-factor/enrol/", stranger).content.decode()
        assert len(enrol(client, user)) == 10
        assert client.get("/launch/").status_code == 200
        assert AuditEntry.objects.filter(operation="second_factor.enrolled", actor="dba").exists()

    def test_after_the_password_the_code_is_wanted(self, as_: As, people: dict[str, User]) -> None:
        enrol(as_("dba"), people["dba"])
        client = Client()
        log_in("dba", client=client)
        assert client.get("/history/").headers["Location"] == "/account/second-factor/?next=%2Fhistory%2F"
        assert client.get("/alarm/", headers={"HX-Request": "true"}).headers["HX-Redirect"] == "/account/second-factor/"
        assert client.get("/api/v1/databases").status_code == 401
        assert client.post("/account/second-factor/remove/", {"password": "dba-password"}).status_code == 302
        assert Authenticator.objects.filter(confirmed=True).exists()
        answer = client.post("/account/second-factor/", {"code": code(people["dba"], 1), "next": "/history/"})
        assert answer.headers["Location"] == "/history/"
        assert client.get("/history/").status_code == 200
        assert AuditEntry.objects.filter(operation="login.second_factor").exists()

    def test_a_code_counts_once(self, as_: As, people: dict[str, User]) -> None:
        enrol(as_("dba"), people["dba"])
        used = code(people["dba"], 1)
        for status in (302, 200):
            client = Client()
            log_in("dba", client=client)
            assert client.post("/account/second-factor/", {"code": used}).status_code == status

    def test_guessing_is_slowed_down_and_audited(self, as_: As, people: dict[str, User]) -> None:
        enrol(as_("dba"), people["dba"])
        client = Client()
        log_in("dba", client=client)
        assert client.post("/account/second-factor/", {"code": "000000"}).status_code == 200
        assert client.post("/account/second-factor/", {"code": code(people["dba"], 1)}).status_code == 200
        assert client.get("/").status_code == 302
        assert AuditEntry.objects.filter(operation="login.wrong_code").count() == 2

    def test_a_recovery_code_lets_in_once(self, as_: As, people: dict[str, User]) -> None:
        kept = enrol(as_("dba"), people["dba"])
        assert not StaticToken.objects.filter(token__in=kept).exists()
        for status in (302, 200):
            client = Client()
            log_in("dba", client=client)
            assert client.post("/account/second-factor/", {"code": kept[0].upper()}).status_code == status
        assert StaticDevice.objects.get().token_set.count() == 9

    def test_its_key_lies_encrypted_and_for_its_owner_alone(self, as_: As, people: dict[str, User]) -> None:
        page = as_("dba").get("/account/second-factor/enrol/").content.decode()
        device = Authenticator.objects.get(user=people["dba"])
        assert b32encode(device.bin_key).decode() in page
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM otp_totp_totpdevice")
            kept = repr(cursor.fetchall())
        assert device.bin_key.hex() not in kept
        assert b32encode(device.bin_key).decode() not in kept
        assert len(device.key) <= TOTPDevice._meta.get_field("key").max_length
        Authenticator.objects.update(user=people["manager"])
        assert not Authenticator.objects.get().readable

    def test_with_another_secret_key_the_recovery_codes_still_let_in(
        self, as_: As, people: dict[str, User], settings: Any
    ) -> None:
        user = people["dba"]
        kept = enrol(as_("dba"), user)
        now = code(user, 1)
        settings.SECRET_KEY = "another one"
        client = Client()
        log_in("dba", client=client)
        assert client.post("/account/second-factor/", {"code": now}).status_code == 200
        assert client.post("/account/second-factor/", {"code": kept[0]}).status_code == 302

    def test_removing_and_new_codes_want_the_password(self, as_: As, people: dict[str, User]) -> None:
        client = as_("dba")
        kept = enrol(client, people["dba"])
        for path in ("/account/recovery-codes/", "/account/second-factor/remove/"):
            assert client.post(path, {"password": "guess"}).status_code == 302
        assert StaticDevice.objects.get().token_set.count() == 10
        fresh = client.post("/account/recovery-codes/", {"password": "dba-password"}).content.decode()
        assert kept[0] not in fresh
        client.post("/account/second-factor/remove/", {"password": "dba-password"})
        assert not Authenticator.objects.exists()
        assert AuditEntry.objects.filter(operation="second_factor.removed").exists()

    def test_an_administrator_removes_it_by_command_when_everything_is_lost(
        self, as_: As, people: dict[str, User], capsys: pytest.CaptureFixture[str]
    ) -> None:
        enrol(as_("dba"), people["dba"])
        call_command("reset_second_factor", "dba")
        assert "dba logs in with the password alone" in capsys.readouterr().out
        assert not Authenticator.objects.exists()
        with pytest.raises(SystemExit):
            call_command("reset_second_factor", "nobody")

    def test_no_way_out_to_another_host(self, as_: As, people: dict[str, User]) -> None:
        enrol(as_("dba"), people["dba"])
        client = Client()
        log_in("dba", client=client)
        sent = {"code": code(people["dba"], 1), "next": "https://evil.example/"}
        assert client.post("/account/second-factor/", sent).headers["Location"] == "/"


class TestSessions:
    def test_a_session_ends_after_its_hours_however_busy(self, as_: As) -> None:
        client = as_("dba")
        client.get("/")
        session = client.session
        session[middleware.BEGAN] = (timezone.now() - timedelta(hours=9)).isoformat()
        session.save()
        assert client.get("/").headers["Location"].startswith("/accounts/login/")

    def test_an_idle_session_ends_and_a_page_that_refreshes_itself_is_idle(self, as_: As) -> None:
        client = as_("dba")
        client.get("/")
        for minutes, path, seen in ((30, "/alarm/", False), (30, "/history/", True)):
            session = client.session
            before = session[middleware.SEEN] = (timezone.now() - timedelta(minutes=minutes)).isoformat()
            session.save()
            assert client.get(path).status_code == 200
            assert (client.session[middleware.SEEN] != before) == seen
        session = client.session
        session[middleware.SEEN] = (timezone.now() - timedelta(minutes=61)).isoformat()
        session.save()
        assert client.get("/").status_code == 302

    def test_a_new_password_ends_the_other_sessions(self, as_: As, people: dict[str, User]) -> None:
        client = as_("dba")
        people["dba"].set_password("another-password-905")
        people["dba"].save()
        assert client.get("/").status_code == 302

    def test_logging_in_changes_the_session_key(self, people: dict[str, User]) -> None:
        client = Client()
        client.get("/accounts/login/")
        client.session["x"] = 1
        before = client.session.session_key
        log_in("dba", client=client)
        assert client.session.session_key != before


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/launch/", "/accounts/login/", "/api/v1/docs", "/nothing", "/api/v1/x"])
    def test_every_answer_has_a_strict_policy(
        self, path: str, as_: As, fake: Callable[..., MaintenanceSetting]
    ) -> None:
        fake()
        headers = as_("dba").get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"

    def test_what_stood_on_a_page_is_not_kept_by_the_browser(self, as_: As) -> None:
        assert as_("dba").get("/").headers["Cache-Control"] == "private, no-store"

    def test_a_form_without_its_token_is_refused(self, people: dict[str, User]) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(people["dba"])
        for path in ("/launch/", "/account/tokens/", "/account/second-factor/remove/", "/api/v1/maintenance"):
            assert client.post(path).status_code == 403
