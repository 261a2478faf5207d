"""A question to the catalogs or the statistics, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maintenance.engines.values import Finding

from ..sql import Row


@dataclass(frozen=True)
class Question:
    """A cheap, read-only question; each row of its answer may be a finding."""

    topic: str
    sql: str
    answer: Callable[[Row], Finding | None]
