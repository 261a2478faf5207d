"""The boxes of the specification's flowchart (4.1) by name. What each does is `workflow/flowchart.py`."""

from __future__ import annotations

from enum import StrEnum


class Node(StrEnum):
    """Stored as the specification's letter; X is the only one that it does not have."""

    START = "A"
    DIAGNOSE = "B"
    DECIDE = "C"
    BACK_UP = "D"
    STOP_APPLICATIONS = "E"
    CUT_CONNECTIONS = "F"
    MAINTAIN = "G"
    VERIFY = "H"
    BENCHMARK = "I"
    RESUME = "J"
    COMPLETE = "K"
    DIAGNOSIS_FAILED = "L"
    BACKUP_FAILED = "M"
    MAINTENANCE_FAILED = "N"
    INTEGRITY_ERROR = "O"
    NOT_IMPROVED = "P"
    ASK_FOR_MANUAL_DIAGNOSIS = "Q"
    ALTERNATE_BACKUP = "R"
    ROLL_BACK = "S"
    ADDITIONAL_MAINTENANCE = "T"
    END_IN_FAILURE = "U"
    CALL_AN_OPERATOR = "X"

    @property
    def letter(self) -> str:
        """The specification's letter."""
        return self.value

    @property
    def step(self) -> str:
        """The name as journal, API and labels have it, e.g. 'back_up'."""
        return self.name.lower()
