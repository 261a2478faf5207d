"""DB状態情報 as monitoring sends it, and how databases stand."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from .fields import Answered, Count, Health, Name, Sent, Severity, Share, Size, Text, not_ahead

FINDINGS, TABLES = 500, 5000
"""More than this from monitoring is a mistake of monitoring."""


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
    health: Health | None = None
    findings: list[FindingReport] = Field([], max_length=FINDINGS)
    tables: list[TableReport] = Field([], max_length=TABLES)
    size_bytes: Size | None = None
    free_bytes: Size | None = None
    connections: Count | None = None
    max_connections: Count | None = None
    version: Annotated[Text, Field(max_length=200)] = ""
    error: Annotated[Text, Field(max_length=2000)] = ""
    measured_at: Annotated[AwareDatetime, AfterValidator(not_ahead)] | None = Field(None, description="Default: now.")


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
