"""What is sent and answered, for the check of requests and for the OpenAPI description."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from django.utils import timezone
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ..models import MaintenanceType, SeverityLevel, Status

CLOCKS_DIFFER = timedelta(minutes=5)
FINDINGS, TABLES = 500, 5000
"""More than this from monitoring is a mistake of monitoring."""


def storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("It must not contain the character NUL or half a surrogate pair")
    return text


def all_or_named(value: Any) -> Any:
    """Left out must never mean every database."""
    if value is None or value == []:
        raise ValueError('Name the databases, or say "all"')
    return None if value == "all" else value


def not_ahead(at: datetime) -> datetime:
    if at > timezone.now() + CLOCKS_DIFFER:
        raise ValueError("It lies in the future")
    return at


Text = Annotated[str, AfterValidator(storable)]
Name = Annotated[Text, Field(min_length=1, max_length=500)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Size = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Databases = Annotated[
    list[Name] | None,
    BeforeValidator(all_or_named),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 1}, {"const": "all"}]}),
]
Severity = Literal["critical", "high", "medium", "low"]


class Sent(BaseModel):
    """A word too many is a mistake that must not pass unseen."""

    model_config = ConfigDict(extra="forbid")


class MaintenanceRequest(Sent):
    """The specification's parameters (3.3)."""

    maintenance_type: Literal["repair", "optimize", "rebuild"]
    target_databases: Databases = Field(description='Names of databases, or "all".')
    severity_level: Literal["critical", "high", "medium"]
    reason: Annotated[Text, Field(min_length=1, max_length=2000)]
    target_tables: list[Name] = Field([], description="Only these tables; empty: the whole database.")
    allow_data_loss: Annotated[bool, Field(strict=True)] = False


class FindingReport(Sent):
    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
    severity: Severity
    object: Annotated[Text, Field(max_length=500)] = ""
    evidence: Annotated[Text, Field(max_length=2000)] = ""
    hint: Annotated[Text, Field(max_length=2000)] = ""


class TableReport(Sent):
    name: Name
    bytes: Size
    rows: Size | None = None
    bloat_share: Share | None = None
    dead_share: Share | None = None
    stale_share: Share | None = None
    damaged: Annotated[bool, Field(strict=True)] = False


class StateReport(Sent):
    """DB状態情報: how monitoring sees a database."""

    schema_version: Literal[1]
    state: Literal["well", "watch", "degraded", "critical", "unreachable"]
    health: Annotated[int, Field(strict=True, ge=0, le=100)] | None = None
    findings: list[FindingReport] = Field([], max_length=FINDINGS)
    tables: list[TableReport] = Field([], max_length=TABLES)
    size_bytes: Size | None = None
    free_bytes: Size | None = None
    connections: Count | None = None
    max_connections: Count | None = None
    version: Annotated[Text, Field(max_length=200)] = ""
    error: Annotated[Text, Field(max_length=2000)] = ""
    measured_at: Annotated[AwareDatetime, AfterValidator(not_ahead)] | None = Field(None, description="Default: now.")


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


class Answered(BaseModel):
    """More keys may come in later versions."""

    model_config = ConfigDict(extra="allow")


class FieldProblem(BaseModel):
    field: str
    message: str


class HeldBy(BaseModel):
    id: str
    number: str
    url: str


class Problem(Answered):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []
    held_by: HeldBy | None = None


class Accepted(Answered):
    id: str
    number: str
    status: Status
    url: str
    page: str


class RunReference(BaseModel):
    id: str
    number: str
    url: str


class Finding(Answered):
    code: str
    severity: Severity
    object: str
    evidence: str
    hint: str


class DatabaseSummary(Answered):
    """`state` is that of the last look, or 'unknown'; `maintenance` the run that works on it now."""

    database: str
    engine: str
    state: str
    health: int | None
    needs_operator: bool
    maintenance: RunReference | None
    size_bytes: int | None
    free_bytes: int | None
    connections: int | None
    max_connections: int | None
    version: str | None
    source: str | None
    measured_at: datetime | None
    last_verified_backup_at: datetime | None
    worst_finding: Finding | None
    url: str


class DatabaseStatus(DatabaseSummary):
    findings: list[Finding]
    tables: list[TableReport]
    error: str | None


class DatabaseList(BaseModel):
    databases: list[DatabaseSummary]


class RunSummary(Answered):
    id: str
    status: Status
    ended_because: str
    maintenance_type: MaintenanceType
    target_databases: list[str]
    target_tables: list[str]
    severity_level: SeverityLevel
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
    verdict: str


class Loss(Answered):
    object: str
    rows: int | None
    pages: list[int]
    detail: str


class TargetOutcome(Answered):
    database: str
    engine: str
    status: Status
    ended_because: str
    outage_seconds: float
    steps: list[Step]
    findings: list[Finding]
    actions: list[ActionDone]
    backup_files: list[Backup]
    integrity: Proof | None
    data_loss: list[Loss]
    benchmark: list[QueryComparison]


class Outcome(RunSummary):
    """The same as `maintain --json`."""

    targets: list[TargetOutcome]


class Estimate(BaseModel):
    """Medians of the last maintenance of this kind on this database; null without any."""

    outage_seconds: float | None
    duration_seconds: float | None
    based_on_runs: int


class PlannedAction(Answered):
    object: str
    kind: str
    reason: str
    lock: str
    bytes: int
    disk_bytes: int


class PlannedTarget(Answered):
    database: str
    engine: str
    refused: str | None
    findings: list[Finding]
    actions: list[PlannedAction]
    disk_needed_bytes: int
    free_bytes: int | None
    estimate: Estimate


class Plan(BaseModel):
    maintenance_type: MaintenanceType
    severity_level: SeverityLevel
    targets: list[PlannedTarget]


WRONG: dict[int, type[BaseModel]] = {401: Problem, 403: Problem, 422: Problem, 429: Problem}
"""What every call may answer."""
