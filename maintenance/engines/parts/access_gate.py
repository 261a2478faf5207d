"""Closing the target, and opening it in stages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ..values import Cut, Json


class AccessGate(ABC):
    """Closing the target to everybody else, and opening it again exactly as it was."""

    dies_with_worker: ClassVar[bool] = False
    """True where the cut is a lock of this process, so that after a crash everybody was in again."""

    @abstractmethod
    def read_state(self) -> Json:
        """Return everything `open` needs to restore exactly.

        Where our mark of an earlier crash is on the target, the original state that the mark holds.
        """

    def recall(self, gate: Json) -> None:  # noqa: B027
        """Take from the journal which object of the server the target is.

        Where others can plant names and marks, it is found by that alone from then on.
        """

    @abstractmethod
    def cut(self, gate: Json, marker: Json) -> Cut:
        """Mark the target with `marker` and `gate`, block, end sessions, prove quiet.

        Idempotent; spares replication and our own sessions. Raises Transient when somebody stays.
        """

    @abstractmethod
    def open(self, gate: Json, share: float | None) -> None:
        """Let `share` (0..1) of the connections in; None: exactly as before, mark removed."""

    @abstractmethod
    def differences(self, gate: Json) -> list[str]:
        """Return what is not as `gate` says, in words; empty when exactly as before."""

    @abstractmethod
    def is_cut(self) -> bool:
        """Whether the mark of the cut is on the target still; not when the switch or a person opened it."""

    @abstractmethod
    def manual_commands(self, gate: Json) -> list[str]:
        """Return what a person types, one command a line, to open the target as `gate` says without this console."""
