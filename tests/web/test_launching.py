"""Choose, plan, confirm: what is refused, and that only the last screen starts anything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from maintenance import tasks
from maintenance.models import AuditEntry, MaintenanceRun, MaintenanceSetting, ScopeHold, Status, StoredPlan
from tests.web.launching import choose, configure, confirm, last_screen, newest, page

pytestmark = [pytest.mark.django_db, pytest.mark.whole]
As = Callable[[str], Client]
Register = Callable[..., MaintenanceSetting]


def test_three_screens_start_one_run(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    plan = page(choose(client))
    assert "orders" in plan
    assert "nobody reads meanwhile" in plan
    assert "3 sessions will be ended" in plan
    assert "For how long is not known yet: there was no earlier run of this type." in plan
    assert "free space: not available from this engine" in plan
    last_screen(client)
    assert not MaintenanceRun.objects.exists()
    answer = confirm(client)
    run = MaintenanceRun.objects.get()
    assert answer.headers["Location"] == f"/runs/{run.pk}/"
    assert (run.status, run.requested_by_name, run.origin, run.reason) == ("queued", "dba", "web", "checkout times out")
    assert confirm(client).headers["Location"] == f"/runs/{run.pk}/", "sent twice it starts nothing"
    assert MaintenanceRun.objects.count() == 1


@pytest.mark.long
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
        assert plan.count("for about 13.0 s, as the one time before") == len(names)
        for path in (f"/launch/plan/{newest()}/", f"/launch/plan/{newest()}/confirm/"):
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
    changes: dict[str, Any], sentence: str, as_: As, fake: Register
) -> None:
    fake()
    client = as_("dba")
    choose(client)
    assert sentence in page(confirm(client, **changes))
    assert not MaintenanceRun.objects.exists()


@pytest.mark.long
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
    assert last_screen(client, 905).headers["Location"] == "/launch/"
    choose(client)
    old = newest()
    StoredPlan.objects.update(made_at=timezone.now() - timedelta(minutes=11))
    answer = confirm(client)
    assert answer.headers["Location"] == f"/launch/plan/{newest()}/?before={old}"
    assert newest() != old
    assert "this is a new one" in page(client.get(answer.headers["Location"]))  # type: ignore[arg-type]
    assert not MaintenanceRun.objects.exists()


@pytest.mark.long
def test_the_button_starts_the_plan_of_its_page_whatever_another_tab_planned_since(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    choose(client, maintenance_type="optimize", reason="tab A")
    shown = newest()
    choose(client, maintenance_type="rebuild", reason="tab B")
    confirm(client, shown)
    run = MaintenanceRun.objects.get()
    assert (run.maintenance_type, run.reason, run.agreed_plan_id) == ("optimize", "tab A", shown)


def test_a_form_of_another_page_starts_nothing(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    choose(client, reason="tab A")
    shown = newest()
    choose(client, reason="tab B")
    assert "This page showed another plan; nothing was started." in page(confirm(client, newest(), number=shown))
    assert "This field is required" in page(confirm(client, newest(), number=""))
    assert not MaintenanceRun.objects.exists()


@pytest.mark.long
def test_the_back_button_after_the_end_starts_nothing_again(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    choose(client)
    confirm(client)
    first = MaintenanceRun.objects.get()
    client.post(f"/runs/{first.pk}/cancel/")
    told = page(client.get(confirm(client).headers["Location"]))  # type: ignore[arg-type]
    assert f"This plan was started already, as {first.number}" in told
    assert f"This plan was started already, as {first.number}" in page(client.get(f"/launch/plan/{newest()}/"))  # type: ignore[arg-type]
    assert MaintenanceRun.objects.count() == 1


def test_nobody_starts_the_plan_of_another(as_: As, fake: Register, django_user_model: Any) -> None:
    fake()
    choose(as_("dba"))
    other = Client()
    other.force_login(django_user_model.objects.create_superuser("second", password="dba-password"))
    assert confirm(other).headers["Location"] == "/launch/"
    assert not MaintenanceRun.objects.exists()


@pytest.mark.parametrize("field", ["backup_dir", "url", "bloat_share", "applications"])
@pytest.mark.long
def test_settings_that_changed_since_the_plan_start_nothing(field: str, as_: As, fake: Register, settings: Any) -> None:
    setting, elsewhere = fake(), fake("elsewhere")
    configure(settings, stop="true")
    client = as_("dba")
    choose(client)
    shown = newest()
    changed = {"bloat_share": 0.5, "applications": ["shop-web"]}.get(field, getattr(elsewhere, field))
    elsewhere.delete()
    MaintenanceSetting.objects.filter(pk=setting.pk).update(**{field: changed})
    answer = confirm(client)
    assert not MaintenanceRun.objects.exists()
    assert answer.headers["Location"] == f"/launch/plan/{newest()}/?before={shown}"
    told = page(client.get(answer.headers["Location"]))  # type: ignore[arg-type]
    assert "the settings of shop changed since it was made" in told


@pytest.mark.long
def test_commands_of_an_application_that_changed_since_the_plan_start_nothing(
    as_: As, fake: Register, settings: Any
) -> None:
    setting = fake()
    setting.applications = ["shop-web"]
    setting.save()
    configure(settings, stop="true")
    client = as_("dba")
    choose(client)
    assert last_screen(client).status_code == 200
    configure(settings, stop="false")
    assert "?before=" in confirm(client).headers["Location"]
    assert not MaintenanceRun.objects.exists()


@pytest.mark.parametrize("change", ["one more", "one less"])
@pytest.mark.long
def test_all_means_the_databases_that_the_page_showed(change: str, as_: As, fake: Register) -> None:
    fake("shop"), fake("billing")
    client = as_("dba")
    choose(client, databases=[], all_databases="on")
    if change == "one more":
        fake("stock")
    else:
        MaintenanceSetting.objects.filter(name="billing").update(enabled=False)
    assert "?before=" in confirm(client, names="shop, billing").headers["Location"]
    assert not MaintenanceRun.objects.exists()


@pytest.mark.long
def test_a_second_launch_is_refused_by_the_lock(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    choose(client)
    confirm(client)
    first = MaintenanceRun.objects.get()
    assert "holds the lock" in page(choose(client))
    assert f"{first.number} of shop holds the lock" in page(confirm(client))
    assert MaintenanceRun.objects.count() == 1


@pytest.mark.long
def test_several_databases_want_all_their_names(as_: As, fake: Register) -> None:
    fake("shop"), fake("billing")
    client = as_("dba")
    choose(client, databases=[], all_databases="on")
    assert "This is not billing, shop." in page(confirm(client, names="shop"))
    assert confirm(client, names="shop, billing").status_code == 302


@pytest.mark.long
def test_data_loss_is_offered_only_to_people_who_may_allow_it(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    assert "allow_data_loss" not in page(client.get("/launch/"))  # type: ignore[arg-type]
    choose(client, allow_data_loss="on")
    confirm(client)
    assert MaintenanceRun.objects.get().allow_data_loss is False


@pytest.mark.long
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


@pytest.mark.long
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
    address = f"/launch/plan/{newest()}/"
    assert client.get(f"{address}live/").status_code == 204
    assert last_screen(client).headers["Location"] == address
    tasks.make_plan(*waiting)
    assert client.get(f"{address}live/").headers["HX-Refresh"] == "true"
    assert "Plan: nothing is changed yet" in page(client.get(address))  # type: ignore[arg-type]
    client.post(address)
    assert len(waiting) == 2, "plan again asks the worker again"


@pytest.mark.long
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


@pytest.mark.long
def test_the_plan_is_rehearsed_without_a_password_and_without_a_lock_on_the_database(as_: As, fake: Register) -> None:
    fake()
    client = as_("dba")
    assert "Rehearse" in page(choose(client))
    answer = client.post(f"/launch/plan/{newest()}/rehearse/")
    run = MaintenanceRun.objects.get()
    assert (answer.headers["Location"], run.rehearsal) == (f"/runs/{run.pk}/", True)
    assert run.agreed_plan == StoredPlan.objects.get()
    assert "rehearsal on a copy" in page(client.get(f"/runs/{run.pk}/"))  # type: ignore[arg-type]
    client.post(f"/runs/{run.pk}/cancel/", {"password": "dba-password"})
    run.refresh_from_db()
    assert run.status == Status.CANCELLED
    assert confirm(client).status_code == 302, "a plan that was rehearsed can be started yet"
