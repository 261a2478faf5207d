"""How a database did before and after its maintenance, and what is wrong now that was not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maintenance.models import DatabaseState


@dataclass(frozen=True)
class HealthChange:
    """Scores are 0..100, None where nobody looked."""

    before: int | None
    after: int | None
    new: Sequence[dict[str, Any]]
    """Findings of the look after the work that the diagnosis before it did not have."""

    @property
    def fell(self) -> bool:
        """Whether it did worse afterwards, as far as both are known."""
        return self.before is not None and self.after is not None and self.after < self.before

    @property
    def doubtful(self) -> bool:
        """Whether there is something that plain success would hide."""
        return self.fell or any(finding["severity"] in ("critical", "high") for finding in self.new)


def health_change(states: Sequence[DatabaseState]) -> HealthChange | None:
    """Return the change, None without a look after the work. `states` of one target, oldest first."""
    looks = [s for s in states if s.source == DatabaseState.Source.DIAGNOSIS]
    ends = [s for s in states if s.source == DatabaseState.Source.AFTER]
    if not ends:
        return None
    before, after = looks[0] if looks else None, ends[-1]
    known = {(f["code"], f["object"]) for f in before.findings} if before is not None else set()
    new = [f for f in after.findings if (f["code"], f["object"]) not in known] if before is not None else []
    return HealthChange(before.health if before is not None else None, after.health, new)
