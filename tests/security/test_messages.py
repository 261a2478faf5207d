"""What somebody typed arrives as text, in mail and in chats: a link in a reason is no link."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from maintenance.models import MaintenanceSetting
from maintenance.notifications import delivery
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from tests.unit.test_notifications import SLACK, Mailbox, Receiver, mailbox, receiver

__all__ = ["mailbox", "receiver"]

pytestmark = pytest.mark.django_db(transaction=True)
HOSTILE = (
    '<a href="https://evil.example/login">sign in again</a>',
    "<script>alert(1)</script>",
    "<https://evil.example|sign in again>",
    "<!channel> now",
    "a < b & c > d",
)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("form", ["", "&format=html", "&format=markdown"])
def test_mail(
    hostile: str, form: str, mailbox: Mailbox, settings: Any, fake: Callable[..., MaintenanceSetting]
) -> None:
    told_by_config(settings, mailbox.address("dba") + form)
    fake("shop")
    MaintenanceSetting.objects.update(approval_severities=["high"])
    launch.launch(Actor("dba", "web"), Request("rebuild", ["shop"], "high", hostile))
    assert delivery.deliver_pending() == 1
    for part in mailbox.messages[0].walk():
        if part.get_content_type() == "text/html":
            assert "<a" not in part.get_content()
            assert "<script" not in part.get_content()
            assert "<!channel" not in part.get_content()
        elif part.get_content_type() == "text/plain":
            assert hostile in " ".join(part.get_content().split())


@pytest.mark.parametrize("hostile", HOSTILE)
def test_slack(hostile: str, settings: Any, fake: Callable[..., MaintenanceSetting], receiver: Receiver) -> None:
    told_by_config(settings, SLACK)
    fake("shop")
    MaintenanceSetting.objects.update(approval_severities=["high"])
    launch.launch(Actor("dba", "web"), Request("rebuild", ["shop"], "high", hostile))
    assert delivery.deliver_pending() == 1
    sent = json.dumps(receiver.posted)
    assert "<https://evil" not in sent
    assert "<!channel" not in sent
    assert "<a href" not in sent


def told_by_config(settings: Any, address: str) -> None:
    settings.CONFIG_FILE.write_text(json.dumps({"notifications": {"dba": [address]}}))
