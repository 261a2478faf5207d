"""Approving a launch, and breaking the glass, on the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from maintenance.models import MaintenanceRun, MaintenanceSetting, Status
from tests.web.launching import choose, confirm, last_screen, page

pytestmark = [pytest.mark.django_db, pytest.mark.whole]
As = Callable[[str], Client]
Register = Callable[..., MaintenanceSetting]


@pytest.mark.long
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


@pytest.mark.long
def test_the_glass_is_broken_on_the_last_screen_with_a_reason(as_: As, fake: Register, people: dict[str, User]) -> None:
    glass(people, fake)
    client = as_("dba")
    choose(client)
    assert "break_glass" in page(last_screen(client))
    assert "This field is required" in page(confirm(client, break_glass="1"))
    assert not MaintenanceRun.objects.exists()
    confirm(client, break_glass="1", glass="nobody answers the phone")
    run = MaintenanceRun.objects.get()
    assert (run.status, run.approval.broken_glass) == (Status.QUEUED, "nobody answers the phone")
    told = page(client.get(f"/runs/{run.pk}/"))  # type: ignore[arg-type]
    assert "dba began this run without the approval it needs: “nobody answers the phone”" in told
    assert "approved by" not in told


@pytest.mark.long
def test_a_reason_alone_breaks_no_glass(as_: As, fake: Register, people: dict[str, User]) -> None:
    glass(people, fake)
    client = as_("dba")
    choose(client)
    confirm(client, glass="thought about it")
    assert MaintenanceRun.objects.get().status == Status.AWAITING_APPROVAL


@pytest.mark.long
def test_the_glass_is_not_shown_to_people_who_may_not_break_it(as_: As, fake: Register) -> None:
    setting = fake()
    setting.approval_severities = ["high"]
    setting.save()
    client = as_("dba")
    choose(client)
    assert "break_glass" not in page(last_screen(client))
    refused = page(confirm(client, break_glass="1", glass="nobody answers"))
    assert "dba may not" in refused
    assert not MaintenanceRun.objects.exists()


@pytest.mark.long
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
