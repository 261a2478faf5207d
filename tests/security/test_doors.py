"""Every door where a secret can be tried: one throttle, by account and by address, answering with the waiting time."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_otp.oath import TOTP

from maintenance import retention
from maintenance.api import tokens
from maintenance.forms.pages import Proven
from maintenance.identity import throttle
from maintenance.models import (
    ApiToken,
    AuditEntry,
    Authenticator,
    FailedTries,
    KnownAddress,
    MaintenanceRun,
    MaintenanceSetting,
    StoredPlan,
)
from maintenance.requests import launch, planning
from maintenance.requests.launch import Actor, Request
from tests import records

pytestmark = pytest.mark.django_db
Register = Callable[..., MaintenanceSetting]
LAUNCH: dict[str, Any] = {
    "maintenance_type": "rebuild",
    "target_databases": ["shop"],
    "severity_level": "high",
    "reason": "slow",
}
PRODUCT = Path(django_settings.BASE_DIR) / "maintenance"


def log_in(who: str, password: str, client: Client | None = None, **more: Any) -> Any:
    return (client or Client()).post("/accounts/login/", {"username": who, "password": password}, **more)


def code(user: User, steps: int = 1) -> str:
    made = TOTP(Authenticator.objects.get(user=user).bin_key)
    made.time = time.time() + 30 * steps
    return f"{made.token():06d}"


@pytest.fixture
def enrolled(people: dict[str, User], settings: Any) -> Client:
    """The DBA's browser, with a second factor that was set up in it."""
    settings.OTP_TOTP_SYNC = False
    client = Client()
    client.force_login(people["dba"])
    client.get("/account/second-factor/enrol/")
    sent = {"code": code(people["dba"], 0), "password": "dba-password"}
    assert client.post("/account/second-factor/enrol/", sent).status_code == 200
    return client


def behind_the_password(user: User) -> Client:
    client = Client()
    assert log_in("dba", "dba-password", client).status_code == 302
    return client


PASSWORD_DOORS = {
    "login": lambda client: log_in("dba", "guess", client),
    "recovery codes": lambda client: client.post("/account/recovery-codes/", {"password": "guess"}),
    "removing the factor": lambda client: client.post("/account/second-factor/remove/", {"password": "guess"}),
    "step-up": lambda client: client.post("/account/prove/", {"password": "guess", "code": "000000"}),
    "password change": lambda client: client.post(
        "/accounts/password/",
        {"old_password": "guess", "new_password1": "a-new-one-905", "new_password2": "a-new-one-905"},
    ),
    "making a token": lambda client: client.post(
        "/account/tokens/", {"name": "t", "scopes": ["read"], "days": 1, "password": "guess"}
    ),
    "approving": lambda client: client.post(f"/runs/{waiting().pk}/approve/", {"password": "guess"}),
    "breaking the glass": lambda client: client.post(
        f"/runs/{waiting().pk}/break-glass/", {"glass": "nobody answers", "password": "guess"}
    ),
    "releasing": lambda client: client.post(f"/runs/{stuck().pk}/release/", {"database": "shop", "password": "guess"}),
    "acknowledging": lambda client: client.post(f"/runs/{stuck().pk}/acknowledge/", {"password": "guess"}),
    "launching": lambda client: client.post(confirmation(client), {"names": "shop", "password": "guess"}),
}


def waiting() -> MaintenanceRun:
    return MaintenanceRun.objects.first() or launch.launch(Actor("other", "web"), Request(**LAUNCH))


def stuck() -> MaintenanceRun:
    """A run that needs an operator."""
    run = MaintenanceRun.objects.first() or records.empty_run(status="needs_operator")
    if not run.targets.exists():
        records.target_of(run, "shop", status="needs_operator")
    return run


def confirmation(client: Client) -> str:
    """The address where a plan is confirmed that a worker has made."""
    if not StoredPlan.objects.exists():
        sent = {"maintenance_type": "rebuild", "databases": ["shop"], "severity_level": "high", "reason": "slow"}
        client.post("/launch/", sent)
        planning.make(StoredPlan.objects.get().pk)
    return reverse("maintenance:launch_confirm", args=[StoredPlan.objects.get().pk])


@pytest.mark.parametrize("door", PASSWORD_DOORS)
def test_every_door_closes_and_says_for_how_long(
    door: str, enrolled: Client, people: dict[str, User], fake: Register
) -> None:
    client = Client() if door == "login" else enrolled
    fake("shop")
    MaintenanceSetting.objects.update(approval_severities=["high"])
    people["dba"].groups.add(Group.objects.get(name="Break glass"))
    statuses, answer = [], None
    for _ in range(40):
        answer = PASSWORD_DOORS[door](client)
        statuses.append(answer.status_code)
        if answer.status_code == 429:
            break
    assert len(statuses) == 5, statuses
    assert answer is not None
    assert 0 < int(answer["Retry-After"]) <= 15 * 60
    assert "15 minutes" in answer.content.decode()
    assert log_in("dba", "dba-password").status_code == 429, "one count for all doors"
    assert AuditEntry.objects.filter(operation__endswith="locked").count() == 1


@pytest.mark.parametrize("door", ["login", "recovery codes", "making a token"])
def test_guesses_at_the_same_moment_are_no_more_than_one_after_another(
    door: str, enrolled: Client, people: dict[str, User], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client() if door == "login" else enrolled
    compared: list[int] = []
    compare = User.check_password

    def while_others_do(self: User, typed: str) -> bool:
        compared.append(1)
        if len(compared) < 9:
            PASSWORD_DOORS[door](client)
        return compare(self, typed)

    monkeypatch.setattr(User, "check_password", while_others_do)
    PASSWORD_DOORS[door](client)
    assert len(compared) == throttle.SIGN_IN.pair
    assert log_in("dba", "dba-password").status_code == 429
    assert len(compared) == throttle.SIGN_IN.pair, "nothing is compared any more"


def test_the_waiting_time_is_told_in_japanese_too(people: dict[str, User]) -> None:
    for _ in range(5):
        answer = log_in("dba", "guess", headers={"Accept-Language": "ja"})
    assert answer.status_code == 429
    assert "15 分" in answer.content.decode()


def test_codes_of_the_second_factor_are_counted_too(enrolled: Client, people: dict[str, User]) -> None:
    client = behind_the_password(people["dba"])
    for _ in range(12):
        Authenticator.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
        answer = client.post("/account/second-factor/", {"code": "000000"})
    assert answer.status_code in (302, 429)
    assert behind_the_closed_door().status_code == 429


def behind_the_closed_door() -> Any:
    return log_in("dba", "dba-password")


def test_recovery_codes_are_counted_too(enrolled: Client, people: dict[str, User]) -> None:
    client = behind_the_password(people["dba"])
    statuses = [client.post("/account/second-factor/", {"code": f"aaaaaaaa-bbbbbbb{n}"}).status_code for n in range(5)]
    assert statuses[-1] == 429
    assert client.get("/").headers["Location"].startswith("/accounts/login/"), "the session ended"


def test_a_code_that_comes_too_soon_is_told_how_long_to_wait(enrolled: Client, people: dict[str, User]) -> None:
    client = behind_the_password(people["dba"])
    client.post("/account/second-factor/", {"code": "000000"})
    answer = client.post("/account/second-factor/", {"code": code(people["dba"])})
    assert int(answer["Retry-After"]) >= 1
    assert "Try again in 1 second" in answer.content.decode()


def test_a_hundred_names_from_one_address_are_stopped_and_told_together(people: dict[str, User]) -> None:
    before = AuditEntry.objects.count()
    statuses = [log_in(f"nobody{n}", "guess").status_code for n in range(100)]
    assert statuses.count(429) >= 80
    assert AuditEntry.objects.count() - before < 20
    locked = AuditEntry.objects.get(operation="login.locked").after
    assert locked is not None
    assert locked["failures"] == 20
    assert log_in("manager", "manager-password", REMOTE_ADDR="10.0.0.7").status_code == 302


def test_an_address_of_ipv6_is_its_network(people: dict[str, User]) -> None:
    statuses = [log_in(f"nobody{n}", "guess", REMOTE_ADDR=f"2001:db8::{n:x}").status_code for n in range(25)]
    assert statuses[-1] == 429


def test_an_account_is_limited_over_all_addresses_but_not_where_it_signed_in(people: dict[str, User]) -> None:
    assert log_in("dba", "dba-password", REMOTE_ADDR="10.0.0.7").status_code == 302
    for n in range(60):
        log_in("dba", "guess", REMOTE_ADDR=f"203.0.113.{n}")
    assert log_in("dba", "dba-password", REMOTE_ADDR="198.51.100.1").status_code == 429
    assert log_in("dba", "dba-password", REMOTE_ADDR="10.0.0.7").status_code == 302


def test_another_spelling_of_a_name_is_no_other_account(people: dict[str, User]) -> None:
    names = ("dba", "ｄba", "dｂa", "dbａ", "ｄｂａ")
    assert [log_in(name, "guess").status_code for name in names][-1] == 429


def test_a_header_makes_no_other_address_without_a_proxy(people: dict[str, User]) -> None:
    for n in range(30):
        answer = log_in(f"nobody{n}", "guess", headers={"X-Forwarded-For": f"198.51.100.{n}"})
    assert answer.status_code == 429
    assert not AuditEntry.objects.filter(object__startswith="198.").exists()


def test_a_stranger_does_not_get_to_say_that_it_came_by_https(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    sent = {"X-Forwarded-Proto": "https"}
    assert Client().get("/accounts/login/", headers=sent).status_code == 301
    settings.PROXIES = ("127.0.0.1",)
    assert Client().get("/accounts/login/", headers=sent).status_code == 200


def test_unknown_tokens_are_limited_by_address_and_a_forgotten_machine_locks_nobody_out(
    people: dict[str, User],
) -> None:
    def call(token: str) -> Any:
        return Client().get("/api/v1/databases", headers={"Authorization": f"Bearer {token}"})

    assert {call("forgotten").status_code for _ in range(50)} == {401}
    answers = [call(f"guess {n}") for n in range(40)]
    assert answers[-1].status_code == 429
    assert int(answers[-1]["Retry-After"]) > 0
    assert AuditEntry.objects.count() < 20
    plain, _ = tokens.issue(people["dba"], "good", ["read"], timedelta(days=1), "test")
    assert call(plain).status_code == 200, "a good token is no guess"


def test_connection_tests_that_fail_are_limited(people: dict[str, User], fake: Register) -> None:
    setting = fake("shop")
    client = Client()
    client.force_login(people["administrator"])
    MaintenanceSetting.objects.update(url="postgresql://x@127.0.0.1:1/x")
    address = f"/admin/maintenance/maintenancesetting/{setting.pk}/test/"
    statuses = [client.post(address).status_code for _ in range(12)]
    assert statuses[-1] == 429


def test_the_admin_site_has_no_second_door_for_passwords(people: dict[str, User]) -> None:
    client = Client()
    client.force_login(people["administrator"])
    assert client.post("/admin/password_change/", {"old_password": "x"}).headers["Location"] == "/accounts/password/"
    assert Client().post("/admin/login/", {"username": "dba", "password": "guess"}).status_code == 302


def test_every_page_that_asks_for_a_secret_is_among_the_doors() -> None:
    """Each form with a password or a code is one of those that the throttle is tried at."""
    asking = {kind.__name__ for kind in _below(Proven)} | {"CodeForm"}
    assert asking == {
        "Proven",  # recovery codes, removing the factor
        "ProvenByBoth",  # step-up
        "NewFactorForm",
        "CodeForm",
        "TokenForm",
        "ApproveForm",
        "GlassForm",
        "ConfirmForm",  # launching
    }


def _below(kind: type[Any]) -> set[type[Any]]:
    below: list[type[Any]] = kind.__subclasses__()
    return {kind}.union(*map(_below, below))


def test_a_telephone_is_not_bound_by_guessing(people: dict[str, User]) -> None:
    client = Client()
    client.force_login(people["dba"])
    client.get("/account/second-factor/enrol/")
    sent = {"code": "000000", "password": "guess"}
    assert [client.post("/account/second-factor/enrol/", sent).status_code for _ in range(5)][-1] == 429


def test_secrets_are_compared_in_one_place_only() -> None:
    """A new page that checks a password or a code by itself would be a door without the throttle."""
    found = set()
    for path in PRODUCT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("check_password", "verify_token", "authenticate"):
                found.add(path.relative_to(PRODUCT).parts[0])
    assert found == {"identity"}


def test_a_person_is_let_try_again_by_command(people: dict[str, User], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        log_in("dba", "guess")
    call_command("unlock", "dba")
    assert log_in("dba", "dba-password").status_code == 302
    assert AuditEntry.objects.filter(operation="login.unlocked", object="dba").exists()


def test_the_count_ends(people: dict[str, User]) -> None:
    for _ in range(5):
        log_in("dba", "guess")
    FailedTries.objects.update(last_at=timezone.now() - throttle.COOL_OFF - timedelta(seconds=1))
    assert log_in("dba", "dba-password").status_code == 302


def test_who_signs_in_rightly_keeps_no_failures_of_others_at_that_address_alive(people: dict[str, User]) -> None:
    for _ in range(4):
        log_in("nobody", "guess")
    before = timezone.now() - throttle.COOL_OFF + timedelta(minutes=1)
    FailedTries.objects.update(last_at=before)
    assert log_in("dba", "dba-password").status_code == 302
    assert list(FailedTries.objects.filter(count__gt=0).values_list("count", "last_at").distinct()) == [(4, before)]


def test_counts_and_addresses_are_not_kept_for_ever(people: dict[str, User]) -> None:
    log_in("dba", "dba-password")
    log_in("nobody", "guess")
    FailedTries.objects.update(last_at=timezone.now() - timedelta(days=2))
    KnownAddress.objects.update(last_at=timezone.now() - timedelta(days=100))
    retention.remove("test")
    assert not FailedTries.objects.exists()
    assert not KnownAddress.objects.exists()


class TestHealth:
    def test_healthz_asks_neither_database_nor_session(
        self, people: dict[str, User], django_assert_num_queries: Any
    ) -> None:
        client = Client()
        client.force_login(people["dba"])
        with django_assert_num_queries(0):
            assert client.get("/healthz").json() == {"status": "ok"}

    def test_readyz_asks_once_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from maintenance.views import health

        inner: list[Any] = []

        def slow() -> tuple[int, dict[str, str | int]]:
            inner.append(Client().get("/readyz"))
            return 200, {"status": "ok", "workers": 1}

        monkeypatch.setattr(health, "_last", None)
        monkeypatch.setattr(health, "_ready", slow)
        assert Client().get("/readyz").status_code == 200
        assert len(inner) == 1
        assert inner[0].status_code == 503
        assert Client().get("/readyz").status_code == 200
        assert inner[1].status_code == 200


class TestTokens:
    @pytest.fixture
    def call(self, people: dict[str, User]) -> Callable[[], int]:
        plain, _ = tokens.issue(people["dba"], "a test", ["read"], timedelta(days=1), "test")

        def call() -> int:
            return int(Client().get("/api/v1/databases", headers={"Authorization": f"Bearer {plain}"}).status_code)

        assert call() == 200
        return call

    def test_a_new_password_ends_them(self, call: Callable[[], int], people: dict[str, User]) -> None:
        people["dba"].set_password("another-password-905")
        people["dba"].save()
        assert call() == 401

    def test_another_group_ends_them(self, call: Callable[[], int], people: dict[str, User]) -> None:
        people["dba"].groups.add(people["auditor"].groups.get())
        assert call() == 401

    def test_another_permission_ends_them(self, call: Callable[[], int], people: dict[str, User]) -> None:
        people["dba"].user_permissions.add(Permission.objects.get(codename="break_glass"))
        assert call() == 401

    def test_another_permission_of_the_group_ends_them(self, call: Callable[[], int], people: dict[str, User]) -> None:
        people["dba"].groups.get().permissions.add(Permission.objects.get(codename="break_glass"))
        assert call() == 401

    @pytest.mark.parametrize("flag", ["is_staff", "is_superuser"])
    def test_another_rank_ends_them(self, flag: str, call: Callable[[], int], people: dict[str, User]) -> None:
        User.objects.filter(username="dba").update(**{flag: True})
        assert call() == 401

    def test_somebody_who_left_has_none(self, call: Callable[[], int]) -> None:
        User.objects.update(is_active=False)
        assert call() == 401

    def test_another_second_factor_ends_them(self, call: Callable[[], int], enrolled: Client) -> None:
        assert call() == 401

    def test_a_removed_second_factor_ends_them(self, enrolled: Client, people: dict[str, User]) -> None:
        plain, _ = tokens.issue(people["dba"], "a test", ["read"], timedelta(days=1), "test")
        call_command("reset_second_factor", "dba")
        answer = Client().get("/api/v1/databases", headers={"Authorization": f"Bearer {plain}"})
        assert answer.status_code == 401

    def test_a_row_that_the_console_did_not_write_opens_nothing(
        self, call: Callable[[], int], people: dict[str, User]
    ) -> None:
        ApiToken.objects.update(scopes=["read", "launch", "approve"])
        assert call() == 401
        ApiToken.objects.update(scopes=["read"], user=people["administrator"])
        assert call() == 401
        made = ApiToken.objects.get()
        ApiToken.objects.create(
            user=people["dba"], name="x", sha256=tokens.digest("mine"), scopes=["read"], seal=made.seal,
            expires_at=timezone.now() + timedelta(days=1),
        )  # fmt: skip
        answer = Client().get("/api/v1/databases", headers={"Authorization": "Bearer mine"})
        assert answer.status_code == 401

    def test_they_need_a_second_factor_where_their_owner_does(
        self, people: dict[str, User], settings: Any, call: Callable[[], int]
    ) -> None:
        settings.SECOND_FACTOR_REQUIRED = True
        assert call() == 401
        with pytest.raises(tokens.NeedsFactor):
            tokens.issue(people["dba"], "a test", ["read"], timedelta(days=1), "test")
        with pytest.raises(SystemExit):
            call_command("api_token", "dba", "a test")
        tokens.issue(people["manager"], "a test", ["read"], timedelta(days=1), "test")

    def test_an_open_session_makes_none(self, people: dict[str, User]) -> None:
        client = Client()
        client.force_login(people["dba"])
        sent = {"name": "t", "scopes": ["launch", "approve"], "days": 1}
        assert client.post("/account/tokens/", sent).status_code == 400
        assert client.post("/account/tokens/", {**sent, "password": "guess"}).status_code == 400
        assert not ApiToken.objects.exists()
        assert AuditEntry.objects.filter(operation="token.wrong_password").count() == 1
        assert client.post("/account/tokens/", {**sent, "password": "dba-password"}).status_code == 200
        assert ApiToken.objects.count() == 1

    def test_approving_is_a_scope_of_its_own(self, people: dict[str, User]) -> None:
        plain, _ = tokens.issue(people["dba"], "a test", ["launch"], timedelta(days=1), "test")
        answer = Client().post("/api/v1/maintenance/1/approve", headers={"Authorization": f"Bearer {plain}"})
        assert answer.status_code == 403
        assert "scope approve" in answer.json()["detail"]


class TestStepUp:
    def launch(self, client: Client) -> int:
        return int(client.post("/api/v1/maintenance", LAUNCH, content_type="application/json").status_code)

    def test_an_open_session_launches_nothing_through_the_api(self, people: dict[str, User], fake: Register) -> None:
        fake("shop")
        client = Client()
        client.force_login(people["dba"])
        assert self.launch(client) == 403
        for word in ("approve", "acknowledge"):
            assert client.post(f"/api/v1/maintenance/1/{word}").status_code == 403
        assert client.post("/account/prove/", {"password": "guess"}).status_code == 200
        assert self.launch(client) == 403
        assert not MaintenanceRun.objects.exists()
        assert client.post("/account/prove/", {"password": "dba-password"}).status_code == 302
        assert self.launch(client) == 202

    def test_it_lasts_for_minutes(self, people: dict[str, User], fake: Register, monkeypatch: Any) -> None:
        fake("shop")
        client = Client()
        client.force_login(people["dba"])
        client.post("/account/prove/", {"password": "dba-password"})
        later = timezone.now() + timedelta(minutes=5, seconds=1)
        monkeypatch.setattr(timezone, "now", lambda: later)
        assert self.launch(client) == 403

    def test_it_wants_the_code_where_there_is_one(self, enrolled: Client, people: dict[str, User]) -> None:
        assert enrolled.post("/account/prove/", {"password": "dba-password"}).status_code == 200
        wrong = {"password": "dba-password", "code": "000000"}
        assert enrolled.post("/account/prove/", wrong).status_code == 200
        Authenticator.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
        right = {"password": "dba-password", "code": code(people["dba"])}
        assert enrolled.post("/account/prove/", right).status_code == 302

    def test_it_leads_to_no_other_host(self, people: dict[str, User]) -> None:
        client = Client()
        client.force_login(people["dba"])
        sent = {"password": "dba-password", "next": "https://evil.example/"}
        assert client.post("/account/prove/", sent).headers["Location"] == "/"


class TestSessionIds:
    """A new id at each step, so that one that was planted or seen before is worth nothing after it."""

    def test_at_login_second_factor_and_step_up(self, enrolled: Client, people: dict[str, User]) -> None:
        client = Client()
        ids = []
        log_in("dba", "dba-password", client)
        ids.append(client.session.session_key)
        client.post("/account/second-factor/", {"code": code(people["dba"])})
        ids.append(client.session.session_key)
        assert client.get("/launch/").status_code == 200
        client.post("/account/prove/", {"password": "dba-password", "code": code(people["dba"], 2)})
        assert len(set(ids)) == 2
        old = Client()
        old.cookies["sessionid"] = str(ids[0])
        assert old.get("/launch/").headers["Location"].startswith("/accounts/login/")

    def test_at_step_up(self, people: dict[str, User]) -> None:
        client = Client()
        client.force_login(people["dba"])
        before = client.session.session_key
        client.post("/account/prove/", {"password": "dba-password"})
        assert client.session.session_key != before

    def test_at_enrolment(self, people: dict[str, User]) -> None:
        client = Client()
        client.force_login(people["dba"])
        before = client.session.session_key
        client.get("/account/second-factor/enrol/")
        client.post("/account/second-factor/enrol/", {"code": code(people["dba"], 0), "password": "dba-password"})
        assert client.session.session_key != before

    def test_a_new_password_ends_the_other_sessions_and_renews_this_one(self, people: dict[str, User]) -> None:
        here, there = Client(), Client()
        for client in (here, there):
            log_in("dba", "dba-password", client)
        before = here.session.session_key
        new = {"old_password": "dba-password", "new_password1": "a-new-one-905", "new_password2": "a-new-one-905"}
        assert here.post("/accounts/password/", new).status_code == 302
        assert here.get("/account/").status_code == 200
        assert here.session.session_key != before
        assert there.get("/account/").status_code == 302


class TestAudited:
    """What changes how somebody gets in, or what they may, has its entry."""

    def operations(self) -> list[tuple[str, str, str]]:
        return list(AuditEntry.objects.order_by("id").values_list("actor", "operation", "object"))

    def test_a_new_password(self, people: dict[str, User]) -> None:
        client = Client()
        client.force_login(people["dba"])
        new = {"old_password": "dba-password", "new_password1": "a-new-one-905", "new_password2": "a-new-one-905"}
        client.post("/accounts/password/", new)
        assert ("dba", "password.changed", "dba") in self.operations()

    def test_a_wrong_old_password(self, people: dict[str, User]) -> None:
        client = Client()
        client.force_login(people["dba"])
        client.post("/accounts/password/", {"old_password": "guess"})
        assert self.operations()[-1][1] == "password.wrong_password"

    @pytest.mark.parametrize("usable", ["true", "false"])
    def test_a_reset_by_an_administrator(self, people: dict[str, User], usable: str) -> None:
        root = User.objects.create_superuser("root", password="root-password")
        client = Client()
        client.force_login(root)
        new = {"password1": "a-new-one-905", "password2": "a-new-one-905", "usable_password": usable}
        if usable == "false":
            new["unset-password"] = "1"
        answer = client.post(f"/admin/auth/user/{people['dba'].pk}/password/", new)
        assert answer.status_code == 302
        assert ("root", "password.reset", "dba") in self.operations()

    def test_the_command_changepassword(self, people: dict[str, User], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("getpass.getpass", lambda prompt="": "a-new-one-905")
        call_command("changepassword", "dba")
        assert self.operations()[-1][1:] == ("password.changed", "dba")
        assert User.objects.get(username="dba").check_password("a-new-one-905")

    def test_the_command_createsuperuser(self, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "a-new-one-905")
        call_command("createsuperuser", interactive=False, username="root", email="root@example.com")
        assert self.operations()[-1][1:] == ("person.created", "root")

    def test_a_refused_launch_at_every_door(self, people: dict[str, User], fake: Register) -> None:
        fake("shop")
        client = Client()
        client.force_login(people["manager"])
        client.post("/launch/plan/1/confirm/", {"names": "shop"})
        client.post("/api/v1/maintenance", LAUNCH, content_type="application/json")
        plain, _ = tokens.issue(people["dba"], "t", ["read"], timedelta(days=1), "test")
        sent = {"Authorization": f"Bearer {plain}"}
        Client().post("/api/v1/maintenance", LAUNCH, content_type="application/json", headers=sent)
        with pytest.raises(launch.NotPermitted):
            launch.launch(Actor("manager", "web", people["manager"]), Request(**LAUNCH))
        launch.launch(Actor("dba", "web", people["dba"]), Request(**LAUNCH))
        with pytest.raises(launch.Locked):
            launch.launch(Actor("dba", "web", people["dba"]), Request(**LAUNCH))
        told = [(actor, operation) for actor, operation, _ in self.operations()]
        assert told.count(("manager", "access.refused")) == 2
        assert told.count(("dba", "access.refused")) == 1
        assert ("manager", "run.launch_refused") in told
        assert ("dba", "run.launch_refused") in told

    def test_an_approval_of_ones_own_that_was_tried(self, people: dict[str, User], fake: Register) -> None:
        fake("shop")
        run = launch.launch(Actor("dba", "web", people["dba"]), Request(**LAUNCH))
        with pytest.raises(launch.NotPermitted):
            launch.approve(Actor("dba", "web", people["dba"]), run)
        assert self.operations()[-1] == ("dba", "run.approve_refused", run.number)

    @pytest.mark.parametrize("command", ["changepassword", "createsuperuser"])
    def test_only_root_and_db_admin_set_passwords_by_command(
        self, command: str, people: dict[str, User], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("os.getuid", lambda: 65534)
        monkeypatch.setenv("LOGNAME", "root")
        with pytest.raises(CommandError, match="Only root and db_admin"):
            call_command(command)

    def test_people_groups_and_tokens(self, people: dict[str, User]) -> None:
        root = User.objects.create_superuser("root", password="root-password")
        client = Client()
        client.force_login(root)
        client.post("/admin/auth/group/add/", {"name": "Night shift"})
        client.post("/account/tokens/", {"name": "t", "scopes": ["read"], "days": 1, "password": "root-password"})
        client.post(f"/account/tokens/{ApiToken.objects.get().pk}/revoke/")
        told = [operation for _, operation, _ in self.operations()]
        assert told == ["group.created", "token.created", "token.revoked"]


def test_the_description_of_the_api_wants_a_login_or_a_token(people: dict[str, User]) -> None:
    assert Client().get("/api/v1/openapi.json").status_code == 401
    client = Client()
    client.force_login(people["dba"])
    assert client.get("/api/v1/openapi.json").status_code == 200
    plain, _ = tokens.issue(people["manager"], "a test", ["read"], timedelta(days=1), "test")
    sent = {"Authorization": f"Bearer {plain}"}
    assert Client().get("/api/v1/openapi.json", headers=sent).status_code == 200


def test_what_is_turned_away_costs_next_to_nothing(people: dict[str, User]) -> None:
    from django.db import connection

    for n in range(30):
        log_in(f"nobody{n}", "guess")
    with CaptureQueriesContext(connection) as caught:
        assert log_in("nobody", "guess").status_code == 429
    assert len(caught) < 8
