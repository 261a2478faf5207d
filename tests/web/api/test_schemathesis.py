"""Schemathesis calls all that the description describes, rightly and wrongly: no 5xx and no undocumented answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from schemathesis.generation.modes import GenerationMode
from schemathesis.openapi import from_wsgi
from schemathesis.specs.openapi.checks import positive_data_acceptance

from dbmaint_site.wsgi import application
from maintenance.api import callers
from maintenance.models import MaintenanceRun, MaintenanceSetting
from tests import records
from tests.web.api.calling import CALLS, Caller

EXAMPLES = 10
"""Of each call in each mode. Seeds are drawn from the name of the test, so a failure comes again."""

BEYOND_THE_SCHEMA = tuple(f"POST /api/v1/maintenance{call}" for call in ("", "/plan", "/rehearsal"))
"""A reason of blanks, or a plan that nobody made, is refused although no schema can say so."""


@pytest.fixture
def _in_this_transaction() -> Iterator[None]:
    """As Django's own test client does it: a request must not close the connection of the test."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


# Its WSGI client leaves the files of report.pdf and performance.csv open, which a web server closes.
@pytest.mark.every(3)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("_in_this_transaction")
@pytest.mark.long
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("mode", "known"),
    [(GenerationMode.POSITIVE, True), (GenerationMode.POSITIVE, False), (GenerationMode.NEGATIVE, False)],
)
def test_no_server_error_and_no_undocumented_answer(
    machine: Caller,
    people: Any,
    shop: MaintenanceSetting,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    mode: GenerationMode,
    known: bool,
) -> None:
    """`known`: addresses name what is there; otherwise anything."""
    monkeypatch.setattr(callers, "A_MINUTE", 1_000_000)
    there = {"name": "shop", "id": str(whole_run(settings).pk)}
    headers = machine("dba").headers
    schema = from_wsgi("/api/v1/openapi.json", application, headers=headers)
    schema.config.generation.update(modes=[mode])
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) == len(CALLS)
    wrong = []
    for operation in operations:
        try:
            try_one(operation, mode, there if known else {}, headers)
        except Exception as error:
            wrong.append(error)
    if wrong:
        raise ExceptionGroup("What Schemathesis found", wrong)


def whole_run(settings: Any) -> MaintenanceRun:
    """With its files."""
    settings.REPORTS_DIR.mkdir(parents=True, exist_ok=True)
    settings.PERFORMANCE_DIR.mkdir(parents=True, exist_ok=True)
    pdf, csv = Path(settings.REPORTS_DIR) / "report.pdf", Path(settings.PERFORMANCE_DIR) / "performance.csv"
    pdf.write_bytes(b"%PDF-1.7")
    csv.write_text("query\n")
    return records.finished_run(report_pdf=str(pdf), performance_csv=str(csv))


def try_one(operation: Any, mode: GenerationMode, there: dict[str, str], headers: dict[str, str]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @bounds(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def call(case: schemathesis.Case[Any]) -> None:
        for name in case.path_parameters or {}:
            if name in there:
                case.path_parameters[name] = there[name]
        if mode == GenerationMode.POSITIVE and isinstance(case.body, dict):
            # No schema can say that a time lies in the past.
            case.body.pop("measured_at", None)
        rules: list[Any] = [positive_data_acceptance] if operation.label in BEYOND_THE_SCHEMA else []
        case.call_and_validate(headers=headers, excluded_checks=rules)

    call()
