"""Debian's Prometheus, Alertmanager and postgres_exporter with this console: scraped, read from, alerted."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from demo.ports import free_port
from demo.postgresql import ThrowawayPostgreSQL
from tests.acceptance.conftest import PROJECT, Console
from tests.acceptance.preloaded import Preloaded
from tests.engines.conftest import short_folder

PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "prometheus-postgres-exporter")
MISSING = [name for name in PROGRAMS if not shutil.which(name)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
RULES = PROJECT / "deploy" / "prometheus"
DASHBOARD = PROJECT / "deploy" / "grafana" / "dbmaint.json"
PATIENCE = 180
WORLD = """
from datetime import timedelta
from django.contrib.auth.models import Group, User
from django.utils import timezone
from maintenance.api import tokens
from maintenance.models import *
from tests import records
now = timezone.now()
User.objects.create_user("monitoring").groups.add(Group.objects.get(name="Monitoring"))
done = records.finished_run(["shop"], created_at=now)
BackupFile.objects.update(created_at=now)
DatabaseState.objects.update(measured_at=now, size_bytes=1)
wrong = records.empty_run(["shop"], created_at=now, outage_seconds=3, finished_at=now)
target = records.target_of(wrong, "shop", finished_at=now)
records.add_proof(target, ["public.orders"], problems=["public.orders: a row is missing"])
busy = records.empty_run(["shop"], status="running", finished_at=None)
records.target_of(busy, "shop", started_at=now, beat_at=now, outage_started_at=now, finished_at=None)
Worker.objects.create(name="here", seen_at=now + timedelta(hours=1))
plain, _ = tokens.issue(User.objects.get(), "alertmanager", ["alert"], timedelta(days=1), "a test")
print(plain)
"""
"""A maintenance that went well, one whose proof found something, and one in hand."""


@dataclass
class World:
    console: Console
    url: str
    prometheus: str
    postgresql: ThrowawayPostgreSQL

    def shell(self, code: str) -> str:
        done = self.console.run("shell", "--no-imports", "-v0", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """From the control database."""
        connection = sqlite3.connect(self.console.home / "control.sqlite3", timeout=20)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def ask(self, query: str) -> list[dict[str, Any]]:
        """An instant query. Fails with Prometheus' own words."""
        address = f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return list(json.load(answer)["data"]["result"])
        except urllib.error.HTTPError as error:
            pytest.fail(f"{query}: {error.read().decode()}")


def until(found: Callable[[], Any], what: str) -> Any:
    over = time.monotonic() + PATIENCE
    while True:
        try:
            if value := found():
                return value
        except OSError:
            pass
        assert time.monotonic() < over, f"{what} did not come in {PATIENCE} s"
        time.sleep(0.2)


@contextmanager
def running(folder: Path, *command: str, unprivileged: bool = True, **environment: str) -> Iterator[None]:
    """A process of its own with its output in `folder`; as nobody when we are root."""
    log = (folder / f"{Path(command[0]).name}.log").open("ab")
    account: dict[str, Any] = {}
    if unprivileged and os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    process = subprocess.Popen(
        command, cwd=PROJECT, env={**os.environ, **environment}, stdout=log, stderr=log, **account
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == 200)


@pytest.fixture
def world(migrated: Path, preloaded: Preloaded) -> Iterator[World]:
    folder = short_folder()
    with ExitStack() as running_now:
        running_now.callback(shutil.rmtree, folder, True)
        ports = {name: free_port() for name in ("web", "prometheus", "alertmanager", "cluster", "exporter")}
        server = ThrowawayPostgreSQL(folder / "pg")
        server.start()
        running_now.callback(server.stop, "immediate")
        fill(server)
        console = Console(folder / "home", preloaded)
        shutil.copytree(migrated, console.home)
        made = World(console, f"http://127.0.0.1:{ports['web']}", f"http://127.0.0.1:{ports['prometheus']}", server)
        done = console.run("register_target", "shop", server.url("shop"), "--backup-dir", str(console.home / "backups"))
        assert done.returncode == 0, done.stderr
        (folder / "token").write_text(made.shell(WORLD))
        write_configuration(folder, made, ports)
        for place in ("data-prometheus", "data-alertmanager"):
            (folder / place).mkdir()
            (folder / place).chmod(0o777)
        commands: list[tuple[str, ...]] = [
            ("prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{ports['exporter']}"),
            (
                "prometheus-alertmanager",
                f"--config.file={folder}/alertmanager.yml",
                f"--storage.path={folder}/data-alertmanager",
                f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
                f"--cluster.listen-address=127.0.0.1:{ports['cluster']}",
            ),
            (
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data-prometheus",
                f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            ),
        ]
        source = f"postgresql://postgres@127.0.0.1:{server.port}/shop?sslmode=disable"
        serving = (sys.executable, "manage.py", "runserver", f"127.0.0.1:{ports['web']}", "--noreload")
        running_now.enter_context(running(folder, *serving, unprivileged=False, **console.environment()))
        for command in commands:
            running_now.enter_context(running(folder, *command, DATA_SOURCE_NAME=source))
        until(lambda: answers(f"{made.url}/healthz"), "the console")
        until(lambda: answers(f"{made.prometheus}/-/ready"), "Prometheus")
        until(lambda: len(made.ask("up == 1")) == 2, "the first scrape of console and exporter")
        yield made


def fill(server: ThrowawayPostgreSQL) -> None:
    """A database to look at."""
    connection = psycopg2.connect(server.url())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE shop")
    connection.close()


def documented(language: str, beginning: str) -> str:
    """An example of docs/monitoring.md, so that what it says is what is tried."""
    text = (PROJECT / "docs" / "monitoring.md").read_text()
    examples: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return next(example for example in examples if example.startswith(beginning))


def write_configuration(folder: Path, world: World, ports: dict[str, int]) -> None:
    told = documented("json", "{").replace("http://127.0.0.1:9090", world.prometheus)
    told = told.replace(":9187", f":{ports['exporter']}").replace("> 3600", "> 2")
    world.console.configure(**json.loads(told))
    receivers = documented("yaml", "receivers:").replace("https://dbmaint.example.com", world.url)
    (folder / "alertmanager.yml").write_text(
        "route: {receiver: dbmaint, group_wait: 0s, group_interval: 1s, repeat_interval: 1m}\n"
        + receivers.replace("/etc/alertmanager/dbmaint.token", f"{folder}/token")
    )
    shutil.copy(RULES / "dbmaint.rules.yml", folder)
    (folder / "prometheus.yml").write_text(
        f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [dbmaint.rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{ports["alertmanager"]}']}}]}}]}}
scrape_configs:
  - {{job_name: dbmaint, static_configs: [{{targets: ['127.0.0.1:{ports["web"]}']}}]}}
  - {{job_name: postgres, scrape_interval: 3s, static_configs: [{{targets: ['127.0.0.1:{ports["exporter"]}']}}]}}
"""
    )


def test_the_alert_rules_do_what_they_say() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "dbmaint.rules.test.yml"], cwd=RULES, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def an_alert_opens_an_incident_and_its_end_closes_it(world: World) -> None:
    alert = "SELECT database, severity_level, summary FROM incident WHERE alert = 'IntegrityBelow100Percent'"
    [found] = until(lambda: world.rows(alert), "the incident")
    assert found == ("shop", "critical", "The last proof of shop found only 66.67% whole.")
    assert world.rows("SELECT setting_id IS NOT NULL FROM incident WHERE alert = 'MaintenanceFailed'") == [(1,)]
    assert not world.rows("SELECT 1 FROM incident WHERE alert = 'MaintenanceNoWorker'")
    world.shell(
        "from maintenance.models import *; line = StepRecord.objects.filter(node='H').order_by('-id')[0]; "
        "line.result['problems'] = []; line.save()"
    )
    until(lambda: world.rows(f"{alert} AND closed_at IS NOT NULL"), "the end of the incident")


def every_panel_of_the_dashboard_shows_something(world: World) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len(panels) >= 20
    world.shell("from maintenance.observation import prometheus as monitoring; monitoring.pull()")
    until(lambda: world.ask("dbmaint_feed_problems"), "the age of the feed")
    empty = [
        f"{panel['title']}: {target['expr']}"
        for panel in panels
        for target in panel["targets"]
        if not world.ask(target["expr"].replace("$database", ".*"))
    ]
    assert empty == []


def every_metric_of_the_rules_and_the_dashboard_is_documented(world: World) -> None:
    used = set(re.findall(r"\bdbmaint_[a-z_0-9]+", (RULES / "dbmaint.rules.yml").read_text() + DASHBOARD.read_text()))
    used = {re.sub(r"_(sum|count)$", "", name) for name in used}
    text = (PROJECT / "docs" / "monitoring.md").read_text()
    assert {name for name in used if f"`{name}`" not in text} == set()
    with urllib.request.urlopen(f"{world.url}/metrics") as answer:
        told = set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.MULTILINE))
    assert {name for name in told if f"`{name}`" not in text} == set()


def states_are_fetched_as_the_documents_say(world: World) -> None:
    # Somebody forgot to commit; here an hour is two seconds.
    forgotten = psycopg2.connect(world.postgresql.url("shop"))
    forgotten.cursor().execute("SELECT txid_current()")
    until(lambda: world.ask('pg_stat_activity_max_tx_duration{datname="shop"} > 2'), "the exporter's transactions")
    assert world.shell("from maintenance.observation import prometheus as monitoring; print(monitoring.pull())") == "1"
    [(state, connections, allowed, size, findings, error)] = world.rows(
        "SELECT state, connections, max_connections, size_bytes, findings, error FROM tbl_097_database_state "
        "WHERE source = 'monitoring' ORDER BY id DESC LIMIT 1"
    )
    assert (state, allowed, json.loads(error)["template"]) == ("degraded", 60, "")
    assert connections >= 1
    assert size > 1_000_000
    [finding] = json.loads(findings)
    assert (finding["code"], finding["severity"]) == ("long_transaction", "high")
    assert re.search(r"pg_stat_activity_max_tx_duration.* = [0-9.]+$", finding["evidence"])
    forgotten.close()


@pytest.mark.rare
def test_prometheus_alertmanager_and_exporter_work_with_this_console(world: World) -> None:
    """One test, so that their servers are started once however many processes run the tests."""
    an_alert_opens_an_incident_and_its_end_closes_it(world)
    every_panel_of_the_dashboard_shows_something(world)
    every_metric_of_the_rules_and_the_dashboard_is_documented(world)
    states_are_fetched_as_the_documents_say(world)
