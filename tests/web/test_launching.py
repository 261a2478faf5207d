"""Choose, plan, confirm: what is refused, and that only the last screen starts anything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from maintenance import tasks
from maintenance.models import AuditEntry, MaintenanceRun, MaintenanceSetting, ScopeHold, Status, StoredPlan

pytestmark = pytest.mark.django_db
As = Callable[[str], Client]
Register = Callable[..., MaintenanceSetting]
GOOD = {
    "maintenance_type": "rebuild",
    "databases": ["shop"],
    "severity_level": "high",
    "reason": "checkout times out",
    "tables": "",
}


def choose(client: Client, **changes: Any) -> Any:
    return client.post("/launch/", {**GOOD, **changes}, follow=True)


def confirm(client: Client, **changes: str) -> Any:
    return client.post("/launch/confirm/", {"names": "shop", "password": "dba-password", **changes})


def page(answer: HttpResponse) -> str:
    return answer.content.decode()


def test_three_screens_start_one_run(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    plan = page(choose(client))
    assert "orders" in plan
    assert "nobody reads meanwhile" in plan
    assert "3 sessions will be ended" in plan
    assert "not known: this database was never maintained so before" in plan
    assert "free space: not available from this engine" in plan
    client.get("/launch/confirm/")
    assert not MaintenanceRun.objects.exists()
    answer = confirm(client)
    run = MaintenanceRun.objects.get()
    assert answer.headers["Location"] == f"/runs/{run.pk}/"
    assert (run.status, run.requested_by_name, run.origin, run.reason) == ("queued", "dba", "web", "checkout times out")
    assert client.get("/launch/confirm/").headers["Location"] == "/launch/", "sent twice it starts nothing"


def test_plan_and_confirmation_cost_the_same_queries_however_many_databases(
    as_: As, fake: Register, ran: Callable[..., MaintenanceRun]
) -> None:
    counted = []
    for names in (["shop"], ["shop", "billing", "stock", "mail"]):
        for name in names:
            if not MaintenanceSetting.objects.filter(name=name).exists():
                ran(fake(name))
        client = as_("dba")
        plan = page(choose(client, databases=names))
        assert plan.count("about 13.0 s: so long was the last such maintenance") == len(names)
        for path in ("/launch/plan/", "/launch/confirm/"):
            with CaptureQueriesContext(connection) as queries:
                client.get(path)
            counted.append(len(queries))
    assert counted[:2] == counted[2:]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"maintenance_type": "explode"}, "Select a valid choice"),
        ({"databases": []}, "Choose at least one database, or all."),
        ({"databases": ["nowhere"]}, "Select a valid choice"),
        ({"severity_level": ""}, "This field is required"),
        ({"reason": "  "}, "This field is required"),
        ({"tables": "no_such_table"}, "There is no table no_such_table in shop."),
    ],
)
def test_bad_input_gets_a_sentence(changes: dict[str, Any], sentence: str, as_: As, fake: Register) -> None:
    fake()
    assert sentence in page(choose(as_("dba"), **changes))
    assert not MaintenanceRun.objects.exists()


def test_an_unreachable_database_is_told_before_anything_begins(as_: As, fake: Register) -> None:
    fake(diagnose=["unreachable"])
    assert "shop: " in page(choose(as_("dba")))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"names": "shopp"}, "This is not shop."), ({"password": "guess"}, "The password is wrong.")],
)
def test_the_last_screen_wants_name_and_password(
    changes: dict[str, str], sentence: str, as_: As, fake: Register
) -> None:
    fake()
    client = as_("dba")
    choose(client)
    assert sentence in page(confirm(client, **changes))
    assert not MaintenanceRun.objects.exists()


def test_guessing_passwords_ends_the_session_and_is_audited(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    choose(client)
    for _ in range(4):
        assert confirm(client, password="guess").status_code == 200
    assert confirm(client, password="guess").status_code == 429
    assert client.get("/launch/").headers["Location"].startswith("/accounts/login/")
    assert AuditEntry.objects.filter(operation="launch.wrong_password").count() == 4
    assert AuditEntry.objects.filter(operation="launch.locked").count() == 1
    assert client.get("/launch/").status_code == 302


def test_the_plan_comes_before_the_confirmation_and_goes_stale(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    assert client.get("/launch/confirm/").headers["Location"] == "/launch/"
    choose(client)
    StoredPlan.objects.update(made_at=timezone.now() - timedelta(minutes=11))
    answer = confirm(client)
    assert answer.headers["Location"] == "/launch/plan/"
    assert "this is a new one" in page(client.get("/launch/plan/"))  # type: ignore[arg-type]
    assert not MaintenanceRun.objects.exists()


def test_a_second_launch_is_refused_by_the_lock(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    choose(client)
    confirm(client)
    first = MaintenanceRun.objects.get()
    assert "holds the lock" in page(choose(client))
    assert f"{first.number} of shop holds the lock" in page(confirm(client))
    assert MaintenanceRun.objects.count() == 1


def test_several_databases_want_all_their_names(as_: As, fake: Register) -> None:
    fake("shop"), fake("billing")
    client = as_("dba")
    choose(client, databases=[], all_databases="on")
    assert "This is not billing, shop." in page(confirm(client, names="shop"))
    assert confirm(client, names="shop, billing").status_code == 302


def test_data_loss_is_offered_only_to_people_who_may_allow_it(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    assert "allow_data_loss" not in page(client.get("/launch/"))  # type: ignore[arg-type]
    choose(client, allow_data_loss="on")
    confirm(client)
    assert MaintenanceRun.objects.get().allow_data_loss is False


def test_a_second_person_approves_and_never_the_one_who_asked(as_: As, fake: Register, django_user_model: Any) -> None:
    setting = fake()
    setting.approval_severities = ["high"]
    setting.save()
    asking = as_("dba")
    assert "A second person has to approve it" in page(choose(asking))
    confirm(asking)
    run = MaintenanceRun.objects.get()
    assert run.status == Status.AWAITING_APPROVAL
    own = page(asking.post(f"/runs/{run.pk}/approve/", {"password": "dba-password"}, follow=True))  # type: ignore[arg-type]
    assert "a second person has to approve it" in own
    second = django_user_model.objects.create_superuser("second", password="second-password")
    other = Client()
    other.force_login(second)
    other.post(f"/runs/{run.pk}/approve/", {"password": "second-password"})
    run.refresh_from_db()
    assert run.status == Status.QUEUED


def glass(people: dict[str, User], fake: Register) -> None:
    setting = fake()
    setting.approval_severities = ["high"]
    setting.save()
    people["dba"].groups.add(Group.objects.get(name="Break glass"))


def test_the_glass_is_broken_on_the_last_screen_with_a_reason(as_: As, fake: Register, people: dict[str, User]) -> None:
    glass(people, fake)
    client = as_("dba")
    choose(client)
    assert "break_glass" in page(client.get("/launch/confirm/"))  # type: ignore[arg-type]
    assert "This field is required" in page(confirm(client, break_glass="1"))
    assert not MaintenanceRun.objects.exists()
    confirm(client, break_glass="1", glass="nobody answers the phone")
    run = MaintenanceRun.objects.get()
    assert (run.status, run.approval.broken_glass) == (Status.QUEUED, "nobody answers the phone")
    told = page(client.get(f"/runs/{run.pk}/"))  # type: ignore[arg-type]
    assert "dba began this run without the approval it needs: “nobody answers the phone”" in told
    assert "approved by" not in told


def test_a_reason_alone_breaks_no_glass(as_: As, fake: Register, people: dict[str, User]) -> None:
    glass(people, fake)
    client = as_("dba")
    choose(client)
    confirm(client, glass="thought about it")
    assert MaintenanceRun.objects.get().status == Status.AWAITING_APPROVAL


def test_the_glass_is_not_shown_to_people_who_may_not_break_it(as_: As, fake: Register) -> None:
    setting = fake()
    setting.approval_severities = ["high"]
    setting.save()
    client = as_("dba")
    choose(client)
    assert "break_glass" not in page(client.get("/launch/confirm/"))  # type: ignore[arg-type]
    refused = page(confirm(client, break_glass="1", glass="nobody answers"))
    assert "dba may not" in refused
    assert not MaintenanceRun.objects.exists()


def test_the_glass_is_broken_on_the_page_of_a_waiting_run(as_: As, fake: Register, people: dict[str, User]) -> None:
    glass(people, fake)
    client = as_("dba")
    choose(client)
    confirm(client)
    run = MaintenanceRun.objects.get()
    address = f"/runs/{run.pk}/break-glass/"
    assert address in page(client.get(f"/runs/{run.pk}/"))  # type: ignore[arg-type]
    assert "The password is wrong." in page(client.post(address, {"glass": "nobody", "password": "guess"}))  # type: ignore[arg-type]
    assert MaintenanceRun.objects.get().status == Status.AWAITING_APPROVAL
    client.post(address, {"glass": "nobody answers", "password": "dba-password"})
    assert MaintenanceRun.objects.get().status == Status.QUEUED


def test_cancel_asks_once_more_and_then_gives_the_lock_back(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    choose(client)
    confirm(client)
    run = MaintenanceRun.objects.get()
    client.get(f"/runs/{run.pk}/cancel/")
    assert MaintenanceRun.objects.get().status == Status.QUEUED
    client.post(f"/runs/{run.pk}/cancel/")
    assert MaintenanceRun.objects.get().status == Status.CANCELLED
    assert not ScopeHold.objects.exists()
    again = page(client.post(f"/runs/{run.pk}/cancel/", follow=True))  # type: ignore[arg-type]
    assert "has ended or is being cancelled already" in again


def test_repeat_fills_the_form_with_the_same_parameters(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    choose(client, tables="orders", reason="once more")
    confirm(client)
    run = MaintenanceRun.objects.get()
    form = page(client.get(f"/launch/?repeat={run.pk}"))  # type: ignore[arg-type]
    assert "once more" in form
    assert ">\norders</textarea>" in form


def test_a_worker_makes_the_plan_and_the_page_waits_for_it(
    as_: As, fake: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sick server must not hold a page; whoever reads Japanese reads the plan in Japanese."""
    fake()
    client = as_("dba")
    waiting: list[int] = []
    monkeypatch.setattr("maintenance.queue.enqueue_plan", waiting.append)
    waits = page(choose(client))
    assert "The plan is being made" in waits
    assert "No worker is alive" in waits
    assert client.get("/launch/plan/live/").status_code == 204
    assert client.get("/launch/confirm/").headers["Location"] == "/launch/plan/"
    tasks.make_plan(*waiting)
    assert client.get("/launch/plan/live/").headers["HX-Refresh"] == "true"
    assert "Plan: nothing is changed yet" in page(client.get("/launch/plan/"))  # type: ignore[arg-type]
    client.post("/launch/plan/")
    assert len(waiting) == 2, "plan again asks the worker again"


def test_the_run_knows_the_plan_that_was_confirmed(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    choose(client)
    seen = StoredPlan.objects.get()
    confirm(client)
    run = MaintenanceRun.objects.get()
    assert run.agreed_plan == seen
    assert [a["object"] for a in seen.actions("shop")] == ["orders", "customers", "empty"]


@pytest.mark.parametrize("path", ["/launch/?repeat=²", "/launch/?incident=²", "/databases/shop/?after=²&since=1"])
def test_a_digit_that_is_no_number_is_passed_over(path: str, as_: As, fake: Register) -> None:
    fake()
    assert as_("dba").get(path).status_code == 200
