"""The work."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..values import Action, Performed, Progress


class Actions(ABC):
    """The work itself."""

    @abstractmethod
    def perform(self, action: Action, allow_data_loss: bool) -> Performed:
        """Do one action, several at a time from several threads; verify it by its effect.

        Raises Damaged when only loss of data would help and that is not allowed.
        """

    def progress(self) -> list[Progress]:
        """Return what the server says of work in hand; empty when it says nothing."""
        return []
