"""A file needs no switch: its lock ends with the process that holds it."""

from __future__ import annotations

from ..errors import Unable
from ..parts import DeadManSwitch
from ..values import Json


class NullSwitch(DeadManSwitch):
    """Refuses to be armed, and is therefore never off."""

    def __init__(self, name: str) -> None:
        self.name = name

    def arm(self, gate: Json, seconds: float) -> None:
        """Raises Unable always."""
        raise Unable("arming the switch of", self.name, "a lock on a file ends with its process anyway")

    def disarm(self) -> None:
        """Nothing was armed."""

    def keepalive(self) -> None:
        """Nothing was armed."""
