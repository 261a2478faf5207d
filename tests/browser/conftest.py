"""A console as people have it: a web server, a worker, demo databases, and Debian's Chromium."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect, sync_playwright

from demo.ports import free_port
from demo.sqlite import build
from tests.acceptance.preloaded import Preloaded

ROOT = Path(__file__).resolve().parents[2]
ARTEFACTS = ROOT / "tests" / "artefacts"
AXE = "4.10.3"
PASSWORD = "look-at-it-905"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PREPARE = f"""
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("seed_history", "60", verbosity=0)
from django.contrib.auth.models import Group, User
groups = {{"dba": "DBA", "manager": "Management", "administrator": "Maintenance administrators", "auditor": "Auditors"}}
for name, group in groups.items():
    User.objects.create_user(name, password="{PASSWORD}").groups.add(Group.objects.get(name=group))
"""


@dataclass
class Console:
    """Where it is reached, and where its databases lie."""

    url: str
    folder: Path
    environment: dict[str, str]
    preloaded: Preloaded
    sessions: dict[str, StorageState] = field(default_factory=dict)
    """Of those who have logged in, so that not every test has to."""

    def manage(self, *words: str) -> str:
        done = self.preloaded.run(words, self.environment, 600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def newest_state(self, database: str) -> int:
        """The number of what was found out about it last."""
        of = "SELECT max(s.id) FROM tbl_097_database_state s JOIN tbl_098_maintenance_setting m ON m.id = s.setting_id"
        with closing(sqlite3.connect(self.folder / "home" / "control.sqlite3", timeout=30)) as control:
            [(newest,)] = control.execute(f"{of} WHERE m.name = ?", (database,))
        return int(newest)

    def database(self, name: str, **settings: object) -> None:
        """A sick demo database, made anew, and registered."""
        path = build(self.folder / f"{name}.db")
        fixed = {"stage_wait_seconds": 1, "load_seconds": 1, "watch_minutes": 0, **settings}
        words = [word for key, value in fixed.items() for word in ("--set", f"{key}={value}")]
        self.manage("register_target", name, f"sqlite:///{path}", *words)


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    port = free_port()
    environment = {
        **os.environ,
        "DBMAINT_HOME": str(folder / "home"),
        "DBMAINT_CONFIG": str(folder / "config.json"),
        "DBMAINT_INSECURE": "1",
        "DBMAINT_DEBUG": "1",
        "DBMAINT_WORKERS": "1",
        "DJANGO_SETTINGS_MODULE": "dbmaint_site.settings",
    }
    found = Console(f"http://127.0.0.1:{port}", folder, environment, preloaded)
    found.manage("shell", "--verbosity=0", "--no-imports", "--command", PREPARE)
    for name in ("shop", "billing"):
        found.database(name)
        found.manage("diagnose", name)
    commands = [["runserver", f"127.0.0.1:{port}", "--noreload"], ["work"]]
    processes = [
        subprocess.Popen([sys.executable, "manage.py", *words], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        for words in commands
    ]
    try:
        wait_for(f"{found.url}/readyz")
        yield found
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def wait_for(url: str) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=30_000)  # Usually five seconds, too few for a machine that has more to do.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(console: Console, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A page of somebody who has logged in; what goes wrong in the browser fails the test."""
    opened: list[BrowserContext] = []
    wrong: list[str] = []

    def open_page(
        who: str = "dba",
        width: int = 1280,
        theme: str = "light",
        language: str = "en",
        examined: bool = False,
        anew: bool = False,
    ) -> Page:
        """`examined`: axe-core sets styles of its own in the page, which the policy would refuse. `anew`: logs in."""
        session = None if anew else console.sessions.get(who)
        context = chromium.new_context(
            storage_state=session,
            bypass_csp=examined,
            viewport={"width": width, "height": 900},
            color_scheme=theme,  # type: ignore[arg-type]
            locale={"en": "en-US", "ja": "ja-JP"}[language],
        )
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda m: wrong.append(f"{page.url}: {m.text}") if "Content Security Policy" in m.text else None,
        )
        page.on(
            "request", lambda r: None if r.url.startswith((console.url, "data:")) else wrong.append(f"asks {r.url}")
        )
        if session is not None:
            page.goto(f"{console.url}/")
            return page
        page.goto(f"{console.url}/accounts/login/")
        page.fill("#id_username", who)
        page.fill("#id_password", PASSWORD)
        page.click("main button")
        if not anew:
            page.wait_for_selector("nav")
            console.sessions[who] = context.storage_state()
        return page

    yield open_page
    for context in opened:
        context.close()
    assert wrong == []


@pytest.fixture(scope="session")
def axe() -> Path:
    """axe-core from npm, fetched once into the ignored folder of artefacts."""
    script = ARTEFACTS / "axe" / "node_modules" / "axe-core" / "axe.min.js"
    ARTEFACTS.mkdir(exist_ok=True)
    with open(ARTEFACTS / "axe.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # The processes that run the tests share the folder.
        if not script.exists():
            words = ("install", "--silent", "--no-audit", "--no-fund", "--prefix", str(ARTEFACTS / "axe"))
            subprocess.run(["npm", *words, f"axe-core@{AXE}"], check=True)
    return script


def keep(page: Page, name: str) -> None:
    """A picture for people to look at; not in git."""
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)
