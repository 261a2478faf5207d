"""Two tabs, a slow hand, the back button: a button starts what its page shows, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from .conftest import PASSWORD, Console

Visit = Callable[..., Page]
LONG = 90_000
"""Milliseconds for a plan or a maintenance of the demo database on a busy machine."""


@pytest.fixture
def waiting(console: Console) -> None:
    """Whatever is started waits for a second person, so that it harms nothing and lasts."""
    console.database("tabs", approval_severities='["high"]')


def plan(page: Page, console: Console, kind: str, reason: str) -> None:
    """From the first screen to the confirmation."""
    page.goto(f"{console.url}/launch/?database=tabs")
    page.check(f"input[value={kind}]")
    page.check("input[value=high]")
    page.fill("#id_reason", reason)
    page.click("form.form button.primary")
    page.click("a.primary", timeout=LONG)
    expect(page.locator("#id_names")).to_be_visible()


def press(page: Page) -> None:
    page.fill("#id_names", "tabs")
    page.fill("#id_password", PASSWORD)
    page.click("form.form button.danger")


def test_each_tab_starts_its_own_plan_and_the_back_button_starts_nothing(
    waiting: None, visit: Visit, console: Console
) -> None:
    first = visit("dba")
    second = first.context.new_page()
    plan(first, console, "optimize", "planned in tab A")
    plan(second, console, "rebuild", "planned in tab B")
    press(first)
    expect(first).to_have_url(re.compile(r"/runs/\d+/$"))
    expect(first.locator("h1")).to_contain_text("Optimization of tabs")
    expect(first.locator("main")).to_contain_text("planned in tab A")
    started = first.url

    press(second)
    expect(second.locator(".notice.error:visible")).to_contain_text("holds the lock")

    first.go_back()
    expect(first).to_have_url(started)
    expect(first.locator(".notice:has-text('was started already')")).to_be_visible()

    first.click("a:has-text('Cancel…')")
    first.click("button.danger")
    expect(first.locator(".state").first).to_contain_text("cancelled", timeout=LONG)
    second.goto(second.url)
    press(second)
    expect(second.locator("main")).to_contain_text("planned in tab B")
    expect(second.locator("h1")).to_contain_text("Rebuild of tabs")
    second.click("a:has-text('Cancel…')")
    second.click("button.danger")
    expect(second.locator(".state").first).to_contain_text("cancelled", timeout=LONG)


def test_settings_that_change_under_an_open_confirmation_start_nothing(
    waiting: None, visit: Visit, console: Console
) -> None:
    page = visit("dba")
    plan(page, console, "rebuild", "before the settings changed")
    shown = page.url
    console.database("tabs", approval_severities='["high"]', bloat_share=0.5)
    press(page)
    expect(page.locator(".notice:has-text('the settings of tabs changed')")).to_be_visible(timeout=LONG)
    assert page.url != shown
    page.goto(f"{console.url}/history/?database=tabs&text=before+the+settings+changed")
    expect(page.locator("main")).to_contain_text("No maintenance matches these filters.")
