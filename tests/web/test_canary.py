"""Canary passwords: planted by form, API and config.json, then looked for in every page, answer and file."""

from __future__ import annotations

import importlib
import json
import logging
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from pypdf import PdfReader

from maintenance import tasks
from maintenance.conf.logs import JsonLine
from maintenance.models import FailedTries, MaintenanceSetting, Notification
from maintenance.notifications import delivery
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import runner
from tests.web.api.calling import ASKED, CALLS, SEEN, Machine
from tests.web.test_permissions import ANSWERS, address
from tests.web.test_settings_admin import values

FORM, URL, BODY, BEARER, POST, TYPED = (
    f"Kanarien-{word}-905x" for word in ("Formular", "Adresse", "Rumpf", "Marke", "Post", "Getippt")
)
CANARIES = (FORM, URL, BODY, BEARER, POST, TYPED)
READERS = ("administrator", "dba", "auditor")


def canaries_in(content: bytes) -> list[str]:
    return [word for word in CANARIES if word.encode() in content]


def content_of(answer: Any) -> bytes:
    body: bytes = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return body + str(answer.headers).encode()


def planted(administrator: Client, fake: Callable[..., MaintenanceSetting]) -> tuple[bytes, MaintenanceSetting]:
    """Two databases get their password in the admin form; one of them answers nothing. What the pages said."""
    said = b""
    shop, away = fake("shop", perform=["permanent"]), fake("away")
    server = f"postgresql://dba:{URL}@127.0.0.1:1/away"
    for setting, changes in ((shop, {}), (away, {"url": server, "jobs": 0}), (away, {"url": server})):
        page = reverse("admin:maintenance_maintenancesetting_change", args=[setting.pk])
        answer = administrator.post(page, values(setting, new_password=FORM, **changes), follow=True)
        if "jobs" not in changes:  # A form that is refused comes back to who filled it in.
            said += content_of(answer)
        said += content_of(administrator.get(page))
        for name in ("test", "grants"):
            asked = reverse(f"admin:maintenance_maintenancesetting_{name}", args=[setting.pk])
            said += content_of(administrator.post(asked, follow=True))
        said += content_of(administrator.get(page.replace("/change/", "/history/")))
    return said, shop


def bad_calls(machine: Machine) -> bytes:
    """What a careless program sends: secrets where none belong."""
    said = b""
    for path, body in (
        ("maintenance", {**ASKED, "password": BODY}),
        ("maintenance", {**ASKED, "severity_level": {"password": BODY}}),
        ("maintenance/plan", '{"password": "' + BODY),
        ("databases/shop/status", {**SEEN, "password": BODY}),
        ("databases/shop/status", {**SEEN, "tables": {"password": BODY}}),
        ("alerts", [BODY]),
    ):
        said += content_of(machine.post(path, body))
    return said + content_of(Machine().get("databases", Authorization=f"Bearer {BEARER}"))


def passwords_typed(client: Client, run: str) -> bytes:
    """At every page that asks for one, wrong each time: what is said, and the page that follows."""
    said = b""
    for name, arguments, body in (
        ("run_approve", [run], {}),
        ("run_break_glass", [run], {"glass": "nobody answers"}),
        ("run_release", [run], {"database": "shop"}),
        ("run_acknowledge", [run], {}),
        ("token_create", [], {"name": "t", "scopes": ["read"], "days": 1}),
        ("prove", [], {"code": TYPED}),
        ("recovery_codes", [], {}),
        ("password_change", [], {"old_password": TYPED, "new_password1": TYPED, "new_password2": TYPED}),
        ("second_factor_enrol", [], {"code": TYPED}),
        ("login", [], {"username": "dba"}),
    ):
        page = reverse(f"maintenance:{name}", args=arguments)
        said += content_of(client.post(page, {"password": TYPED, **body}, follow=True))
        FailedTries.objects.all().delete()
    return said


def keys() -> list[str]:
    """Of the installation, as they stand in their files."""
    pem = settings.AUDIT_KEY.read_text().splitlines()[1]
    mark = settings.MARK_KEY.read_bytes()
    return [settings.SECRET_KEY, pem, mark.hex(), b64encode(mark).decode()]


@pytest.fixture(autouse=True)
def groups(transactional_db: None) -> None:
    """Made by a migration, and gone with the tables that an earlier test emptied."""
    importlib.import_module("maintenance.migrations.0002_groups").create(apps, connection.schema_editor())


@pytest.mark.rare
@pytest.mark.django_db(transaction=True)
@pytest.mark.long
def test_no_secret_comes_out_by_the_web_or_the_api(
    fake: Callable[..., MaintenanceSetting],
    as_: Callable[[str], Client],
    people: dict[str, User],
    someone: Actor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(JsonLine())
    (tmp_path / "config.json").write_text(
        json.dumps({"notifications": {"dba": [f"mailto://u:{POST}@127.0.0.1:1?to=dba@example.com"]}})
    )
    said, shop = planted(as_("administrator"), fake)
    assert MaintenanceSetting.objects.get(name="away").password in (FORM, URL)

    call_command(
        "api_token", "dba", "nightly", *(f"--scope={scope}" for scope in ("read", "launch", "monitor", "alert"))
    )
    token = capsys.readouterr().out.strip()
    machine = Machine(token)
    said += bad_calls(machine)
    for name in ("away", "shop"):
        as_("dba").post(reverse("maintenance:diagnose", args=[name]))
        tasks.look(MaintenanceSetting.objects.get(name=name).pk)
    said += content_of(machine.post("maintenance", {**ASKED, "target_databases": ["away"]}))
    run = launch.launch(someone, Request("rebuild", ["shop"], "high", "x"), enqueue=False)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == "rolled_back"
    delivery.deliver_pending()
    assert Notification.objects.filter(tries__gt=0).exists(), "a message was tried, and failed"

    said += passwords_typed(as_("dba"), str(run.pk))
    world = {"name": "shop", "run": str(run.pk), "setting": str(shop.pk)}
    pages = {name for method, name in ANSWERS if method == "GET"}
    everything = Client()
    everything.force_login(User.objects.create_superuser("root"))
    for language in ("en", "ja"):
        for client in (everything, *(as_(who) for who in READERS)):
            for name in sorted(pages - {"reports_pdf"}):
                said += content_of(client.get(address(name, world), headers={"accept-language": language}))
    for method, path in CALLS:
        if method == "GET":
            said += content_of(machine.get(path.format(id=run.pk)))
    for path in ("/api/v1/openapi.json", "/metrics", "/api/v1/docs", "/admin/auth/user/", "/admin/"):
        said += content_of(everything.get(path))
    assert b"Connection refused" in said, "the failure itself is told"
    assert b"Traceback" not in said
    assert canaries_in(said) == []
    assert token.encode() not in said
    assert [key for key in keys() if key.encode() in said] == []
    call_command("dumpdata")
    told = (capsys.readouterr().out + caplog.text).encode()
    assert canaries_in(told) == []
    assert token.encode() not in told
    assert [key for key in keys() if key.encode() in told] == []
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "config.json"]
    assert {".pdf", ".csv"} <= {file.suffix for file in files}
    for file in files:
        text = "".join(p.extract_text() for p in PdfReader(file).pages).encode() if file.suffix == ".pdf" else b""
        assert canaries_in(file.read_bytes() + text) == [], file
