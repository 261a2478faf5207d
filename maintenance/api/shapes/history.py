"""Runs of the past and of now, with all that is known of them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from maintenance.models import MaintenanceType, SeverityLevel, Status

from .fields import Answered, Text
from .states import Finding


class Filters(BaseModel):
    """Of the history; both dates are inclusive, in the console's time zone."""

    status: Status | None = None
    maintenance_type: MaintenanceType | None = None
    severity_level: SeverityLevel | None = None
    database: Text | None = None
    since: date | None = None
    until: date | None = None
    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int, Field(ge=1, le=200)] = 50


class RunSummary(Answered):
    id: str
    status: Status
    ended_because: str
    maintenance_type: MaintenanceType
    target_databases: list[str]
    target_tables: list[str]
    severity_level: SeverityLevel
    rehearsal: bool = Field(description="All of it was done on copies; nothing of the databases was touched.")
    rehearsed_in: str | None = Field(description="The run in which the same work was rehearsed.")
    reason: str
    requested_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    outage_seconds: float | None
    report_pdf: str | None
    performance_csv: str | None


class RunPage(BaseModel):
    count: int
    page: int
    pages: int
    page_size: int
    next: str | None
    previous: str | None
    runs: list[RunSummary]


class Step(Answered):
    step: str
    state: str
    sentence: str
    seconds: float | None
    attempt: int


class ActionDone(Answered):
    object: str
    action: str
    reason: str
    state: str
    seconds: float | None
    bytes_before: int | None
    bytes_after: int | None


class Backup(Answered):
    path: str
    method: str
    bytes: int | None
    sha256: str
    verified: bool
    role: str


class TableProof(Answered):
    table: str
    rows_before: int | None
    rows_after: int | None
    fingerprint_equal: bool | None


class Proof(Answered):
    level: str
    tables: list[TableProof]
    checks: list[dict[str, Any]]


class QueryComparison(Answered):
    query: str
    before_ms: float | None
    after_ms: float | None
    spread: float | None
    cost_before: int | None
    cost_after: int | None
    ratio: float | None
    ratio_low: float | None = Field(description="Of the 95 % confidence interval; null with too few measurements.")
    ratio_high: float | None
    verdict: str
    change: Literal["faster", "slower", "no_change", "unmeasured", "works_again"] = Field(
        description="The same verdict as the pages tell it."
    )
    work: Literal["less", "more", "same", "unknown"] = Field(description="Of the cost, judged apart from the time.")
    told: str = Field(description="The change in words, such as 18 % faster (9–26 %).")


class Loss(Answered):
    object: str
    rows: int | None
    pages: list[int]
    detail: str


class Copy(Answered):
    name: str
    bytes: int
    seconds: float
    by_file: bool = Field(description="Bloat and damage of the original are in it; a restored copy has lost both.")


class Piece(Answered):
    step: str
    part: str | None
    seconds: float | None


class Rehearsal(Answered):
    """What a rehearsal showed of one database."""

    copy_: Copy | None = Field(alias="copy")
    backup_restores: Literal["full", "definitions", "copy"] | None = Field(
        description="How far the backup was restored beside and proved equal; null: not at all."
    )
    expected_outage_seconds: float | None
    expected_outage_low: float | None
    expected_outage_high: float | None
    expected_outage_basis: str | None
    pieces: list[Piece]


class TargetOutcome(Answered):
    database: str
    engine: str
    status: Status
    ended_because: str
    outage_seconds: float
    outage_lasts: bool = Field(
        description="It has not ended; after the end of the run: until the database is released."
    )
    steps: list[Step]
    findings: list[Finding]
    actions: list[ActionDone]
    backup_files: list[Backup]
    integrity: Proof | None
    data_loss: list[Loss]
    benchmark: list[QueryComparison]
    benchmark_ratio: float | None = Field(description="Geometric mean of after / before.")
    benchmark_ratio_low: float | None
    benchmark_ratio_high: float | None
    benchmark_verdict: str | None
    benchmark_change: str | None
    benchmark_told: str | None
    rehearsal: Rehearsal | None


class Outcome(RunSummary):
    """The same as `maintain --json`."""

    targets: list[TargetOutcome]
