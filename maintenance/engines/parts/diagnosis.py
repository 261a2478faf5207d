"""Findings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..values import Diagnosis, Thresholds


class Diagnostics(ABC):
    """Looking at a sick database without making it worse."""

    @abstractmethod
    def diagnose(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """Return what is wrong. Read-only and harmless to a sick server. `tables`: canonical names, None for all."""

    def survey(self, thresholds: Thresholds, tables: Sequence[str] | None = None) -> Diagnosis:
        """As `diagnose`, as far as it tells what to optimize: for a look within the outage, after the proof."""
        return self.diagnose(thresholds, tables)
