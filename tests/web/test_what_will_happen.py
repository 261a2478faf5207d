"""What the last screen says before the point of no return."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from maintenance.models import MaintenanceRun, MaintenanceSetting
from tests import fakes
from tests.web.launching import choose, configure, confirm, last_screen, page

pytestmark = [pytest.mark.django_db, pytest.mark.whole]
As = Callable[[str], Client]
Register = Callable[..., MaintenanceSetting]


def sentences(client: Client, **changes: Any) -> list[str]:
    """Return what plan and confirmation say alike of what it means."""
    planned = page(choose(client, **changes))
    confirmed = page(last_screen(client))
    said = [re.findall(r'<div class="consequences">(.*?)</div>', text, re.S) for text in (planned, confirmed)]
    assert said[0] == said[1]
    return [html.unescape(re.sub(r"<[^>]+>", "", x)).strip() for x in re.findall(r"<p.*?</p>", said[0][0], re.S)]


FIRST_TIME = (
    "Nobody can use shop meanwhile, and 3 sessions will be ended. "
    "For how long is not known yet: there was no earlier run of this type."
)


def test_before_the_point_of_no_return_it_is_said_who_cannot_work_what_is_done_and_until_when_to_cancel(
    as_: As, fake: Register, settings: Any
) -> None:
    setting = fake()
    configure(settings, stop="true")
    setting.applications = ["shop-web"]
    setting.save()
    assert sentences(as_("dba")) == [
        FIRST_TIME,
        "shop-web will be stopped before and started again after it.",
        "What is done: orders, customers, empty: rewrite with all indexes.",
        f"Before anybody is locked out, all of it (6.1 kB) is backed up to {setting.backup_dir}.",
        "It can be cancelled until connections are let in again; work that is not proven by then is taken back.",
    ]


def test_the_length_of_the_outage_is_an_interval_as_soon_as_there_is_one(
    as_: As, fake: Register, ran: Callable[..., MaintenanceRun]
) -> None:
    setting = fake()
    for seconds in (10, 40, 70):
        now = timezone.now()
        ran(setting).targets.update(outage_started_at=now - timedelta(seconds=seconds), outage_ended_at=now)
    assert "for about 40.0 s (10.0 s – 1 min 10 s in its last 3 runs of this type)" in sentences(as_("dba"))[0]


@pytest.mark.long
def test_with_nothing_to_do_no_outage_and_no_application_is_named(as_: As, fake: Register, settings: Any) -> None:
    setting = fake()
    configure(settings, stop="true")
    setting.applications = ["shop-web"]
    setting.bloat_share = 1.0
    setting.save()
    client = as_("dba")
    said = sentences(client, maintenance_type="optimize")
    assert said[0] == "Nothing is to be done in shop: nobody is locked out."
    for text in (page(choose(client, maintenance_type="optimize")), page(last_screen(client))):
        shown = text.split("<main")[1]
        assert "shop-web" not in shown
        assert "utage" not in shown
        assert "disk needed" not in shown


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("repair", "No damage shows from outside. While it is closed, everything is checked and damage is repaired."),
        ("rebuild", "There is nothing to rebuild; it is backed up, closed, checked and opened again."),
    ],
)
def test_what_has_no_work_yet_and_still_closes_says_so(kind: str, sentence: str, as_: As, fake: Register) -> None:
    setting = fake()
    with fakes.opened(setting.url.removeprefix("fake:///")) as state:
        state["tables"] = {}
    said = sentences(as_("dba"), maintenance_type=kind)
    assert said[0].startswith("Nobody can use shop")
    assert sentence in said


def test_what_stays_is_said(as_: As, fake: Register) -> None:
    setting = fake()
    with fakes.opened(setting.url.removeprefix("fake:///")) as state:
        state["findings"] = [
            ["unused_index", "low", "orders_old", "never used"],
            ["table_bloat", "high", "orders", "x"],
        ]
    assert sentences(as_("dba"))[-1] == "1 finding stays as before, such as: orders_old: never used"


def test_messages_and_the_approval_say_the_same(as_: As, fake: Register, settings: Any, django_user_model: Any) -> None:
    setting = fake()
    setting.approval_severities = ["high"]
    setting.save()
    settings.CONFIG_FILE.write_text(json.dumps({"notifications": {"dba": ["json://127.0.0.1:9/"]}}))
    client = as_("dba")
    said = sentences(client)
    confirm(client)
    run = MaintenanceRun.objects.get()
    [message] = run.notifications.filter(event="awaiting_approval")
    other = Client()
    other.force_login(django_user_model.objects.create_superuser("second", password="second-password"))
    approval = html.unescape(page(other.get(f"/runs/{run.pk}/approve/")))  # type: ignore[arg-type]
    for sentence in said:
        assert sentence in message.body
        assert sentence in approval
