"""Reopening without the console."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..values import Json


class DeadManSwitch(ABC):
    """The target opens itself when the console falls silent: where a cut outlives its process."""

    @abstractmethod
    def arm(self, gate: Json, seconds: float) -> None:
        """Make the target open itself as `gate` says once nothing was heard of us for `seconds`.

        Armed already: the time begins anew. Raises Unable where the target cannot do that.
        """

    @abstractmethod
    def disarm(self) -> None:
        """Keep the target closed from here on. `AccessGate.is_cut` tells afterwards whether that was in time."""

    @abstractmethod
    def keepalive(self) -> None:
        """Put the switch off; called every few seconds. Needs an answer of the server, so it also proves the way."""
