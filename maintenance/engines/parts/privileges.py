"""Rights of an account."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..values import Grant


class Privileges(ABC):
    """What the console's account may do on the target."""

    @abstractmethod
    def grants(self, role: str | None = None) -> list[Grant]:
        """Return every right that this target's account needs, or that account `role` would need, given or not.

        In an order in which an administrator can run the statements. Read-only; connects as the target's account.
        """
