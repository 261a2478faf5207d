"""An engine: one database product and one target database, composed of the parts of `parts/`."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import ClassVar

from sqlalchemy import URL

from .parts import (
    AccessGate,
    Actions,
    Backups,
    Benchmark,
    DeadManSwitch,
    Diagnostics,
    MaintenanceLock,
    NoRehearsal,
    Planner,
    Privileges,
    Rehearsal,
    Rollback,
    Sessions,
    Verifier,
    raise_if_stopping,
)
from .values import Limits, Tag


class Engine(ABC):
    """One target database. Thread-safe: methods open their own connections unless said otherwise."""

    name: ClassVar[str]
    """As shown and stored: postgresql, mysql, mariadb or sqlite."""

    sessions: Sessions
    lock: MaintenanceLock
    gate: AccessGate
    switch: DeadManSwitch
    diagnostics: Diagnostics
    planner: Planner
    backups: Backups
    actions: Actions
    verifier: Verifier
    rollback: Rollback
    benchmark: Benchmark
    privileges: Privileges
    rehearsal: Rehearsal

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        self.url, self.tag, self.limits = url, tag, limits
        self.stopping = threading.Event()
        self._interrupting = threading.Lock()
        self.rehearsal = NoRehearsal()

    def interrupt(self) -> None:
        """End what runs now, on the server too, within 5 s. Later calls of any part raise Interrupted."""
        with self._interrupting:
            self.stopping.set()
            self.sessions.end_statements()

    def clear_interrupt(self) -> None:
        """Let the parts work again, for the rollback - after an interrupt under way, which would end that too."""
        with self._interrupting:
            self.stopping.clear()

    def raise_if_stopping(self, doing: str, object: str) -> None:
        """Call between pieces of long work. Raises Interrupted once `interrupt` was called."""
        raise_if_stopping(self.stopping, doing, object)

    @abstractmethod
    def close(self) -> None:
        """Give back connections and locks; the gate stays as it is."""
