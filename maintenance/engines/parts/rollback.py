"""The way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..archive import Seal
from ..messages import msg
from ..values import Backup, Diagnosis, Image, Json, RestoreBudget, Restored, WayBack


class Rollback(ABC):
    """The way back, and what is left afterwards."""

    def restore_test(self, backup: Backup, seal: Seal, budget: RestoreBudget) -> Restored | None:
        """Before the cut, while everybody works: restore the backup beside, prove it against its own snapshot, and keep
        the copy, which `Backups.image` then brings up to date under the cut so that a rollback is a rename.

        Return None where this product or this backup offers no such test. Raises EngineError with the object and the
        server's words where the backup cannot be restored or is not equal; nothing is left of the copy then.
        """
        return None

    def way_back(self, diagnosis: Diagnosis, budget: RestoreBudget) -> WayBack:
        """Return how far a backup will be restored before the outage, and what copies take. Pure."""
        open_ = msg("backups of this product are read back whole; that they can be restored is not proven before")
        return WayBack("none", 0, open_)

    @abstractmethod
    def restore_beside(self, image: Image, backup: Backup, seal: Seal) -> str:
        """Restore into a side copy, never into the live one; drop an incomplete one first.

        Return the name to give to `Verifier.fingerprint(side=…)` and `swap`.
        """

    def differs(self, image: Image) -> bool:
        """Whether the database, still closed, is another than its image although every row is as at the cut."""
        return False

    @abstractmethod
    def swap(self, side: str, gate: Json, marker: Json) -> str:
        """Put the side copy in the place of the live one, gate still closed; the broken one is kept.

        Owner, grants, settings and comments go along. Done already (seen on the target): nothing.
        Return where the broken one is kept.
        """

    @abstractmethod
    def leftovers(self) -> list[str]:
        """Return what of this run target is still on the target: copies, side tables, marks, sessions."""

    @abstractmethod
    def clean(self, keep: Sequence[str] = ()) -> list[str]:
        """Remove leftovers but `keep`; return what was removed."""
