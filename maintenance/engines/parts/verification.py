"""The proof."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..values import Check, Fingerprint


class Verifier(ABC):
    """Proof that nothing was lost: rows, structure, constraints, definitions."""

    @property
    def harms_damaged_tables(self) -> bool:
        """Whether a structural check takes away what could still be read of a damaged table: read first there."""
        return False

    @abstractmethod
    def fingerprint(self, tables: Sequence[str] | None, side: str | None = None) -> dict[str, Fingerprint]:
        """Return the fingerprint of every row of these tables (None: all) by canonical name; of the side copy if given.

        A table that cannot be read has its error in the result; the others go on.
        """

    def recount(self, tables: Sequence[str] | None) -> dict[str, Fingerprint]:
        """As `fingerprint`, of the live database. A table need not be read again where the engine can prove that
        nobody wrote to it since this object read it."""
        return self.fingerprint(tables)

    @abstractmethod
    def check(self, tables: Sequence[str] | None, thorough: bool = True) -> list[Check]:
        """Check structure first, then constraints and sequences.

        Not `thorough`: without what compares indexes with rows, and rows with their constraints.
        """

    def check_early(self, tables: Sequence[str] | None) -> list[Check] | None:
        """Before the cut, while everybody works, for work that leaves every row: structure and constraints.

        None where such a look has to wait until nobody else is in: `check` then says everything under the cut.
        """
        return None

    def check_rest(self, tables: Sequence[str] | None) -> list[Check]:
        """Under the cut, what `check_early` could not say because everybody was still working."""
        return []

    def check_again(self, tables: Sequence[str] | None) -> list[Check]:
        """As `check`, after work that left every row as it was: what follows from the rows need not be asked, and
        what this object built anew may be proven in a quicker way."""
        return self.check(tables)

    @abstractmethod
    def definitions(self, side: str | None = None) -> dict[str, str]:
        """Return object -> digest of its definition: columns, indexes, constraints, views, triggers, routines."""

    def encryption(self, side: str | None = None) -> dict[str, list[str]]:
        """Return table -> what shows that it is encrypted on disk; of the side copy when given.

        Only tables that are. Empty also where the product encrypts nothing itself.
        """
        return {}

    def tls(self) -> dict[str, list[str]]:
        """Return account or rule that leads to the target -> what it demands of a connection; only where it demands
        TLS."""
        return {}
