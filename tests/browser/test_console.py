"""What a DBA and a manager do with the console, in a real browser."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from pypdf import PdfReader

from .conftest import PASSWORD, Console, keep

Visit = Callable[..., Page]
PAGES = {
    "dba": (
        "/",
        "/databases/",
        "/databases/billing/",
        "/launch/?database=billing",
        "/history/",
        "/reports/",
        "/account/",
        "/accounts/password/",
        "/runs/1/",
        "/runs/1/log/",
    ),
    "auditor": ("/audit/",),
    "administrator": ("/admin/", "/admin/maintenance/maintenancesetting/1/change/"),
}
LONG = 90_000
"""Milliseconds for a maintenance of the demo database on a busy machine."""


def plan(page: Page, console: Console, database: str) -> None:
    """From the first screen to the plan."""
    page.goto(f"{console.url}/launch/?database={database}")
    page.check("input[value=rebuild]")
    page.check("input[value=high]")
    page.fill("#id_reason", "visits page times out")
    page.click("form.form button.primary")


def confirm(page: Page, name: str, password: str = PASSWORD) -> None:
    page.fill("#id_names", name)
    page.fill("#id_password", password)
    page.click("form.form button.danger")


WIDEST = """[...document.querySelectorAll("main *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth && !e.closest("svg"))
  .slice(0, 3).map((e) => e.outerHTML.slice(0, 160)).join(" ¦ ")"""


def violations(page: Page, axe: Path) -> list[tuple[str, str]]:
    """What axe-core says against the page as it stands."""
    page.evaluate(axe.read_text())  # a script tag would be refused by the content security policy
    return [(v["id"], v["nodes"][0]["html"][:120]) for v in page.evaluate("axe.run()")["violations"]]


def squeezed(paper: bytes | str) -> str:
    """Without spaces, because a line may break anywhere."""
    text = paper if isinstance(paper, str) else "".join(p.extract_text() for p in PdfReader(io.BytesIO(paper)).pages)
    return re.sub(r"\s+", "", text)


@pytest.mark.every(2)
@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_dba_launches_watches_and_gets_the_files(language: str, visit: Visit, console: Console, axe: Path) -> None:
    console.database("shop", load_seconds=3)
    page = visit("dba", language=language, theme={"en": "light", "ja": "dark"}[language])
    plan(page, console, "shop")
    expect(page.locator("table").first).to_contain_text("visits", timeout=LONG)
    keep(page, f"plan-{language}")
    assert violations(page, axe) == []
    page.click("a.primary")
    expect(page.locator("#id_names")).to_be_visible()
    assert violations(page, axe) == []
    confirm(page, "shop")
    expect(page).to_have_url(re.compile(r"/runs/\d+/$"))
    expect(page.locator("svg.flow .now")).to_have_count(1, timeout=LONG)
    expect(page.locator("#clocks [data-since]")).to_be_visible(timeout=LONG)
    keep(page, f"run-live-{language}")
    assert violations(page, axe) == []
    page.evaluate("window.oldest = document.querySelector('#lines li:last-child')")
    expect(page.locator("#says .notice.success")).to_be_visible(timeout=LONG)
    expect(page.locator("#after table").first).to_be_visible()
    expect(page.locator("#lines li").first).to_contain_text("100", timeout=LONG)
    ids = page.eval_on_selector_all("#lines li", "lines => lines.map(line => line.id)")
    assert len(set(ids)) == len(ids), "each line once"
    assert page.evaluate("window.oldest.isConnected"), "a log that grows leaves what stands there"
    expect(page.locator("svg.flow .now")).to_have_count(0)
    for figure in ("queries", "sizes", "steps", "latency"):
        page.locator(f"[data-figure=figure-{figure}]").scroll_into_view_if_needed()
        expect(page.locator(f"[data-figure=figure-{figure}] .main-svg").first).to_be_visible(timeout=LONG)
    keep(page, f"run-ended-{language}")
    assert violations(page, axe) == []
    page.emulate_media(media="print")
    asked_at = page.locator("main time.ago").first
    assert "(20" not in asked_at.inner_text()
    assert asked_at.evaluate("(e) => getComputedStyle(e, '::after').content").startswith('" (20')
    page.emulate_media(media="null")
    paper = squeezed(page.pdf())
    assert squeezed({"en": "Before and after", "ja": "前後の比較"}[language]) in paper
    assert "visits" in paper
    assert squeezed({"en": "Log out", "ja": "ログアウト"}[language]) not in paper
    for selector, ending in (
        ('a[href$="report.pdf"]', "-report.pdf"),
        ('a[href$="performance.csv"]', "-performance.csv"),
    ):
        with page.expect_download() as download:
            page.click(selector)
        assert download.value.suggested_filename.endswith(ending)
        assert Path(download.value.path()).stat().st_size > 100


def test_polling_ends_with_the_run(visit: Visit, console: Console) -> None:
    page = visit("manager")
    page.goto(f"{console.url}/runs/1/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)
    assert [url for url in asked if "/live/" in url] == []


def test_refused_with_the_wrong_name_or_password(visit: Visit, console: Console) -> None:
    page = visit("dba")
    page.goto(f"{console.url}/launch/")
    page.click("form.form button.primary")
    expect(page.locator(".errorlist")).to_have_count(4)
    plan(page, console, "billing")
    page.click("a.primary")
    confirm(page, "bill", "guess")
    expect(page.locator(".errorlist")).to_have_count(2)
    keep(page, "confirm-refused")


def test_everything_goes_by_keyboard(visit: Visit, console: Console) -> None:
    page = visit("dba")
    page.goto(f"{console.url}/launch/")

    def reach(selector: str) -> None:
        for _ in range(40):
            if page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"no way to {selector} by Tab")

    reach(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for name, key in (("maintenance_type", "ArrowRight"), ("databases", "Space"), ("severity_level", "ArrowRight")):
        reach(f"input[name={name}]")
        page.keyboard.press(key)
    reach("#id_reason")
    page.keyboard.type("visits page times out")
    reach("form.form button.primary")
    page.keyboard.press("Enter")
    expect(page.locator("a.primary")).to_be_visible(timeout=LONG)
    reach("a.primary")
    page.keyboard.press("Enter")
    expect(page.locator("#id_names")).to_be_visible(timeout=LONG)
    reach("#id_names")
    page.keyboard.type("nothing")
    reach("#id_password")
    page.keyboard.type("guess")
    page.keyboard.press("Enter")
    expect(page.locator(".errorlist")).to_have_count(2)


def test_a_manager_finds_no_way_to_launch(visit: Visit, console: Console) -> None:
    page = visit("manager")
    expect(page.locator('a[href^="/launch/"]')).to_have_count(0)
    answer = page.goto(f"{console.url}/launch/")
    assert answer is not None
    assert answer.status == 403
    keep(page, "forbidden")


def test_cancel_brings_service_back(visit: Visit, console: Console) -> None:
    console.database("billing", load_seconds=20)
    page = visit("dba", width=390)
    plan(page, console, "billing")
    page.click("a.primary")
    confirm(page, "billing")
    expect(page.locator("#clocks [data-since]")).to_be_visible(timeout=LONG)
    page.locator("#doing a.danger").focus()
    page.evaluate("window.scrollTo(0, 120)")
    for _ in range(2):
        page.wait_for_event("response", lambda answer: "/live/" in answer.url)
    assert page.evaluate("[document.activeElement.matches('#doing a.danger'), window.scrollY]") == [True, 120]
    page.keyboard.press("Enter")
    page.click("form button.danger")
    expect(page.locator("#says .notice").first).to_be_visible()
    keep(page, "cancelling-390")
    expect(page.locator("#clocks .clock.calm")).to_be_visible(timeout=LONG)
    expect(page.locator('#doing a[href*="repeat"]')).to_be_visible(timeout=LONG)


def test_diagnose_now_brings_its_result_to_the_page(visit: Visit, console: Console) -> None:
    page = visit("dba")
    page.goto(f"{console.url}/databases/billing/")
    before, waiting = console.newest_state("billing"), page.locator("#waiting .notice")
    page.click("form[action$='diagnose/'] button")
    page.wait_for_url(re.compile(f"after={before}&"))
    expect(waiting).to_have_count(0, timeout=LONG)
    # The worker may have been quicker than the page. The same page before any worker has been asked:
    newest = console.newest_state("billing")
    assert newest > before
    page.goto(f"{console.url}/databases/billing/?after={newest}&since={time.time():.0f}")
    expect(waiting).to_be_visible()
    console.manage("diagnose", "billing")
    expect(waiting).to_have_count(0, timeout=LONG)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_chart_of_a_database_opens(theme: str, visit: Visit, console: Console) -> None:
    console.manage("diagnose", "shop")
    console.manage("diagnose", "shop")
    page = visit("manager", theme=theme)
    page.goto(f"{console.url}/databases/shop/")
    page.locator(".chart").first.scroll_into_view_if_needed()
    expect(page.locator(".chart .main-svg").first).to_be_visible(timeout=LONG)
    expect(page.locator(".chart .scatterlayer .trace").nth(2)).to_be_attached()
    keep(page, f"chart-{theme}")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_trend_of_the_management_section_is_drawn(theme: str, visit: Visit, console: Console) -> None:
    page = visit("manager", theme=theme)
    page.click("nav a[href='/reports/']")
    page.locator("[data-figure=trend]").scroll_into_view_if_needed()
    expect(page.locator("[data-figure=trend] .main-svg").first).to_be_visible(timeout=LONG)
    expect(page.locator("[data-figure=trend] .bars .point").first).to_be_attached()
    keep(page, f"reports-trend-{theme}")


def test_on_a_telephone_a_legend_stands_above_its_chart_and_the_menu_fits(visit: Visit, console: Console) -> None:
    page = visit("manager", width=390, theme="dark")
    page.goto(f"{console.url}/reports/")
    chart = page.locator("[data-figure=trend]")
    chart.scroll_into_view_if_needed()
    expect(chart.locator(".legend .traces")).to_have_count(3, timeout=LONG)
    legend, plot = chart.locator(".legend").bounding_box(), chart.locator(".nsewdrag").first.bounding_box()
    assert legend is not None
    assert plot is not None
    assert legend["y"] + legend["height"] <= plot["y"]
    assert page.evaluate("(nav => nav.scrollWidth <= nav.clientWidth)(document.querySelector('nav'))")
    keep(page, "reports-trend-390")


def test_nothing_jumps_when_a_fragment_comes(visit: Visit, console: Console) -> None:
    """Focus, selection and scroll stay; so does every part that did not change."""
    page = visit("dba", width=390)
    page.evaluate(
        "document.querySelector('#standings a').focus(); window.kept = document.querySelector('#standings table')"
    )
    page.evaluate("window.scrollTo(0, 200)")
    with page.expect_response(re.compile(r"/live/$"), timeout=15_000):
        pass
    page.wait_for_timeout(200)
    assert page.evaluate("window.scrollY") == 200
    assert page.evaluate("document.activeElement.closest('#standings') !== null")
    # A part that does differ comes anew; what was in focus is so still.
    page.evaluate("document.querySelector('#standings').insertAdjacentHTML('beforeend', '<details>now old</details>')")
    wanted = page.evaluate("document.activeElement.getAttribute('href')")
    with page.expect_response(re.compile(r"/live/$"), timeout=15_000):
        pass
    expect(page.locator("#standings details")).to_have_count(0)
    assert page.evaluate("document.activeElement.getAttribute('href')") == wanted
    assert page.evaluate("window.scrollY") == 200


@pytest.mark.every(3)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_are_accessible_and_fit(width: int, theme: str, visit: Visit, console: Console, axe: Path) -> None:
    found = []
    for who, paths in PAGES.items():
        page = visit(who, width=width, theme=theme, examined=True)
        for path in paths:
            page.goto(console.url + path)
            found += [(path, *violation) for violation in violations(page, axe)]
            if not path.startswith("/admin/") and page.evaluate("document.documentElement.scrollWidth") > width:
                found.append((path, "wider than the screen", page.evaluate(WIDEST)))
            keep(page, f"{path.strip('/').split('?')[0].replace('/', '-') or 'dashboard'}-{width}-{theme}")
    assert found == []


def test_it_works_without_javascript(chromium: object, console: Console) -> None:
    from playwright.sync_api import Browser

    assert isinstance(chromium, Browser)
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{console.url}/accounts/login/")
    page.fill("#id_username", "dba")
    page.fill("#id_password", PASSWORD)
    page.click("main button")
    expect(page.locator("h1")).to_be_visible()
    plan(page, console, "billing")
    page.click("a.primary")
    confirm(page, "wrong")
    expect(page.locator(".errorlist")).to_have_count(1)
    confirm(page, "billing")
    expect(page).to_have_url(re.compile(r"/runs/\d+/$"))
    until = time.monotonic() + LONG / 1000
    while page.locator("#says .notice.success").count() == 0:
        assert time.monotonic() < until, page.locator("main").inner_text()
        page.wait_for_timeout(500)
        page.reload()
    assert page.locator("#lines li").count() > 5
    page.click("a[href$='/log/']")
    expect(page.locator("#lines tr").first).to_be_visible()
    context.close()
