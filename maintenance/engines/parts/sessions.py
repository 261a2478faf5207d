"""Connections, and what the target says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from ..messages import Message
from ..values import Facts


class Sessions(ABC):
    """Connections with pinned settings, and what the target says of itself."""

    @abstractmethod
    def facts(self) -> Facts:
        """Connect. Raises Unreachable or AccessDenied with the server's words, never the password."""

    @abstractmethod
    def spellings(self) -> Mapping[str, Sequence[str]]:
        """Return what people may call a table -> the canonical names it stands for.

        The canonical name, 'schema.table', and the bare table name where that is unique.
        """

    def resolve(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the canonical names of the tables a person named, each once and in order, and the unknown names."""
        known = self.spellings()
        found = dict.fromkeys(canonical for name in names for canonical in known.get(self.folded(name), ()))
        return list(found), [name for name in names if self.folded(name) not in known]

    def folded(self, name: str) -> str:
        """Return what the product compares of a name: a key of `spellings`."""
        return name

    @abstractmethod
    def writers(self) -> list[Message]:
        """Return who else may write to the target now (sessions, workers, jobs), in words; empty: nobody is seen.
        Read-only."""

    @abstractmethod
    def end_statements(self) -> None:
        """End what our sessions run on the server now, within 5 s."""

    def abort_connections(self) -> None:  # noqa: B027
        """Abort our connections to a server that answers no more: who waits for it then gets a lost connection."""
