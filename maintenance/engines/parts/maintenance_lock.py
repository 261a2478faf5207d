"""One console at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from sqlalchemy import URL

from ..errors import Unable
from ..messages import Message, msg
from ..values import Tag

AT_WORK_ELSEWHERE = msg("another installation of this console is at work on it; wait until that has ended")
CLOSED_BY_ANOTHER = msg(
    "another installation of this console closed it and has not opened it again; it has to be ended or released there"
)


class MaintenanceLock(ABC):
    """The target's own mutual exclusion between consoles, and the fencing off of an earlier worker."""

    url: URL
    tag: Tag
    assert_lease: Callable[[], object] = staticmethod(lambda: None)
    """Called before a lock that was lost on the target is taken again; raises when another worker has the run."""

    @abstractmethod
    def acquire(self) -> int:
        """End every session of this run target that carries another token, and take the lock until the engine closes.

        Return how many sessions were ended. Raises Transient when somebody else's maintenance holds the lock.
        """

    @abstractmethod
    def is_held_elsewhere(self) -> bool:
        """Whether another installation of this console holds the lock now. Read-only."""

    @abstractmethod
    def mark(self) -> Mapping[str, object] | None:
        """Return what the mark of a cut on the target says; None: there is none of ours. Read-only."""

    def fence(self) -> int:
        """Acquire the lock, as `acquire` does. Raises Unable when another installation left its mark."""
        ended = self.acquire()
        if self._is_marked_by_another():
            raise Unable("taking over", self.url.database or "", CLOSED_BY_ANOTHER)
        return ended

    def held_by_other_installation(self) -> Message | None:
        """Return what another installation does with the target, or left on it; None: nothing. Read-only."""
        if self.is_held_elsewhere():
            return AT_WORK_ELSEWHERE
        return CLOSED_BY_ANOTHER if self._is_marked_by_another() else None

    def _is_marked_by_another(self) -> bool:
        mark = self.mark()
        return mark is not None and self.tag.is_anothers(mark)
