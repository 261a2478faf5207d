"""The console's own tables."""

from .access import ApiToken, Approval, Preference
from .audit import AuditEntry, AuditHead, AuditSeal, AuditSignature
from .factor import Authenticator
from .incident import Feed, Incident
from .installation import Installation, letters
from .nodes import Node
from .notice import Acknowledgement, Comment, DailyWork, Notification, ReleaseRequest, Worker
from .plan import StoredPlan
from .record import ActionRecord, BackupFile, Measurement, StepRecord, StepState
from .run import (
    ACTIVE,
    ENDED,
    WORST_FIRST,
    ApplicationHold,
    MaintenanceRun,
    MaintenanceType,
    MeasuringTurn,
    RunTarget,
    ScopeHold,
    SeverityLevel,
    Status,
    longest_outage,
)
from .setting import MaintenanceSetting
from .state import DatabaseState
from .throttle import FailedTries, KnownAddress

__all__ = [
    "ACTIVE",
    "ENDED",
    "WORST_FIRST",
    "Acknowledgement",
    "ActionRecord",
    "ApiToken",
    "ApplicationHold",
    "Approval",
    "AuditEntry",
    "AuditHead",
    "AuditSeal",
    "AuditSignature",
    "Authenticator",
    "BackupFile",
    "Comment",
    "DailyWork",
    "DatabaseState",
    "FailedTries",
    "Feed",
    "Incident",
    "Installation",
    "KnownAddress",
    "MaintenanceRun",
    "MaintenanceSetting",
    "MaintenanceType",
    "Measurement",
    "MeasuringTurn",
    "Node",
    "Notification",
    "Preference",
    "ReleaseRequest",
    "RunTarget",
    "ScopeHold",
    "SeverityLevel",
    "Status",
    "StepRecord",
    "StepState",
    "StoredPlan",
    "Worker",
    "letters",
    "longest_outage",
]
