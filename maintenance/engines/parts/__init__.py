"""The parts an engine is composed of, one small abstract class each.

A part knows one database product and one target database; it knows neither Django nor the procedure. Every method
that has an effect can be called a second time after a crash: it looks at reality first. Names from outside are quoted
by the dialect, values are bound. What all products write alike is written here once.
"""

from __future__ import annotations

from .access_gate import AccessGate
from .actions import Actions
from .backup import Backups
from .benchmark import Benchmark, Rows
from .dead_man_switch import DeadManSwitch
from .diagnosis import Diagnostics
from .maintenance_lock import AT_WORK_ELSEWHERE, CLOSED_BY_ANOTHER, MaintenanceLock
from .planning import Planner
from .privileges import Privileges
from .rehearsal import NoRehearsal, Rehearsal
from .rollback import Rollback
from .sessions import Sessions
from .stopping import raise_if_stopping
from .verification import Verifier

__all__ = [
    "AT_WORK_ELSEWHERE",
    "CLOSED_BY_ANOTHER",
    "AccessGate",
    "Actions",
    "Backups",
    "Benchmark",
    "DeadManSwitch",
    "Diagnostics",
    "MaintenanceLock",
    "NoRehearsal",
    "Planner",
    "Privileges",
    "Rehearsal",
    "Rollback",
    "Rows",
    "Sessions",
    "Verifier",
    "raise_if_stopping",
]
