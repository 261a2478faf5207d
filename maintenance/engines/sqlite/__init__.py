"""SQLite: one file, no server. Other processes are kept out by the file's own lock."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from sqlalchemy import URL

from ..base import Engine
from ..values import Limits, Tag
from .access_gate import FileGate
from .actions import FileActions
from .backup import FileBackups
from .benchmark import FileBenchmark
from .dead_man_switch import NullSwitch
from .diagnosis import FileDiagnostics
from .maintenance_lock import FileLock
from .planning import FilePlanner
from .privileges import FilePrivileges
from .rehearsal import FileRehearsal
from .rollback import FileRollback
from .sessions import FileSessions
from .target import DatabaseFile
from .verification import FileVerifier


class SQLite(Engine):
    """One database file. Work under the cut shares the one connection that holds it, in turn.

    Use one object for a run target: a second one in the same process is shut out like anybody else.
    """

    name: ClassVar[str] = "sqlite"

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url, tag, limits)
        path = Path(url.database or "")
        # Sides and locks belong to the file, whatever link leads to it.
        file = DatabaseFile(path.resolve() if path.is_absolute() else path, tag, limits, self.stopping)
        self.file = file
        self.sessions = FileSessions(file)
        self.lock = lock = FileLock(file, url, self)
        self.gate = gate = FileGate(file, lock)
        self.switch = NullSwitch(file.name)
        self.diagnostics = FileDiagnostics(file)
        self.planner = FilePlanner(file.name)
        self.backups = FileBackups(file)
        self.actions = FileActions(file)
        self.verifier = FileVerifier(file)
        self.rollback = FileRollback(file, gate)
        self.benchmark = FileBenchmark(file)
        self.privileges = FilePrivileges(file)
        self.rehearsal = FileRehearsal(file, url)
        self._file_lock = lock

    def close(self) -> None:
        """See Engine.close."""
        self.file.give_back()
        self._file_lock.release()
