"""The content security policy in a real browser: no page tries anything that it forbids."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django_otp.oath import TOTP
from playwright.sync_api import Browser, Page, expect

from .conftest import PASSWORD, Console, keep

Visit = Callable[..., Page]
PAGES = {
    "dba": (
        *("/", "/databases/", "/databases/shop/", "/launch/", "/history/", "/runs/1/", "/account/", "/api/v1/docs"),
        *("/account/second-factor/enrol/", "/accounts/password/"),
    ),
    "auditor": ("/audit/",),
    "manager": ("/launch/",),
    "administrator": (
        *("/admin/", "/admin/maintenance/maintenancesetting/", "/admin/maintenance/maintenancesetting/1/change/"),
        *("/admin/maintenance/maintenancesetting/add/", "/admin/maintenance/maintenancesetting/1/delete/"),
    ),
}


@pytest.mark.parametrize("who", PAGES)
def test_no_page_does_what_the_policy_forbids(who: str, visit: Visit, console: Console) -> None:
    """What a browser refuses it tells on its console, and `visit` fails on that."""
    page = visit(who)
    for path in PAGES[who]:
        answer = page.goto(console.url + path)
        assert answer is not None
        assert "default-src 'none'" in answer.headers["content-security-policy"], path
        page.wait_for_timeout(100)


def test_the_policy_is_in_force(chromium: Browser, console: Console) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{console.url}/accounts/login/")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=/x onerror=\"window.broken = 1\">')")
    page.evaluate("s = document.createElement('script'); s.textContent = 'window.broken = 1'; document.body.append(s)")
    page.wait_for_timeout(300)
    assert page.evaluate("window.broken === undefined")
    context.close()


def test_the_page_of_the_api_works_under_it(visit: Visit, console: Console) -> None:
    page = visit("dba")
    page.goto(f"{console.url}/api/v1/docs")
    expect(page.locator(".opblock").first).to_be_visible(timeout=20_000)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_second_factor_is_set_up_and_asked_for(language: str, visit: Visit, console: Console, axe: Path) -> None:
    page = visit("manager", language=language, width=390, anew=True)
    page.goto(f"{console.url}/account/second-factor/enrol/")
    expect(page.locator(".qr svg")).to_be_visible()
    page.evaluate(axe.read_text())
    assert page.evaluate("axe.run()")["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, f"second-factor-{language}")
    clock = TOTP(base64.b32decode(page.locator(".secret").inner_text()))
    clock.time = time.time()
    page.fill("#id_code", f"{clock.token():06d}")
    page.fill("#id_password", PASSWORD)
    page.click("form.form button.primary")
    code = page.locator(".codes li").first.inner_text()
    page.evaluate(axe.read_text())
    assert page.evaluate("axe.run()")["violations"] == []
    again = visit("manager", language=language, width=390, anew=True)
    expect(again.locator("#id_code")).to_be_visible()
    again.evaluate(axe.read_text())
    assert again.evaluate("axe.run()")["violations"] == []
    again.fill("#id_code", code)
    again.click("form.form button.primary")
    expect(again.locator("nav")).to_be_visible()
    again.goto(f"{console.url}/account/")
    again.fill("#id_factor_password", PASSWORD)
    again.click("button[formaction$='remove/']")
    expect(again.locator(".notice.success")).to_be_visible()
