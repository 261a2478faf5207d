"""A maintenance that is asked for, planned, accepted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from maintenance.models import MaintenanceType, SeverityLevel, Status

from .fields import PLAIN, Answered, Name, Sent, Text
from .states import Finding


def all_or_named(value: object) -> object:
    """Left out must never mean every database."""
    if value is None or value == []:
        raise ValueError('Name the databases, or say "all"')
    return None if value == "all" else value


NAME = {"type": "string", "minLength": 1, "maxLength": 500, "pattern": PLAIN}
Databases = Annotated[
    list[Name] | None,
    BeforeValidator(all_or_named),
    WithJsonSchema({"anyOf": [{"type": "array", "items": NAME, "minItems": 1}, {"const": "all"}]}),
]


class MaintenanceRequest(Sent):
    """The specification's parameters (3.3)."""

    maintenance_type: Literal["repair", "optimize", "rebuild"]
    target_databases: Databases = Field(description='Names of databases, or "all".')
    severity_level: Literal["critical", "high", "medium"]
    reason: Annotated[Text, Field(min_length=1, max_length=2000)]
    target_tables: list[Name] = Field([], description="Only these tables; empty: the whole database.")
    allow_data_loss: Annotated[bool, Field(strict=True)] = False


class StartRequest(MaintenanceRequest):
    plan: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        None, description="Number of a plan of yours for the same parameters, which is then carried out."
    )


class Rejection(Sent):
    comment: Annotated[Text, Field(min_length=1, max_length=2000, description="What would have to be otherwise.")]


class Accepted(Answered):
    id: str
    number: str
    status: Status
    url: str
    page: str


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
    disk_needed_bytes: int = Field(description="At one time: the largest pieces of work, and the copy for a rollback.")
    copy_bytes: int = Field(description="Of which for the copy that a rollback uses.")
    restore_test: str = Field(description="How far a backup is restored before the outage.")
    restore_test_leaves_open: str | None = Field(description="What that does not prove.")
    free_bytes: int | None
    estimate: Estimate


class Plan(BaseModel):
    plan: int
    maintenance_type: MaintenanceType
    severity_level: SeverityLevel
    targets: list[PlannedTarget]
