"""Month and quarter at a glance: right numbers, added up by the database, the same on page, PDF and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pypdf import PdfReader

from maintenance.models import (
    ActionRecord,
    Approval,
    DatabaseState,
    MaintenanceRun,
    MaintenanceSetting,
    RunTarget,
    Status,
    StepState,
)
from maintenance.results.statistics import Asked, glance
from maintenance.text.dates import Month, Period, month_of, period_of
from reports import management
from tests import records

pytestmark = pytest.mark.django_db
As = Callable[[str], Client]
NOVEMBER = Period(Month(2026, 11), 1)


def at(text: str) -> datetime:
    """Local time of the installation."""
    return timezone.make_aware(datetime.fromisoformat(text))


def ended(when: str, status: str = Status.SUCCEEDED, database: str = "shop", **changes: Any) -> MaintenanceRun:
    figures = {name: changes.pop(name, None) for name in ("ratio", "ratio_low", "ratio_high", "bytes_won")}
    ratio, change = figures["ratio"], changes.pop("change", None)
    figures["change"] = change or ("" if ratio is None else "faster" if ratio < 1 else "no_change")
    values: dict[str, Any] = {"outage_seconds": 60.0, "duration_seconds": 600.0, "created_at": at(when), **changes}
    run = records.empty_run((database,), status=status, **values)
    RunTarget.objects.create(
        run=run, database=database, engine="sqlite", status=status, out_seconds=values["outage_seconds"], **figures
    )
    return run


@pytest.fixture
def autumn() -> None:
    ended("2026-11-01T00:00", ratio=0.4, bytes_won=1_000_000)
    ended("2026-11-30T23:59", ratio=1.0, bytes_won=500_000)
    ended("2026-11-15T12:00", Status.FAILED, "crm", outage_seconds=3600.0, duration_seconds=12_000.0)
    ended("2026-11-16T12:00", Status.CANCELLED, outage_seconds=None, duration_seconds=None)
    ended("2026-11-17T12:00", Status.RUNNING, finished_at=None)
    ended("2026-10-31T23:59", ratio=0.8, maintenance_type="repair")
    ended("2026-12-01T00:00", Status.ROLLED_BACK)
    ended("2025-11-30T23:59")


@pytest.mark.usefixtures("autumn")
def test_the_numbers_of_a_month_and_of_its_quarter() -> None:
    found = glance(NOVEMBER, Asked())
    month, quarter = found.period, found.around
    assert quarter is not None
    assert month.endings == {"succeeded": 2, "failed": 1, "cancelled": 1}
    assert (month.runs, month.counted, month.success, month.missed) == (4, 3, 2 / 3, True)
    assert (month.outage, month.longest_outage) == (3720.0, 3600.0)
    assert (month.average, month.longest, month.over_limit) == (4400.0, 12_000.0, 1)
    assert (month.won, month.won_known) == (1_500_000, 2)
    assert month.groups == {"much_faster": 1, "faster": 0, "alike": 1, "slower": 0, "unmeasured": 0}
    assert (found.before.runs, quarter.runs, quarter.endings["rolled_back"]) == (1, 6, 1)
    assert [(m.name, m.runs) for m in found.trend if m.runs] == [("2026-10", 1), ("2026-11", 4)]
    assert [(t.database, t.runs, t.bad, t.outage) for t in found.troubled] == [
        ("crm", 1, 1, 3600.0),
        ("shop", 5, 1, 300.0),
    ]


@pytest.mark.usefixtures("autumn")
@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        (Asked(database="crm"), 1),
        (Asked(maintenance_type="repair"), 0),
        (Asked(severity_level="medium"), 0),
        (Asked("shop", "rebuild", "high"), 3),
    ],
)
def test_filters_narrow_every_number(asked: Asked, runs: int) -> None:
    assert glance(NOVEMBER, asked).period.runs == runs


def test_months_go_round_the_year() -> None:
    assert [str(Month(2026, 11) + n) for n in (-11, 0, 1, 2)] == ["2025-12", "2026-11", "2026-12", "2027-01"]
    february = Period(Month(2026, 2), 1)
    assert [str(m) for m in february.around.each] == ["2026-01", "2026-02", "2026-03"]
    assert [p.name for p in (february, february.around, february.around.around)] == ["2026-02", "2026 Q1", "2026"]
    assert [period_of(str(p)) for p in (february, february.around)] == [february, february.around]
    assert [period_of(x) for x in ("", "2026-Q5", "2026-13", "x", "0001", "9999-Q4")] == [None] * 6
    assert month_of("2026-02") == Month(2026, 2)
    assert [month_of(x) for x in ("", "2026-13", "2026-2", "x")] == [None] * 4


def test_a_share_just_below_what_is_wanted_is_not_rounded_up_to_it() -> None:
    assert management.percent(0.94999) == "94.9 %"
    assert management.percent(0.95) == "95.0 %"


def test_runs_are_added_up_by_the_database_and_never_read(as_: As) -> None:
    MaintenanceRun.objects.bulk_create(
        MaintenanceRun(
            maintenance_type="repair",
            target_databases=["shop"],
            severity_level="high",
            reason="",
            status="succeeded",
            created_at=at("2026-11-15T12:00"),
        )
        for _ in range(300)
    )
    with CaptureQueriesContext(connection) as asked:
        found = glance(NOVEMBER, Asked())
    assert found.period.runs == 300
    assert len(asked) == 6
    for query in asked.captured_queries:
        assert "GROUP BY" in query["sql"] or "losses" in query["sql"]
        assert '"reason"' not in query["sql"]
    plans = [plan for query in asked.captured_queries for plan in explained(query["sql"])]
    assert not [plan for plan in plans if plan.startswith("SCAN")], "reads every run there ever was"


def explained(sql: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + sql.replace("%", "%%"), ())
        return [row[3] for row in cursor.fetchall()]


@pytest.mark.usefixtures("autumn")
@pytest.mark.long
def test_page_pdf_and_csv_tell_the_same(as_: As) -> None:
    client = as_("manager")
    page = client.get("/reports/?period=2026-11").content.decode()
    assert "4 maintenances in 2026-11: 66.6 % succeeded, less than the 95 % wanted; 1 h 02 min of outage." in page
    made = client.get("/reports/maintenance.pdf?period=2026-11").content
    text = squeezed("".join(p.extract_text() for p in PdfReader(io.BytesIO(made)).pages))
    page = re.sub(r'<span[^>]*aria-hidden="true">[^<]*</span>', "", page)
    cells = [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[dh][ >].*?</t[dh]>", page, re.DOTALL)]
    missing = [cell for cell in cells if squeezed(cell) not in text]
    assert len(cells) > 100
    assert missing == []
    sheet = client.get("/reports/maintenance.csv?period=2026-11")
    rows = list(csv.DictReader(io.StringIO(sheet.content.decode("utf-8-sig"))))
    assert list(rows[0]) == list(management.COLUMNS)
    november = next(r for r in rows if r["name"] == "2026-11")
    assert (november["runs"], november["success_percent"], november["outage_minutes"]) == ("4", "66.67", "62.0")
    assert [r["name"] for r in rows if r["kind"] != "month"] == ["2026 Q4", "crm", "shop"]


def squeezed(text: str) -> str:
    import html

    return re.sub(r"\s+", "", html.unescape(text))


@pytest.mark.usefixtures("autumn")
@pytest.mark.long
def test_the_pdf_is_the_same_for_the_same_numbers(settings: Any) -> None:
    assert management.render(Period(Month(2025, 11), 1), Asked()) == management.render(
        Period(Month(2025, 11), 1), Asked()
    )


@pytest.mark.usefixtures("autumn")
def test_quarter_and_year_are_chosen_like_a_month(as_: As) -> None:
    quarter, year = glance(NOVEMBER.around, Asked()), glance(NOVEMBER.around.around, Asked())
    assert [s.name for s in quarter.spans] == ["2026 Q4", "2026 Q3", "2026"]
    assert [s.name for s in year.spans] == ["2026", "2025"]
    assert [s.runs for s in (*quarter.spans, *year.spans)] == [6, 0, 6, 6, 1]
    assert [m.name for m in year.trend][::11] == ["2026-01", "2026-12"]
    page = as_("manager").get("/reports/?period=2026-Q4").content.decode()
    assert "Maintenance in 2026 Q4" in page
    assert "Below 95 %: 2026-11 (66.6 %), 2026-12 (0.0 %)." in page
    assert 'href="?period=2026-Q3"' in page


@pytest.fixture
def costly() -> MaintenanceRun:
    """Two hours for an approval, three until it was released, rows given up; twelve in what was brought back."""
    run = ended("2026-11-10T08:00", Status.NEEDS_OPERATOR, allow_data_loss=True, requested_by_name="ann")
    Approval.objects.create(run=run, by_name="bob", at=at("2026-11-10T10:00"))
    target = run.targets.get()
    RunTarget.objects.filter(pk=target.pk).update(
        finished_at=at("2026-11-10T11:00"), released_at=at("2026-11-10T14:00")
    )
    loss = {"object": "orders", "pages": [], "detail": ""}
    lost = [{**loss, "rows": 7}, {**loss, "rows": None}]
    for state, action in ((StepState.FINISHED, "salvage"), (StepState.STARTED, "salvage")):
        ActionRecord.objects.create(target=target, object="orders", action=action, state=state, losses=lost)
    back = ended("2026-11-11T08:00", Status.ROLLED_BACK, "crm", allow_data_loss=True)
    ActionRecord.objects.create(
        target=back.targets.get(), object="x", action="salvage", state=StepState.FINISHED, losses=[{**loss, "rows": 12}]
    )
    findings = [
        {"code": "x", "severity": severity, "object": "orders", "evidence": evidence, "hint": ""}
        for severity, evidence in (("medium", "is old"), ("critical", "cannot be read"))
    ]
    setting = MaintenanceSetting.objects.create(name="shop", url="sqlite:////tmp/shop.db", backup_dir="/backup")
    DatabaseState.objects.create(
        setting=setting, target=target, source="diagnosis", state="critical", findings=findings
    )
    return run


def test_what_a_month_cost_people_and_rows(costly: MaintenanceRun, as_: As) -> None:
    figures = glance(NOVEMBER, Asked()).period
    assert (figures.approved, figures.unapproved, figures.waited, figures.attended) == (1, 0, 7200.0, 10_800.0)
    assert (figures.lost, figures.lost_unknown, figures.people) == (7, 1, 18_000.0)
    page = as_("manager").get("/reports/?period=2026-11").content.decode()
    assert "2 min 00 s of outage. Steps waited for people for 5 h 00 min; rows lost: ≥ 7." in page


def test_each_run_tells_what_was_wrong_who_decided_and_what_was_lost(costly: MaintenanceRun, as_: As) -> None:
    first, second = management.contents(NOVEMBER, Asked())["lines"]
    assert first.run == costly, "who needs an operator comes first"
    assert first.wrong == "orders: cannot be read; orders: is old"
    assert first.decided == "ann asked, bob approved after 2 h 00 min"
    assert (first.lost, second.lost) == ("≥ 7", "0")
    assert second.helped == "not measured"


@pytest.mark.parametrize(
    ("change", "ratio", "low", "high", "told"),
    [
        ("faster", 0.82, 0.74, 0.91, "18 % faster (9–26 %)"),
        ("slower", 1.5, 1.2, 1.9, "50 % slower (20–90 %)"),
        ("no_change", 0.97, 0.9, 1.05, "no measurable change"),
        ("works_again", None, None, None, "works again"),
        ("unmeasured", 0.5, None, None, "could not be measured"),
        ("", None, None, None, "not measured"),
    ],
)
def test_whether_it_helped_and_how_sure(change: str, ratio: float, low: float, high: float, told: str) -> None:
    ended("2026-11-10T08:00", change=change, ratio=ratio, ratio_low=low, ratio_high=high)
    [line] = management.contents(NOVEMBER, Asked())["lines"]
    assert line.helped == told


def test_an_operator_who_never_released_it_was_waited_for_until_the_next_maintenance() -> None:
    run = ended("2026-11-10T08:00", Status.NEEDS_OPERATOR)
    run.targets.update(finished_at=at("2026-11-10T09:00"))
    ended("2026-11-10T11:00")
    assert glance(NOVEMBER, Asked()).period.attended == 7200.0


@pytest.mark.parametrize("address", ["/reports/?period=2026-11", "/reports/?period=2026"])
def test_a_page_asks_as_often_for_many_runs_as_for_few(address: str, as_: As) -> None:
    client = as_("manager")
    client.get(address)
    counts = []
    for _round in range(2):
        for number in range(6):
            ended(f"2026-11-{number + 1:02d}T08:00", ratio=0.5, database=f"d{number}")
        with CaptureQueriesContext(connection) as asked:
            client.get(address)
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_an_empty_month_says_so(as_: As) -> None:
    page = as_("auditor").get("/reports/?period=2020-01").content.decode()
    assert "No maintenance ended in 2020-01." in page
    assert "No database was maintained." in page


def test_a_filter_that_is_wrong_is_named_and_filters_nothing(as_: As) -> None:
    page = as_("manager").get("/reports/?period=2020-77&severity_level=awful").content.decode()
    assert "errorlist" in page
