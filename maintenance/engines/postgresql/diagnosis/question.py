"""A question to the catalogs or the statistics, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maintenance.engines.values import Finding

from ..capabilities import Capabilities
from ..sql import Row


@dataclass(frozen=True)
class Question:
    topic: str
    sql: str
    answer: Callable[[Row], Finding | None]
    asked: Callable[[Capabilities], bool] = lambda capabilities: True
    """Whether this version of the server knows what the question asks for."""
