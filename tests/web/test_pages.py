"""Pages say what they must, cost the same however much there is, and speak Japanese."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from maintenance.auditing import chain
from maintenance.models import (
    ApiToken,
    AuditEntry,
    DatabaseState,
    MaintenanceRun,
    MaintenanceSetting,
    Status,
    StepRecord,
    Worker,
)
from maintenance.requests import launch
from maintenance.requests.launch import Actor
from maintenance.workflow.lease import this_worker

pytestmark = pytest.mark.django_db
As = Callable[[str], Client]
Register = Callable[..., MaintenanceSetting]
Look = Callable[..., DatabaseState]
Ran = Callable[..., MaintenanceRun]


def text(client: Client, path: str, **headers: str) -> str:
    answer = client.get(path, headers=headers)
    assert answer.status_code in (200, 286), answer.status_code
    return answer.content.decode()


PAGES = (
    "/",
    "/live/",
    "/databases/",
    "/databases/one/",
    "/databases/one/trend.json",
    "/launch/",
    "/runs/{run}/",
    "/runs/{run}/live/",
    "/runs/{run}/log/",
    "/runs/{run}/log/live/",
    "/runs/{run}/log/live/?database=one",
    "/history/",
    "/history/?database=one&text=check&status=succeeded",
    "/reports/",
    "/reports/?database=one&maintenance_type=rebuild&period=2020-02",
    "/account/",
    "/alarm/",
)


@pytest.mark.parametrize("path", [*PAGES, "/audit/"])
def test_a_page_costs_the_same_queries_however_many_rows(
    path: str, as_: As, fake: Register, looked_at: Look, ran: Ran
) -> None:
    one = fake("one")
    looked_at(one)
    run = ran(one)
    ran(fake("stuck"), Status.NEEDS_OPERATOR)
    ran(fake("busy"), Status.RUNNING)
    client = as_("auditor" if path == "/audit/" else "dba")
    path = path.format(run=run.pk)
    text(client, path)
    with CaptureQueriesContext(connection) as few:
        text(client, path)
    for number in range(8):
        other = fake(f"other{number}")
        looked_at(other), looked_at(one)
        ran(other, lines=40), ran(one), ran(other, Status.AWAITING_APPROVAL), ran(other, Status.RUNNING)
        ran(fake(f"stuck{number}"), Status.NEEDS_OPERATOR)
    with CaptureQueriesContext(connection) as many:
        text(client, path)
    assert len(many) == len(few), "\n".join(q["sql"][:160] for q in many.captured_queries)


@pytest.mark.long
def test_no_page_reads_all_run_targets_to_find_those_in_trouble(as_: As, fake: Register, ran: Ran) -> None:
    ran(fake("stuck"), Status.NEEDS_OPERATOR), ran(fake("busy"), Status.RUNNING)
    seed_history()
    client = as_("dba")
    for path in ("/alarm/", "/live/", "/databases/", "/account/"):
        with CaptureQueriesContext(connection) as asked:
            text(client, path)
        statements = [q["sql"] for q in asked.captured_queries if 'FROM "run_target"' in q["sql"]]
        by_status = [sql for sql in statements if '"status"' in sql]
        assert by_status, path
        for sql in by_status:
            assert [step for step in steps_of(sql) if step.startswith("SCAN run_target")] == [], f"{path}: {sql}"


def seed_history() -> None:
    call_command("seed_history", 3000, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def steps_of(sql: str) -> list[str]:
    """Return how SQLite would answer a statement, a line a step."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return [row[3] for row in cursor.fetchall()]


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("path", PAGES)
def test_pages_are_whole_in_both_languages(
    language: str, path: str, as_: As, fake: Register, looked_at: Look, ran: Ran
) -> None:
    setting = fake("one")
    looked_at(setting)
    run = ran(setting, Status.RUNNING)
    page = text(as_("dba"), path.format(run=run.pk), **{"Accept-Language": language})
    if "<html" in page:
        assert f'<html lang="{language}">' in page
    assert not re.search(r'<script(?![^>]*(\ssrc=|type="application/json"))[^>]*>', page), "an inline script"
    assert not re.search(r"<[^>]*\s(style|on\w+)=", page), "an inline style or handler"
    assert not re.search(r'(src|href)="(https?:)?//', page), "something from another host"


def test_the_dashboard_tells_trouble_first(as_: As, fake: Register, looked_at: Look, ran: Ran) -> None:
    looked_at(fake("fine"), "well", health=100, findings=[])
    looked_at(fake("sick"), "critical", health=20)
    ran(fake("busy"), Status.RUNNING)
    page = text(as_("manager"), "/")
    assert "1 database is in trouble, 1 is in maintenance" in page
    assert "busy is in its outage window" in page
    assert page.index(">busy</a>") < page.index(">sick</a>") < page.index(">fine</a>")


def test_a_database_that_needs_an_operator_is_told_on_every_page_until_released(
    as_: As, fake: Register, ran: Ran
) -> None:
    run = ran(fake("shop"), Status.NEEDS_OPERATOR)
    client = as_("manager")
    assert "shop needs an operator." in text(client, "/account/")
    run.targets.update(released_at=timezone.now())
    assert "shop needs an operator." not in text(client, "/account/")


def test_a_run_shows_where_it_is_and_what_it_does(as_: As, fake: Register, ran: Ran) -> None:
    run = ran(fake("shop"), Status.RUNNING)
    page = text(as_("dba"), f"/runs/{run.pk}/")
    assert "Procedure: now at maintain" in page
    assert "REWRITE customers" in page
    assert "waits for 42" in page
    assert f'hx-get="/runs/{run.pk}/live/"' in page
    assert f"/runs/{run.pk}/cancel/" in page
    assert "data-since" in page


@pytest.mark.long
def test_what_was_cancelled_before_it_began_says_so_in_the_readers_language(
    as_: As, fake: Register, ran: Ran, someone: Actor
) -> None:
    run = ran(fake(), Status.QUEUED)
    launch.cancel(someone, run)
    run.refresh_from_db()
    assert "Cancelled by somebody (command line) before it began." in run.ended_because
    page = text(as_("manager"), f"/runs/{run.pk}/", accept_language="ja")
    assert "開始前に somebody（コマンドライン） が取り消しました。" in page
    assert "before it began" not in page


def test_progress_that_the_engine_does_not_tell_is_not_made_up(as_: As, fake: Register, ran: Ran) -> None:
    run = ran(fake("shop"), Status.RUNNING)
    run.targets.get().actions.update(state="started", finished_at=None, bytes_after=None)
    page = text(as_("dba"), f"/runs/{run.pk}/")
    assert "progress: not available from this engine" in page
    assert "<progress" not in page


def test_polling_ends_with_the_run(as_: As, fake: Register, ran: Ran) -> None:
    client = as_("dba")
    running, ended = ran(fake("a"), Status.RUNNING), ran(fake("b"))
    assert client.get(f"/runs/{running.pk}/live/").status_code == 200
    assert client.get(f"/runs/{ended.pk}/live/").status_code == 286
    assert 'hx-get="/runs/' not in text(client, f"/runs/{ended.pk}/")


def test_a_fragment_after_the_session_ended_leads_to_the_login(as_: As) -> None:
    answer = as_("anonymous").get("/live/", headers={"HX-Request": "true"})
    assert answer.headers["HX-Refresh"] == "true"


def test_a_queued_run_without_workers_says_so(as_: As, fake: Register, ran: Ran) -> None:
    run = ran(fake("shop"), Status.QUEUED)
    assert "No worker is alive" in text(as_("dba"), f"/runs/{run.pk}/")


@pytest.mark.parametrize("why", ["silent for a lease", "gave its lease back", "its process is gone"])
@pytest.mark.long
def test_a_lost_worker_is_told_on_the_run_and_on_the_dashboard(
    as_: As, fake: Register, ran: Ran, settings: Any, why: str
) -> None:
    run = ran(fake("shop"), Status.RUNNING)
    client, pages = as_("dba"), (f"/runs/{run.pk}/", f"/runs/{run.pk}/live/", "/", "/live/")
    now = timezone.now()
    well = {"beat_at": now, "lease_until": now + timedelta(seconds=20), "worker": this_worker()}
    run.targets.update(**well)
    for page in pages:
        assert "orker lost" not in text(client, page), page
    wrong: dict[str, dict[str, Any]] = {
        "silent for a lease": {"beat_at": now - timedelta(seconds=settings.LEASE_SECONDS + 1)},
        "gave its lease back": {"lease_until": None},
        "its process is gone": {"worker": f"{this_worker()}0"},
    }
    run.targets.update(**wrong[why])
    for page in pages:
        assert "orker lost" in text(client, page), page
        assert "ワーカー喪失" in text(client, page, **{"Accept-Language": "ja"}), page
    assert "No worker is alive: nobody will take this run over" in text(client, pages[0])
    Worker.objects.create(name="another")
    said = text(client, pages[0])
    assert "No worker is alive" not in said
    assert "Another one takes over by itself within a minute." in said
    run.targets.update(status=Status.NEEDS_OPERATOR, finished_at=now)
    MaintenanceRun.objects.update(status=Status.NEEDS_OPERATOR, finished_at=now)
    assert "orker lost" not in text(client, pages[0])


def test_what_people_write_is_shown_as_text(as_: As, fake: Register, ran: Ran) -> None:
    run = ran(fake("shop"), reason="<script>alert(1)</script>")
    assert "<script>alert" not in text(as_("dba"), f"/runs/{run.pk}/")


# -- the log ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["database=shop", ""])
def test_the_log_is_asked_only_for_what_closed_since(query: str, as_: As, fake: Register, ran: Ran) -> None:
    """The page holds its mark; what the browser has is sent again only where another worker may be in between."""
    run = ran(fake("shop"), Status.RUNNING)
    old = timezone.now() - timedelta(minutes=1)
    StepRecord.objects.update(started_at=old, finished_at=old)
    client, path = as_("dba"), f"/runs/{run.pk}/log/live/?{query}"
    first = client.get(path)
    assert (first.status_code, len(lines_in(first))) == (200, 11)
    again = client.get(f"{path}&after={mark_in(first)}")
    assert len(lines_in(again)) == 11, "within ten seconds of the mark"
    now = timezone.now()
    step = {"target": run.targets.get(), "node": "G", "step": "maintain", "token": 1, "started_at": old}
    StepRecord.objects.create(**step, state="finished", sentence="A late line.", finished_at=now)
    StepRecord.objects.create(**step, part="image", state="started")
    news = client.get(f"{path}&after={mark_in(again)}")
    assert "A late line." in news.content.decode()
    rest = client.get(f"{path}&after={mark_in(news)}")
    assert len(lines_in(rest)) == 1
    assert ("image for a rollback" in rest.content.decode()) is not bool(query), "the run page tells it by its own poll"
    MaintenanceRun.objects.update(status=Status.SUCCEEDED, finished_at=now)
    assert client.get(f"{path}&after={mark_in(rest)}").status_code == 286
    assert client.get(f"{path}&after=nonsense").status_code == 286


def lines_in(answer: Any) -> list[str]:
    return re.findall(r'id="line-(\d+)"', answer.content.decode())


def mark_in(answer: Any) -> str:
    found = re.search(r'name="after" value="(\d+)"', answer.content.decode())
    assert found
    return found[1]


def test_the_log_is_whole_page_by_page(as_: As, fake: Register, ran: Ran) -> None:
    run = ran(fake("shop"), lines=250)
    client = as_("dba")
    pages = [client.get(f"/runs/{run.pk}/log/?page={number}") for number in (1, 2)]
    assert [len(lines_in(page)) for page in pages] == [200, 50]
    assert "hx-get" not in pages[1].content.decode().split("<main")[1], "the run is over"


# -- files ---------------------------------------------------------------------------------------------


def test_files_come_only_from_their_folder(as_: As, fake: Register, ran: Ran, settings: Any, tmp_path: Path) -> None:
    run = ran(fake("shop"))
    client = as_("manager")
    settings.REPORTS_DIR.mkdir(parents=True)
    good, secret = settings.REPORTS_DIR / "EM-1-report.pdf", tmp_path / "secret.pdf"
    good.write_bytes(b"%PDF-1.7"), secret.write_bytes(b"%PDF-secret")
    for path, status in ((good, 200), (secret, 404), (settings.REPORTS_DIR / "../../secret.pdf", 404)):
        MaintenanceRun.objects.filter(pk=run.pk).update(report_pdf=str(path))
        answer = client.get(f"/runs/{run.pk}/report.pdf")
        assert answer.status_code == status, path
        if status == 200:
            assert b"".join(answer.streaming_content) == b"%PDF-1.7"  # type: ignore[attr-defined]


# -- history and audit -----------------------------------------------------------------------------------


def test_history_filters_sorts_and_says_when_nothing_matches(as_: As, fake: Register, ran: Ran) -> None:
    slow = ran(fake("shop"), outage_seconds=900.0)
    quick = ran(fake("billing"), outage_seconds=1.0, reason="ledger is slow", requested_by_name="dba")
    client = as_("manager")
    assert quick.number not in text(client, "/history/?database=shop")
    assert slow.number not in text(client, "/history/?text=LEDGER")
    assert slow.number not in text(client, "/history/?who=dba")
    page = text(client, "/history/?sort=outage")
    assert page.index(quick.number) < page.index(slow.number)
    assert "No maintenance matches" in text(client, "/history/?status=failed")
    assert slow.number in text(client, "/history/?since=not-a-date&sort=nonsense&page=99")


@pytest.mark.long
def test_a_deep_page_of_the_history_does_not_read_what_it_skips(as_: As) -> None:
    seed_history()
    client = as_("manager")
    for order in ("-started", "who", "-who", "type", "severity", "-status", "outage"):
        with CaptureQueriesContext(connection) as asked:
            text(client, f"/history/?sort={order}&page=50")
        [skipping] = [q["sql"] for q in asked.captured_queries if "OFFSET 2450" in q["sql"]]
        assert "reason" not in skipping, f"{order}: only keys are skipped"
        if order != "outage":
            sorting = [step for step in steps_of(skipping) if "TEMP B-TREE" in step]
            assert sorting == [], f"{order}: no sorting, the order is that of an index"


def test_the_longest_outage_comes_first_and_none_last(as_: As, fake: Register, ran: Ran) -> None:
    none, short, long = (ran(fake(f"d{n}"), outage_seconds=n) for n in (None, 1.0, 900.0))
    page = text(as_("manager"), "/history/?sort=-outage")
    assert page.index(long.number) < page.index(short.number) < page.index(none.number)


def test_the_dashboard_tells_how_much_faster_only_of_enough(as_: As, fake: Register, ran: Ran) -> None:
    client = as_("manager")
    assert "not measured yet" in text(client, "/")
    for number, ratio in enumerate((0.5, 0.25, 0.8, 0.5)):
        ran(fake(f"d{number}")).targets.update(ratio=ratio, change="faster")
    page = text(client, "/")
    assert "measured 4 times, too few for a median (from 5)" in page
    assert "50 % faster" in page
    ran(fake("worse")).targets.update(ratio=1.25, change="slower")
    ran(fake("lost"), Status.FAILED).targets.update(ratio=0.01)
    page = text(client, "/")
    assert "<b>50 % faster (" in page
    assert "median of 5" in page
    assert "25 % slower" in page


def test_history_csv_is_the_filtered_list_and_harmless_in_a_spreadsheet(as_: As, fake: Register, ran: Ran) -> None:
    ran(fake("shop"), reason="=HYPERLINK(1)")
    ran(fake("billing"))
    answer = as_("manager").get("/history.csv?database=shop")
    content = b"".join(answer.streaming_content).decode("utf-8-sig")  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(content)))
    assert [(r["databases"], r["reason"]) for r in rows] == [("shop", "'=HYPERLINK(1)")]


def test_the_audit_page_shows_before_and_after_and_finds_a_forgery(as_: As) -> None:
    chain.record("admin1", "setting.changed", "shop", {"jobs": 2, "url": "x"}, {"jobs": 4, "url": "x"})
    client = as_("auditor")
    page = text(client, "/audit/?operation=setting")
    assert "<del>2</del> → <ins>4</ins>" in page
    assert '<dt class="mono">url' not in page
    assert ">Settings changed<" in page
    assert '<option value="run.launched">Maintenance asked for</option>' in page
    client.cookies["django_language"] = "ja"
    page = text(client, "/audit/?operation=setting.changed")
    assert ">設定の変更<" in page
    assert '<option value="setting.changed" selected>設定の変更</option>' in page
    client.cookies["django_language"] = "en"
    assert "The chain is whole" in client.post("/audit/verify/").content.decode()
    AuditEntry.objects.update(actor="somebody else")
    assert "The chain is broken." in client.post("/audit/verify/").content.decode()


def test_the_audit_export_has_a_line_an_entry(as_: As) -> None:
    chain.record("admin1", "setting.changed", "shop", None, {"jobs": 4})
    answer = as_("auditor").get("/audit/export.jsonl")
    lines = b"".join(answer.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert json.loads(lines[-1])["after"] == {"jobs": 4}


# -- databases and the person ------------------------------------------------------------------------------


def test_diagnose_now_is_queued_audited_and_waited_for(
    as_: As, fake: Register, looked_at: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, asked = fake("shop"), []
    monkeypatch.setattr("maintenance.queue.async_task", lambda *args, **kwargs: asked.append(args))
    client = as_("dba")
    answer = client.post("/databases/shop/diagnose/")
    assert asked == [("maintenance.tasks.look", setting.pk)]
    assert AuditEntry.objects.get(operation="database.diagnosis_asked").actor == "dba"
    page = answer.headers["Location"]
    live = page.replace("/shop/?", "/shop/live/?")
    assert "its result appears here" in text(client, page)
    assert client.get(live).status_code == 200
    looked_at(setting)
    assert client.get(live).status_code == 286


def test_the_chart_tells_the_readers_own_time(as_: As, fake: Register, looked_at: Look) -> None:
    looked_at(fake("shop"), measured_at=datetime(2026, 11, 23, 17, 14, 7, tzinfo=UTC))
    client = as_("manager")
    assert client.get("/databases/shop/trend.json").json()["measured_at"] == ["2026-11-24 02:14:07"]
    client.post("/account/preferences/", {"language": "en", "time_zone": "UTC"})
    assert client.get("/databases/shop/trend.json").json()["measured_at"] == ["2026-11-23 17:14:07"]


def test_a_token_is_shown_once_and_kept_as_a_hash(as_: As) -> None:
    client = as_("dba")
    page = client.post(
        "/account/tokens/", {"name": "monitoring", "scopes": ["read"], "days": 30, "password": "dba-password"}
    ).content.decode()
    plain = re.search(r'class="secret">([^<]+)<', page)
    assert plain is not None
    token = ApiToken.objects.get()
    assert plain[1] not in text(client, "/account/")
    assert plain[1] not in json.dumps(list(AuditEntry.objects.values("after")))
    assert len(token.sha256) == 64
    client.post(f"/account/tokens/{token.pk}/revoke/")
    assert not ApiToken.objects.exists()
    assert list(AuditEntry.objects.values_list("operation", flat=True)) == ["token.created", "token.revoked"]


def test_nobody_revokes_the_token_of_another(as_: As, people: dict[str, User]) -> None:
    as_("dba").post(
        "/account/tokens/", {"name": "monitoring", "scopes": ["read"], "days": 30, "password": "dba-password"}
    )
    assert as_("manager").post(f"/account/tokens/{ApiToken.objects.get().pk}/revoke/").status_code == 404


def test_language_and_time_zone_go_with_the_person_to_every_browser(as_: As) -> None:
    as_("manager").post("/account/preferences/", {"language": "ja", "time_zone": "UTC"})
    page = text(as_("manager"), "/account/", **{"Accept-Language": "en"})
    assert '<html lang="ja">' in page
    assert "UTC" in page.split('class="foot"')[1]
    as_("manager").post("/account/language/", {"language": "en"})
    assert '<html lang="en">' in text(as_("manager"), "/account/", **{"Accept-Language": "ja"})


@pytest.mark.long
def test_until_they_choose_it_is_as_the_browser_asks(as_: As) -> None:
    client = as_("manager")
    client.cookies["dbmaint_time_zone"] = "America/Lima"
    assert "America/Lima" in text(client, "/account/", **{"Accept-Language": "ja"}).split('class="foot"')[1]
    client.post("/account/preferences/", {"language": "ja", "time_zone": "UTC"})
    client.post("/account/preferences/", {"language": "", "time_zone": ""})
    page = text(client, "/account/", **{"Accept-Language": "en"})
    assert '<html lang="en">' in page
    assert "America/Lima" in page.split('class="foot"')[1]
    client.cookies["dbmaint_time_zone"] = "Nowhere/At_All"
    assert text(client, "/account/")
    assert client.post("/account/preferences/", {"language": "xx"}).status_code == 400


def test_ready_only_with_a_worker(as_: As) -> None:
    from maintenance import queue

    client = as_("anonymous")
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 503
    queue.alive("here:1")
    assert client.get("/readyz").json() == {"status": "ok", "workers": 1}


def test_the_scopes_offered_are_those_of_the_api() -> None:
    from maintenance.api.callers import Scope
    from maintenance.forms.pages import SCOPES

    assert [name for name, _ in SCOPES] == [scope.value for scope in Scope]
