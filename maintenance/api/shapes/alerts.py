"""What Alertmanager sends to a webhook (its version 4), and which incidents that makes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field, WithJsonSchema

from maintenance.models import SeverityLevel

from .fields import PLAIN, Answered, Text

ALERTS = 1000
"""Alertmanager groups; more at once is a mistake in its grouping."""
Labels = Annotated[
    dict[Annotated[Text, Field(max_length=200)], Annotated[Text, Field(max_length=2000)]],
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"maxLength": 200, "pattern": PLAIN},
            "additionalProperties": {"type": "string", "maxLength": 2000, "pattern": PLAIN},
        }
    ),
]


class AlertReport(BaseModel):
    """Other keys are passed over: newer versions of Alertmanager may send more."""

    status: Literal["firing", "resolved"]
    labels: Labels = Field(description="`alertname`; `database` as registered here; `severity`; `maintenance_type`.")
    annotations: Labels = Field({}, description="`summary`, or else `description`.")
    startsAt: AwareDatetime
    endsAt: AwareDatetime | None = None
    generatorURL: Annotated[Text, Field(max_length=2000)] = ""
    fingerprint: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,100}$")]


class AlertsReport(BaseModel):
    version: Literal["4"]
    alerts: list[AlertReport] = Field(max_length=ALERTS)


class IncidentTold(Answered):
    """`page` is the launch form, filled in; `open` is false once the alert is resolved."""

    id: str
    alert: str
    database: str | None
    severity_level: SeverityLevel
    open: bool
    opened_at: datetime
    page: str


class IncidentList(BaseModel):
    incidents: list[IncidentTold]
