"""From findings to work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..values import Action, Check, Diagnosis, MaintenanceType, Thresholds


class Planner(ABC):
    """From findings to work."""

    @abstractmethod
    def plan(
        self,
        kind: MaintenanceType,
        diagnosis: Diagnosis,
        thresholds: Thresholds,
        tables: Sequence[str] | None,
        allow_data_loss: bool,
    ) -> list[Action]:
        """Return the work. Pure function of its arguments. Only what needs it, unless `rebuild`."""

    def informed(self, diagnosis: Diagnosis, checks: Sequence[Check], unreadable: Mapping[str, str]) -> Diagnosis:
        """Return the diagnosis with what a deeper look found: failing `checks` of the structure, and the error that
        reading each `unreadable` table raised. Pure."""
        damaged = {check.table or check.object for check in checks} | unreadable.keys()
        tables = (replace(fact, damaged=fact.damaged or fact.name in damaged) for fact in diagnosis.tables)
        return replace(diagnosis, tables=tuple(tables))
