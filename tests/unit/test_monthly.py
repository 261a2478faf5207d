"""The monthly mail: to whom config.json names, once, and again to whom it did not reach."""

from __future__ import annotations

import io
import json
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from pypdf import PdfReader

from demo.ports import free_port
from maintenance.models import AuditEntry
from maintenance.notifications import delivery
from maintenance.notifications.delivery import Sent
from maintenance.text.dates import Month
from reports import monthly

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, settings: Any) -> None:
    settings.REPORTS_DIR, settings.CONFIG_FILE = tmp_path / "reports", tmp_path / "config.json"


@pytest.fixture(autouse=True)
def _december(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the tests run: a month may end between two of their lines."""
    monkeypatch.setattr(monthly, "this_month", lambda: Month(2026, 12))


class Mailbox:
    """Keeps what a mail server was given."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope.content)
        return "250 kept"


def configured(settings: Any, *addresses: str, **more: Any) -> None:
    settings.CONFIG_FILE.write_text(json.dumps({"notifications": {"management": addresses}, **more}))


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # A plugin of Apprise imports it.
@pytest.mark.long
def test_the_report_of_last_month_comes_by_mail_once(settings: Any) -> None:
    box = Mailbox()
    port = free_port()
    server = Controller(box, hostname="127.0.0.1", port=port, ready_timeout=60)
    server.start()
    try:
        address = f"mailto://127.0.0.1:{port}/?from=dbmaint@example.com&to=boss@example.com&mode=insecure"
        configured(settings, address, notification_languages={"management": "ja"})
        assert monthly.send_if_due() == 1
        assert monthly.send_if_due() == 0
    finally:
        server.stop()
    [mail] = box.mails
    month = Month(2026, 11)
    parts = {part.get_filename(): part for part in message_from_bytes(mail).walk() if part.get_filename()}
    pdf = parts[f"management-{month}.pdf"].get_payload(decode=True)
    assert isinstance(pdf, bytes)
    assert pdf == (settings.REPORTS_DIR / f"management-{month}.pdf").read_bytes()
    assert PdfReader(io.BytesIO(pdf)).trailer["/Root"]["/Lang"] == "ja"  # type: ignore[index]
    entry = AuditEntry.objects.get(operation=monthly.SENT)
    assert "boss" not in entry.object


def test_nobody_is_named_and_nothing_is_made(settings: Any) -> None:
    assert monthly.send_if_due() == 0
    assert not settings.REPORTS_DIR.exists()


def test_whom_it_did_not_reach_gets_it_the_next_day(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(settings, "mailto://good", "mailto://bad")
    monkeypatch.setattr(monthly, "write", lambda month, folder, language: folder / "x.pdf")
    broken, asked = {"mailto://bad"}, []

    def send(address: str, *more: object) -> Sent:
        asked.append(address)
        return Sent(address, "no route" if address in broken else "")

    monkeypatch.setattr(delivery, "send", send)
    assert monthly.send_if_due() == 1
    broken.clear()
    assert monthly.send_if_due() == 1
    assert monthly.send_if_due() == 0
    assert asked == ["mailto://good", "mailto://bad", "mailto://bad"]
