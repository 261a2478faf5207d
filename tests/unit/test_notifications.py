"""Messages of 7.3 to real receivers: a mail server, a chat and a phone service on this machine."""

from __future__ import annotations

import email
import email.policy
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiosmtpd.controller import Controller
from apprise.plugins.slack import NotifySlack
from apprise.plugins.twilio import NotifyTwilio
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import F
from django.test import Client
from django.utils import timezone

from demo.ports import free_port
from maintenance.engines.messages import msg
from maintenance.models import Acknowledgement, AuditEntry, MaintenanceRun, MaintenanceSetting, Notification, Status
from maintenance.notifications import delivery, events
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from tests import records

Register = Callable[..., MaintenanceSetting]
SECRET = "TIiajkdnlazkcOXrIdevi7FQ"
SLACK = f"slack://T1JJ3T3L2/A1BRTD4JD/{SECRET}/#emergency"
PHONE = f"twilio://AC{'1' * 32}:{'2' * 32}@15558675309/15558675310?method=call"


class Mailbox:
    """What a real mail server took."""

    def __init__(self) -> None:
        self.messages: list[email.message.EmailMessage] = []
        self.controller = Controller(self, hostname="127.0.0.1", port=free_port(), ready_timeout=60)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        read = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.messages.append(read)
        return "250 taken"

    def address(self, to: str) -> str:
        return (
            f"mailto://127.0.0.1:{self.controller.port}?from=dbmaint@console.example&to={to}@example.com&mode=insecure"
        )

    def text(self, number: int = 0) -> tuple[str, str]:
        """Subject and body."""
        message = self.messages[number]
        body = message.get_body(("plain", "html"))
        assert body is not None
        return str(message["Subject"]), body.get_content()


class Receiver:
    """A service on HTTP: keeps what was posted, and answers with `status`."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, str]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posted.append((self.path, body.decode()))
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    made.controller.start()
    yield made
    made.controller.stop()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Slack and Twilio, but here: what Apprise would send them is sent to this machine."""
    made = Receiver()
    threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(NotifySlack, "webhook_url", f"{made.url}/slack")
    monkeypatch.setattr(NotifyTwilio, "notify_call_url", f"{made.url}/call/{{sid}}")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A mail server that takes connections and never says a word, until it is closed."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server


@pytest.fixture
def told(settings: Any) -> Callable[..., None]:
    """config.json with these addresses; other keys by name."""

    def write(addresses: dict[str, list[str]], **more: Any) -> None:
        settings.CONFIG_FILE.write_text(json.dumps({"notifications": addresses, **more}))

    return write


Told = Callable[..., None]


def stuck(shop: MaintenanceSetting) -> MaintenanceRun:
    """A run that needs an operator, as it was announced."""
    run = records.empty_run(status=Status.NEEDS_OPERATOR, finished_at=timezone.now())
    said = msg("The copy of {database} could not be put back.", database="shop")
    records.target_of(run, "shop", ended_because=said)
    events.announce(run, "needs_operator")
    return run


def a_while_later(minutes: float = 16) -> None:
    Notification.objects.update(created_at=timezone.now() - timedelta(minutes=minutes))


@pytest.mark.django_db
class TestWhatIsSaid:
    def test_the_start_goes_to_dba_operations_and_development_by_mail_and_slack(
        self, mailbox: Mailbox, receiver: Receiver, told: Told
    ) -> None:
        told({who: [mailbox.address(who), SLACK] for who in ("dba", "operations", "development", "stakeholders")})
        run = records.empty_run(status=Status.RUNNING)
        events.announce(run, "started")
        assert delivery.deliver_pending() == 6
        assert {str(m["To"]) for m in mailbox.messages} == {
            "dba@example.com",
            "operations@example.com",
            "development@example.com",
        }
        subject, body = mailbox.text()
        assert subject == f"{run.number} Maintenance began: rebuild · shop"
        assert "Checkout times out" in body
        assert f"http://127.0.0.1:8905/runs/{run.pk}/" in body
        assert [path for path, _ in receiver.posted] == [f"/slack/T1JJ3T3L2/A1BRTD4JD/{SECRET}"] * 3
        assert run.number in receiver.posted[0][1]

    def test_a_failure_calls_the_emergency_team_by_phone(self, receiver: Receiver, told: Told) -> None:
        told({"dba": [SLACK], "on_call": [PHONE, SLACK], "stakeholders": [SLACK]})
        run = records.empty_run(status=Status.FAILED)
        records.target_of(run, "shop", ended_because="shop could not be restored.")
        events.announce(run, "failed")
        assert delivery.deliver_pending() == 3
        [call] = [parse_qs(body) for path, body in receiver.posted if path.startswith("/call/")]
        assert call["To"] == ["+15558675310"]
        assert "Maintenance failed" in call["Twiml"][0]
        assert "shop could not be restored." in call["Twiml"][0]

    @pytest.mark.parametrize("event", events.EVENTS)
    def test_every_event_is_told_in_both_languages(self, mailbox: Mailbox, told: Told, event: str) -> None:
        audience = events.EVENTS[event].audiences[0]
        run = records.empty_run(status=Status.RUNNING)
        bodies = {}
        for language in ("en", "ja"):
            told({audience: [mailbox.address("x")]}, notification_languages={audience: language})
            Notification.objects.all().delete()
            events.announce(run, event)
            message = Notification.objects.get()
            bodies[language] = message.title + message.body
            assert run.number in message.title
            assert f"/runs/{run.pk}/" in message.body
        assert any("\u3040" <= c <= "\u30ff" for c in bodies["ja"].replace("決済が遅い", ""))
        assert "再構築" in bodies["ja"]
        assert "rebuild" in bodies["en"]

    def test_why_it_ended_is_told_in_the_language_of_the_reader(self, mailbox: Mailbox, told: Told) -> None:
        told(
            {"stakeholders": [mailbox.address("s")]},
            notification_languages={"stakeholders": "ja"},
        )
        events.announce(records.finished_run(), "succeeded")
        delivery.deliver_pending()
        subject, body = mailbox.text()
        assert "メンテナンスが完了しました" in subject
        assert "shop のメンテナンス" in body

    def test_the_configured_address_of_the_console_is_linked(self, mailbox: Mailbox, told: Told, settings: Any) -> None:
        settings.SITE_URL = "https://dbmaint.example.com/"
        told({"dba": [mailbox.address("dba")]})
        run = records.empty_run()
        events.announce(run, "late")
        assert f"https://dbmaint.example.com/runs/{run.pk}/" in Notification.objects.get().body

    def test_no_password_is_told(self, fake: Register, told: Told, mailbox: Mailbox) -> None:
        shop = fake("shop")
        shop.password = "canary-Xq7"
        shop.save()
        told({a: [mailbox.address(a)] for a in ("dba", "operations", "development", "stakeholders", "on_call")})
        run = launch.launch(Actor("somebody", "command"), Request("rebuild", ["shop"], "high", "slow"))
        for event in events.EVENTS:
            events.announce(run, event)
        assert not any("canary" in m.title + m.body for m in Notification.objects.all())


@pytest.mark.django_db
class TestDelivery:
    def test_it_is_tried_again_and_each_try_is_kept(self, receiver: Receiver, told: Told) -> None:
        told({"dba": [SLACK]})
        run = records.empty_run()
        events.announce(run, "late")
        receiver.status = 500
        assert delivery.deliver_pending() == 0
        message = Notification.objects.get(audience="dba")
        assert (message.tries, message.delivered_at, message.channel) == (1, None, "slack")
        assert message.error
        assert message.next_try_at > timezone.now() + timedelta(seconds=5)
        assert delivery.deliver_pending() == 0
        assert len(receiver.posted) == 1
        Notification.objects.update(next_try_at=timezone.now())
        receiver.status = 200
        assert delivery.deliver_pending() == 1
        message.refresh_from_db()
        assert (message.tries, message.error) == (2, "")
        assert message.delivered_at is not None

    def test_a_receiver_that_takes_its_time_is_not_called_by_a_second_worker(
        self, told: Told, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told({"dba": [SLACK]})
        events.announce(records.empty_run(), "late")
        calls: list[str | None] = []

        def slow(address: str | None, *message: str) -> delivery.Sent:
            calls.append(address)
            return delivery.Sent("slack://t", "")

        def meanwhile(addresses: dict[str, str]) -> dict[str, str]:
            """Another worker's round, longer after the claim than the first wait after a failure."""
            Notification.objects.update(next_try_at=F("next_try_at") - timedelta(seconds=delivery.FIRST_WAIT * 3))
            monkeypatch.setattr(delivery, "_addresses", known)
            assert delivery.deliver_pending() == 0
            return addresses

        known = delivery._addresses
        monkeypatch.setattr(delivery, "send", slow)
        monkeypatch.setattr(delivery, "_addresses", lambda: meanwhile(known()))
        assert delivery.deliver_pending() == 1
        assert calls == [SLACK]

    def test_one_whose_sender_died_is_sent_by_another(
        self, receiver: Receiver, told: Told, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told({"dba": [SLACK]})
        events.announce(records.empty_run(), "late")
        with monkeypatch.context() as patched:
            patched.setattr(delivery, "_addresses", dict[str, str]().__getitem__)
            with pytest.raises(TypeError):
                delivery.deliver_pending()
        assert delivery.deliver_pending() == 0
        Notification.objects.update(next_try_at=F("next_try_at") - delivery.SENDING)
        assert delivery.deliver_pending() == 1

    def test_no_secret_of_an_address_is_kept_or_logged(
        self, receiver: Receiver, told: Told, caplog: pytest.LogCaptureFixture
    ) -> None:
        closed = free_port()
        secret = "hunter2-canary"
        told(
            {
                "dba": [
                    SLACK,
                    f"mailto://me:{secret}@127.0.0.1:{closed}?to=a@b.example",
                    f"json://u:{secret}@127.0.0.1:{closed}/{secret}",
                ]
            }
        )
        receiver.status = 404
        events.announce(records.empty_run(), "late")
        assert delivery.deliver_pending() == 0
        for message in Notification.objects.all():
            assert message.error
            for hidden in (SECRET, secret):
                assert hidden not in json.dumps([str(v) for v in message.__dict__.values()])
        ours = [r.getMessage() for r in caplog.records if r.name == "maintenance"]
        assert ours
        assert not any(hidden in line for line in ours for hidden in (SECRET, secret))

    def test_an_address_that_works_is_not_told_twice_for_one_that_does_not(
        self, mailbox: Mailbox, receiver: Receiver, told: Told
    ) -> None:
        told({"dba": [mailbox.address("dba"), SLACK]})
        receiver.status = 503
        events.announce(records.empty_run(), "late")
        for _ in range(3):
            delivery.deliver_pending()
            Notification.objects.update(next_try_at=timezone.now())
        assert (len(mailbox.messages), len(receiver.posted)) == (1, 3)

    @pytest.mark.parametrize(
        ("now", "error"),
        [({}, "does not stand in config.json any more"), ({"dba": ["nonsense://x"]}, "is not understood")],
    )
    def test_an_address_that_is_gone_or_wrong(self, told: Told, now: dict[str, list[str]], error: str) -> None:
        told({"dba": ["nonsense://x"]})
        events.announce(records.empty_run(), "late")
        told(now)
        assert delivery.deliver_pending() == 0
        assert error in Notification.objects.get().error

    def test_it_is_given_up_after_a_day_but_never_for_an_operator(self, receiver: Receiver, told: Told) -> None:
        told({"dba": [SLACK]})
        run = records.empty_run()
        events.announce(run, "late")
        events.announce(run, "needs_operator")
        Notification.objects.update(tries=delivery.TRIES)
        assert delivery.deliver_pending() == 1
        assert Notification.objects.get(delivered_at=None).event == "late"

    def test_a_configuration_that_cannot_be_read_stops_messages_only(self, settings: Any) -> None:
        settings.CONFIG_FILE.write_text("{")
        events.announce(records.empty_run(), "failed")
        assert delivery.deliver_pending() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.long
def test_a_mail_server_that_hangs_delays_neither_the_procedure_nor_other_messages(
    fake: Register, receiver: Receiver, told: Told, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "EVERY", 0.2)
    hanging = f"mailto://127.0.0.1:{silent.getsockname()[1]}?from=a@b.example&to=c@d.example&mode=insecure&cto=300"
    told({who: [hanging, SLACK] for who in ("dba", "operations", "development", "stakeholders")})
    fake("shop")
    run = launch.launch(Actor("somebody", "command"), Request("rebuild", ["shop"], "high", "slow"), enqueue=False)
    post = delivery.Post()
    post.start()
    try:
        runner.advance(run.targets.get().pk)
        run.refresh_from_db()
        assert run.status == Status.SUCCEEDED
        until = time.monotonic() + 30
        while not receiver.posted and time.monotonic() < until:
            time.sleep(0.05)
        assert receiver.posted, "the chat waited for the mail server"
        hung = Notification.objects.filter(channel="mailto", event="started")
        assert {(m.tries, m.delivered_at, m.error) for m in hung} == {(1, None, "")}, "they still wait for an answer"
    finally:
        silent.close()
        post.finish(within=30)
    assert not post.is_alive()
    sent = Notification.objects.filter(channel="slack")
    assert {m.event for m in sent} == {"started", "succeeded"}
    assert all(m.delivered_at for m in sent)
    assert all(m.error for m in Notification.objects.filter(channel="mailto"))


@pytest.mark.django_db(transaction=True)
class TestOneDatabaseOfSeveral:
    """Nobody waits for the end of a long run to hear that one of its databases is shut."""

    @pytest.fixture(autouse=True)
    def _no_reports(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("reports.write.make_reports", lambda run: None)

    def told_of(self, event: str) -> list[str]:
        return [message.body for message in Notification.objects.filter(event=event)]

    @pytest.mark.long
    def test_people_are_called_when_it_ends_and_not_again_with_the_run(self, fake: Register, told: Told) -> None:
        told({"dba": [SLACK], "stakeholders": [SLACK]})
        fake("crm", perform=["damage"], restore_beside=["permanent"])
        fake("shop")
        run = launch.launch(Actor("somebody", "command"), Request("rebuild", None, "high", "slow"), enqueue=False)
        crm, shop = run.targets.order_by("database")
        runner.advance(crm.pk)
        run.refresh_from_db()
        assert (run.status, run.finished_at) == (Status.RUNNING, None)
        [body] = self.told_of("needs_operator")
        assert "crm: " in body
        assert "told to fail" in body
        launch.acknowledge(Actor("somebody", "command"), run)
        runner.advance(shop.pk)
        run.refresh_from_db()
        assert run.status == Status.NEEDS_OPERATOR
        assert self.told_of("needs_operator") == [body]
        assert self.told_of("succeeded") == [], "a run with a database that is shut is not complete"

    @pytest.mark.long
    def test_each_that_is_shut_is_told_once_and_what_else_went_wrong_too(self, fake: Register, told: Told) -> None:
        told({"dba": [SLACK]})
        for name in ("crm", "erp"):
            fake(name, perform=["damage"], restore_beside=["permanent"])
        fake("shop", perform=["permanent"])
        run = launch.launch(Actor("somebody", "command"), Request("rebuild", None, "high", "slow"), enqueue=False)
        for target in run.targets.order_by("database"):
            runner.advance(target.pk)
        shut = self.told_of("needs_operator")
        assert [name in body for name, body in zip(("crm: ", "erp: "), shut, strict=True)] == [True, True]
        [other] = self.told_of("rolled_back")
        assert "shop: " in other
        assert "crm: " not in other


@pytest.mark.django_db
class TestUntilSomebodyIsOnIt:
    def test_it_is_repeated(self, fake: Register, receiver: Receiver, told: Told) -> None:
        told({"dba": [SLACK], "on_call": [PHONE]}, reminder_minutes=15)
        stuck(fake("shop"))
        delivery.deliver_pending()
        assert events.remind() == 0
        for repetition in (1, 2):
            a_while_later()
            assert events.remind() == 1
            assert events.remind() == 0
            assert Notification.objects.filter(repetition=repetition).count() == 2
        assert delivery.deliver_pending() == 4
        assert sum(path.startswith("/call/") for path, _ in receiver.posted) == 3

    def test_two_that_remind_at_once_remind_once(self, fake: Register, told: Told) -> None:
        told({"dba": [SLACK]})
        run = stuck(fake("shop"))
        events._queue(run, "needs_operator", "", "", 1)
        events._queue(run, "needs_operator", "", "", 1)
        assert Notification.objects.filter(repetition=1).count() == 1

    def test_it_ends_when_somebody_acknowledges(self, fake: Register, told: Told, people: dict[str, User]) -> None:
        told({"dba": [SLACK]})
        run = stuck(fake("shop"))
        launch.acknowledge(Actor("dba", "web", people["dba"]), run)
        a_while_later()
        assert events.remind() == 0
        assert Acknowledgement.objects.get().by_name == "dba"
        assert AuditEntry.objects.filter(operation="run.acknowledged", object=run.number).count() == 1
        assert Notification.objects.get(event="acknowledged").body.startswith("Somebody is on it\ndba is on it.")

    def test_it_ends_when_the_database_is_released(self, fake: Register, told: Told) -> None:
        told({"dba": [SLACK]})
        run = stuck(fake("shop"))
        run.targets.update(released_at=timezone.now())
        a_while_later()
        assert events.remind() == 0

    def test_one_that_nobody_could_be_told_of_is_told_later(self, fake: Register, told: Told, settings: Any) -> None:
        settings.CONFIG_FILE.write_text("{")
        run = stuck(fake("shop"))
        MaintenanceRun.objects.update(finished_at=timezone.now() - timedelta(minutes=20))
        assert not Notification.objects.exists()
        told({"dba": [SLACK]})
        assert events.remind() == 1
        assert "手" not in Notification.objects.get(run=run).body

    def test_who_may_acknowledge(self, fake: Register, people: dict[str, User]) -> None:
        run = stuck(fake("shop"))
        with pytest.raises(launch.NotPermitted):
            launch.acknowledge(Actor("manager", "web", people["manager"]), run)
        launch.acknowledge(Actor("dba", "web", people["dba"]), run)
        with pytest.raises(launch.BadInput, match="acknowledged by dba already"):
            launch.acknowledge(Actor("dba", "web", people["dba"]), run)
        with pytest.raises(launch.BadInput, match="does not need an operator"):
            launch.acknowledge(Actor("dba", "web", people["dba"]), records.empty_run())

    @pytest.mark.long
    def test_on_the_page_of_the_run(self, fake: Register, told: Told, people: dict[str, User]) -> None:
        told({"dba": [SLACK]})
        run = stuck(fake("shop"))
        Notification.objects.update(tries=3, error="no route to host", address="slack://t...2")
        client = Client()
        client.force_login(people["dba"])
        page = " ".join(client.get(f"/runs/{run.pk}/").content.decode().split())
        for part in ("slack://t...2", "3 tries: no route to host", "not delivered", "Acknowledge"):
            assert part in page
        client.post(f"/runs/{run.pk}/acknowledge/", {"password": "dba-password"})
        page = client.get(f"/runs/{run.pk}/").content.decode()
        assert "dba is on it" in page
        assert f"/runs/{run.pk}/acknowledge/" not in page

    def test_on_the_command_line(self, fake: Register, capsys: pytest.CaptureFixture[str]) -> None:
        run = stuck(fake("shop"))
        call_command("acknowledge", run.number)
        assert Acknowledgement.objects.get().run == run
        with pytest.raises(SystemExit) as left:
            call_command("acknowledge", str(run.pk))
        assert left.value.code == 2
        with pytest.raises(SystemExit) as left:
            call_command("acknowledge", "EM-2026-9999")
        assert left.value.code == 2
        assert "There is no maintenance EM-2026-9999" in capsys.readouterr().err
