"""Many databases: found, filtered and counted, on pages that do not grow with them; and from a finding to its work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from maintenance.forms.pages import OFFERED_DATABASES
from maintenance.models import AuditEntry, DatabaseState, MaintenanceRun, MaintenanceSetting, StoredPlan

pytestmark = pytest.mark.django_db
As = Callable[[str], Client]
Register = Callable[..., MaintenanceSetting]
Look = Callable[..., DatabaseState]
Ran = Callable[..., MaintenanceRun]


def text(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code in (200, 286)
    return answer.content.decode()


def many(count: int) -> None:
    """Register so many databases that nobody has looked at."""
    known = MaintenanceSetting.objects.count()
    MaintenanceSetting.objects.bulk_create(
        MaintenanceSetting(name=f"db{n:04d}", url=f"postgresql://dba@db1/db{n:04d}", backup_dir="/backups")
        for n in range(known, known + count)
    )


@pytest.mark.parametrize("path", ["/", "/live/", "/databases/", "/launch/"])
@pytest.mark.long
def test_a_page_stays_as_long_however_many_databases(path: str, as_: As) -> None:
    client = as_("dba")
    many(100)
    few = len(text(client, path))
    many(900)
    assert len(text(client, path)) < few * 1.02


def test_the_dashboard_tells_the_worst_and_how_many_more(as_: As, fake: Register, looked_at: Look) -> None:
    looked_at(fake("sick"), "critical", health=20)
    many(40)
    page = text(as_("manager"), "/")
    assert ">sick</a>" in page
    assert "41 databases" in page
    assert "21 more databases" in page


def test_databases_are_found_by_name_state_and_product_and_the_filter_stays(
    as_: As, fake: Register, looked_at: Look
) -> None:
    looked_at(fake("sick"), "critical", health=20)
    many(120)
    client = as_("manager")
    page = text(client, "/databases/?text=DB00")
    assert "db0099" not in page
    assert "text=DB00&amp;page=2" in page
    assert "db0099" in text(client, "/databases/?text=DB00&page=2")
    assert names(text(client, "/databases/?state=trouble")) == ["sick"]
    assert "sick" not in names(text(client, "/databases/?engine=postgresql"))
    assert len(names(text(client, "/databases/?state=nonsense"))) == 50


def names(page: str) -> list[str]:
    return re.findall(r'<a href="/databases/([^/"]+)/"', page)


def test_databases_beyond_the_list_are_chosen_by_name(as_: As, fake: Register) -> None:
    fake("shop")
    many(OFFERED_DATABASES + 10)
    client = as_("dba")
    asked = {"maintenance_type": "rebuild", "severity_level": "high", "reason": "slow", "tables": ""}
    assert "There is no database nowhere." in client.post("/launch/", {**asked, "others": "nowhere"}).content.decode()
    client.post("/launch/", {**asked, "others": "shop\n"})
    assert StoredPlan.objects.get().request["target_databases"] == ["shop"]


@pytest.mark.long
def test_of_all_databases_their_number_is_typed(as_: As, fake: Register) -> None:
    for number in range(12):
        fake(f"shop{number:02d}")
    client = as_("dba")
    asked = {"maintenance_type": "rebuild", "severity_level": "high", "reason": "slow", "tables": ""}
    client.post("/launch/", {**asked, "all_databases": "on"})
    plan = StoredPlan.objects.get()
    address = f"/launch/plan/{plan.pk}/confirm/"
    page = text(client, address)
    assert "Type how many databases these are" in page
    assert "The plan says the same of 2 more databases." in page
    sent = {"plan": plan.pk, "password": "dba-password"}
    assert "These are 12 databases." in client.post(address, {**sent, "names": "all"}).content.decode()
    assert client.post(address, {**sent, "names": "12"}).status_code == 302
    assert len(MaintenanceRun.objects.get().target_databases) == 12


# -- from a finding to its work --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"), [("damaged_index", "repair"), ("table_bloat", "optimize"), ("long_transaction", "")]
)
def test_a_finding_leads_to_the_plan_that_mends_it(
    code: str, kind: str, as_: As, fake: Register, looked_at: Look
) -> None:
    finding = {"code": code, "severity": "high", "object": "orders", "evidence": "e", "hint": "h"}
    looked_at(fake("shop"), findings=[finding])
    client = as_("dba")
    link = f"/launch/?database=shop&amp;type={kind}"
    page = text(client, "/databases/shop/")
    assert (page.count(link) > 1) is bool(kind)
    assert ("no maintenance: see its cause" in page) is not bool(kind)
    assert link in text(client, "/databases/")
    if kind:
        form = text(client, link.replace("&amp;", "&"))
        assert re.search(rf'value="{kind}"[^>]*checked', form)
    assert "What mends it" not in text(as_("manager"), "/databases/shop/"), "who may not launch"


def test_diagnose_all_asks_for_each_and_is_audited(as_: As, fake: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("maintenance.queue.enqueue_look", asked.append)
    settings = [fake("a"), fake("b")]
    MaintenanceSetting.objects.filter(name="b").update(enabled=False)
    client = as_("dba")
    assert "Diagnose all" in text(client, "/databases/")
    client.post("/diagnose/")
    assert asked == [settings[0].pk]
    assert AuditEntry.objects.get(operation="database.diagnosis_asked").after == {"databases": 1}


def test_each_state_says_how_old_it_is_and_where_it_comes_from(as_: As, fake: Register, looked_at: Look) -> None:
    looked_at(fake("shop"), source="monitoring")
    for path in ("/databases/", "/databases/shop/", "/"):
        assert re.search(r"monitoring\s*,\s*<time", text(as_("manager"), path)), path


# -- health before and after -----------------------------------------------------------------------------


def ended(setting: MaintenanceSetting, ran: Ran, looked_at: Look, after: int, **values: Any) -> MaintenanceRun:
    run = ran(setting)
    target = run.targets.get()
    looked_at(setting, target=target, source="diagnosis", health=79)
    looked_at(setting, target=target, source="after", health=after, **values)
    return run


def test_success_is_not_plain_green_when_health_fell(as_: As, fake: Register, ran: Ran, looked_at: Look) -> None:
    new = {"code": "damaged_index", "severity": "high", "object": "orders_pkey", "evidence": "out of order", "hint": ""}
    run = ended(fake("shop"), ran, looked_at, 39, findings=[new])
    page = text(as_("dba"), f"/runs/{run.pk}/")
    said = page.split('id="says"')[1].split('id="flow"')[0]
    assert 'class="notice warning"' in said
    assert 'class="notice success"' not in said
    assert "Health 79 → 39 of 100." in said
    assert "It is worse than before." in said
    assert "orders_pkey" in said


def test_success_with_better_health_is_green_and_says_both(as_: As, fake: Register, ran: Ran, looked_at: Look) -> None:
    run = ended(fake("shop"), ran, looked_at, 98, findings=[])
    said = text(as_("dba"), f"/runs/{run.pk}/").split('id="says"')[1].split('id="flow"')[0]
    assert 'class="notice success"' in said
    assert "Health 79 → 98 of 100." in said
    assert "worse" not in said


# -- without scripts, and on a slow line -----------------------------------------------------------------


def test_without_scripts_what_is_live_loads_itself_again(as_: As, fake: Register, ran: Ran) -> None:
    running, over = ran(fake("busy"), "running"), ran(fake("calm"))
    client = as_("dba")
    reload = re.compile(r'<noscript>\s*<meta http-equiv="refresh"')
    assert reload.search(text(client, f"/runs/{running.pk}/"))
    assert reload.search(text(client, "/"))
    assert not reload.search(text(client, f"/runs/{over.pk}/"))


def test_no_page_loads_the_library_of_charts_before_one_is_seen(
    as_: As, fake: Register, ran: Ran, looked_at: Look
) -> None:
    setting = fake("shop")
    looked_at(setting), looked_at(setting)
    run = ran(setting, "running")
    for path in (f"/runs/{run.pk}/", "/databases/shop/", "/reports/"):
        page = text(as_("dba"), path)
        assert not re.search(r'src="[^"]*plotly', page), path
        assert re.search(r'data-library="[^"]*plotly', page), path
