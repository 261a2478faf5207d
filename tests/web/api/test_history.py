"""Runs of the past and of now, and their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from maintenance.api.shapes.history import Outcome, RunPage
from maintenance.models import Status
from maintenance.results.outcome import outcome
from tests import records
from tests.web.api.calling import CANARY, Caller


@pytest.mark.django_db
class TestHistory:
    def test_pages(self, machine: Caller) -> None:
        for _ in range(5):
            records.empty_run()
        caller = machine()
        first = caller.get("maintenance?page_size=2&status=failed").json()
        RunPage.model_validate(first)
        assert (first["count"], first["pages"], len(first["runs"]), first["previous"]) == (5, 3, 2, None)
        assert first["next"] == "http://testserver/api/v1/maintenance?page_size=2&status=failed&page=2"
        last = caller.get("maintenance?page_size=2&page=3").json()
        assert (len(last["runs"]), last["next"]) == (1, None)
        assert caller.get("maintenance?page=9").json()["runs"] == []

    def test_newest_first(self, machine: Caller) -> None:
        ids = [records.empty_run().pk for _ in range(3)]
        assert [int(r["id"]) for r in machine().get("maintenance").json()["runs"]] == ids[::-1]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", {"old", "crm", "bad"}),
            ("status=failed", {"bad"}),
            ("maintenance_type=repair", {"crm"}),
            ("severity_level=critical", {"bad"}),
            ("database=crm", {"crm"}),
            ("database=shop&status=succeeded", {"old"}),
            ("since=2026-07-02", {"crm", "bad"}),
            ("until=2026-07-01", {"old"}),
            ("since=2026-07-02&until=2026-07-02", {"crm"}),
            ("database=nowhere", set()),
            ("since=0001-01-01&until=9999-12-31", {"old", "crm", "bad"}),
            ("since=9999-12-31", set()),
            ("until=0001-01-01", set()),
        ],
    )
    def test_filters(self, machine: Caller, query: str, found: set[str], settings: Any) -> None:
        settings.TIME_ZONE = "UTC"
        records.finished_run(reason="old")
        records.finished_run(["crm"], reason="crm", maintenance_type="repair", created_at=records.at(86400))
        bad = records.empty_run(
            reason="bad", severity_level="critical", created_at=records.at(3 * 86400), status=Status.FAILED
        )
        records.target_of(bad, "shop")
        assert {r["reason"] for r in machine().get(f"maintenance?{query}").json()["runs"]} == found

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("status", "fine"),
            ("maintenance_type", "x"),
            ("since", "yesterday"),
            ("page", "0"),
            ("page_size", "201"),
            ("database", "%00"),
            ("satus", "failed"),
        ],
    )
    def test_a_bad_filter_is_named(self, machine: Caller, field: str, value: str) -> None:
        answer = machine().get(f"maintenance?{field}={value}")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)

    def test_one_run_is_its_outcome(self, machine: Caller) -> None:
        run = records.finished_run()
        answer = machine().get(f"maintenance/{run.pk}")
        assert answer.json() == json.loads(json.dumps(outcome(run)))
        Outcome.model_validate(answer.json())

    @pytest.mark.parametrize("id", ["4711", "99999999999999999999", "x"])
    def test_a_run_that_is_not_there(self, machine: Caller, id: str) -> None:
        for path in ("", "/report.pdf", "/performance.csv"):
            assert machine().get(f"maintenance/{id}{path}").status_code == 404


FILES = [("report.pdf", "report_pdf", "REPORTS_DIR"), ("performance.csv", "performance_csv", "PERFORMANCE_DIR")]


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "field", "folder"), FILES)
class TestFiles:
    def test_the_file_of_the_run(self, machine: Caller, settings: Any, path: str, field: str, folder: str) -> None:
        place = Path(getattr(settings, folder)) / "2026" / path
        place.parent.mkdir(parents=True)
        place.write_bytes(b"content")
        run = records.empty_run(**{field: str(place)})
        answer: Any = Client(headers=machine().headers).get(f"/api/v1/maintenance/{run.pk}/{path}")
        assert answer.status_code == 200
        assert b"".join(answer.streaming_content) == b"content"
        assert answer["Content-Type"].split(";")[0] in ("application/pdf", "text/csv")
        assert path in answer["Content-Disposition"]

    def test_nothing_outside_the_folder(
        self, machine: Caller, settings: Any, tmp_path: Path, path: str, field: str, folder: str
    ) -> None:
        inside = Path(getattr(settings, folder))
        inside.mkdir(parents=True)
        secret = tmp_path / "secret.key"
        secret.write_text(CANARY)
        (inside / "link").symlink_to(secret)
        beside = inside.with_name(inside.name + "-other")
        beside.mkdir()
        (beside / "file").write_text(CANARY)
        caller = machine()
        for name in (secret, inside / "link", inside / ".." / ".." / "secret.key", beside / "file", inside, ""):
            run = records.empty_run(**{field: str(name)})
            assert caller.get(f"maintenance/{run.pk}/{path}").status_code == 404, name
