"""Every ending of a maintenance, told on Japanese pages: what is not a name or a server's own word is Japanese."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from maintenance.auditing import chain
from maintenance.models import AuditEntry, MaintenanceRun, MaintenanceSetting
from maintenance.requests import launch
from maintenance.requests.launch import Actor, Request
from maintenance.workflow import heartbeat, runner

pytestmark = pytest.mark.django_db(transaction=True)
Register = Callable[..., MaintenanceSetting]
Ask = Callable[..., Request]
Faults = Mapping[str, Sequence[str]]
OF_THE_SERVER = re.compile(
    "told to fail|half of it is unused|many rows were deleted|nobody reads meanwhile|manage.py release shop|open /[^<]*"
)
"""What tests/fakes.py answers, and commands to type: both are told as they are."""
NOT_READ = re.compile(r"<(script|style|pre|code)\b.*?</\1>|<(\w+) [^>]*\bclass=\"[^\"]*\bmono\b[^\"]*\".*?</\2>", re.S)
"""Statements, names and paths stand in these."""
ENGLISH = re.compile(r"(?:\b[A-Za-z][a-z’']+[,:;]? )+[a-z’']{2,}")

ENDINGS: list[tuple[str, Faults]] = [
    ("succeeded", {}),
    ("succeeded", {"back_up": ["permanent"]}),
    ("succeeded", {"query": ["permanent"] * 40}),
    ("failed", {"diagnose": ["permanent"] * 4}),
    ("failed", {"diagnose": ["unreachable"] * 9}),
    ("failed", {"back_up": ["permanent"] * 4}),
    ("failed", {"fingerprint": ["integrity"] * 9}),
    ("succeeded", {"measure": ["permanent"] * 40}),
    ("rolled_back", {"perform": ["permanent"] * 3}),
    ("rolled_back", {"perform": ["resource"] * 9}),
    ("rolled_back", {"perform": ["damage"]}),
    ("needs_operator", {"perform": ["damage"] * 3, "restore_beside": ["permanent"] * 9}),
    ("needs_operator", {"open_gate": ["permanent"] * 20}),
    ("failed", {"cut": ["transient"] * 9}),
]


def sentences(page: str) -> set[str]:
    """English among what a person reads, titles and labels included."""
    labels = re.findall(r'\b(?:title|aria-label|alt|placeholder|data-name)="([^"]+)"', page)
    text = html.unescape("\n".join([re.sub(r"<[^>]+>", "\n", NOT_READ.sub("\n", page)), *labels]))
    return {found for line in OF_THE_SERVER.sub("*", text).splitlines() for found in ENGLISH.findall(line)}


def test_english_is_found() -> None:
    page = '<p title="not so good">良い <b>All is well.</b> <i class="mono">SELECT of it</i></p><pre>do it</pre>'
    assert sentences(f"{page}told to fail") == {"not so good", "All is well"}


@pytest.mark.parametrize(("status", "faults"), ENDINGS)
def test_every_ending_is_told_in_japanese(
    status: str,
    faults: dict[str, Any],
    fake: Register,
    request_for: Ask,
    someone: Actor,
    admin_user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    setting = fake(**faults)
    setting.functional_checks = ["照会"]
    setting.save()
    run = launch.launch(someone, request_for("shop", reason="決済が遅い"), enqueue=False)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == status
    assert_told_in_japanese(run, admin_user)


@pytest.mark.parametrize("status", ["cancelled", "timed_out"])
def test_an_ending_from_outside_is_told_in_japanese(
    status: str, fake: Register, request_for: Ask, someone: Actor, admin_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody cancels, or the time is over, while connections are being cut."""
    monkeypatch.setattr("reports.write.make_reports", lambda run: None)
    setting = fake()
    if status == "timed_out":
        setting.timeout_minutes, setting.reserve_minutes = 30, 30
        setting.save()
    run = launch.launch(someone, request_for("shop", reason="決済が遅い"), enqueue=False)
    original = heartbeat.Heart.start

    def start(heart: heartbeat.Heart) -> None:
        cut = heart.ctx.engine.gate.cut

        def ended_meanwhile(*args: Any) -> Any:
            if heart.ctx.reason is None:
                if status == "cancelled":
                    launch.cancel(someone, run)
                heart.beat()
            return cut(*args)

        monkeypatch.setattr(heart.ctx.engine.gate, "cut", ended_meanwhile)
        original(heart)

    monkeypatch.setattr(heartbeat.Heart, "start", start)
    runner.advance(run.targets.get().pk)
    run.refresh_from_db()
    assert run.status == status
    assert_told_in_japanese(run, admin_user)


def assert_told_in_japanese(run: MaintenanceRun, reader: User) -> None:
    client = Client(headers={"accept-language": "ja"})
    client.force_login(reader)
    for path in ("/", "/databases/shop/", f"/runs/{run.pk}/", f"/runs/{run.pk}/log/"):
        page = client.get(path).content.decode()
        assert '<html lang="ja"' in page, path
        assert sentences(page) == set(), path


def test_why_the_chain_is_broken_is_told_in_japanese(people: dict[str, User]) -> None:
    chain.record("console", "run.ended", "EM-2026-0008")
    AuditEntry.objects.update(object="EM-2026-0009")
    client = Client(headers={"Accept-Language": "ja"})
    client.force_login(people["auditor"])
    page = client.post("/audit/verify/").content.decode()
    assert "は記録後に書き換えられています" in page
    assert "was changed" not in page
