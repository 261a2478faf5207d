"""A maintenance tried on a copy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from sqlalchemy import URL

from ..archive import Seal
from ..errors import Unable
from ..messages import Message, msg
from ..values import Stage


class Rehearsal(ABC):
    """A copy of the target on which a maintenance is rehearsed; its name follows from the run target's tag.

    Nothing of the target is changed, and nobody is kept out of it.
    """

    @abstractmethod
    def refusal(self) -> Message | None:
        """Return why a maintenance of this target cannot be rehearsed; None where it can."""

    @abstractmethod
    def build(self, folder: Path, stem: str, seal: Seal) -> Stage:
        """Make the copy while everybody works; drop an incomplete one first. A file needed on the way is `folder/stem`.

        Raises EngineError; nothing is left of the copy then, or `remove` finds it.
        """

    @abstractmethod
    def address(self) -> URL:
        """Return the address of the copy, with the target's password: for an engine of its own."""

    @abstractmethod
    def remove(self) -> list[str]:
        """Remove the copy and what was made of it, whole or not; return what was removed."""


class NoRehearsal(Rehearsal):
    """A product of which no maintenance can be rehearsed."""

    def refusal(self) -> Message | None:
        """See Rehearsal.refusal."""
        return msg(
            "A maintenance of this product cannot be rehearsed: a copy on its server would not be apart from it."
        )

    def build(self, folder: Path, stem: str, seal: Seal) -> Stage:
        """See Rehearsal.build."""
        raise Unable("copying for a rehearsal", stem, self.refusal() or "")

    def address(self) -> URL:
        """See Rehearsal.address."""
        raise Unable("finding the copy of", "a rehearsal", self.refusal() or "")

    def remove(self) -> list[str]:
        """See Rehearsal.remove."""
        return []
