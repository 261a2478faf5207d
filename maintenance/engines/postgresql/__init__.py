"""PostgreSQL 12 to 18, over SQLAlchemy Core and psycopg2, with the server's own programs for backups."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import URL

from ..base import Engine
from ..values import Limits, Tag
from .access_gate import PostgresGate
from .actions import PostgresActions
from .backup import PostgresBackups
from .benchmark import PostgresBenchmark
from .dead_man_switch import PostgresSwitch
from .diagnosis import PostgresDiagnostics
from .fingerprints import Fingerprints
from .image import Images
from .maintenance_lock import PostgresLock
from .native_programs import NativePrograms
from .planning import PostgresPlanner
from .privileges import PostgresPrivileges
from .rehearsal import PostgresRehearsal
from .repair.system_catalogs import SystemCatalogs
from .restore import Restores
from .rollback import PostgresRollback
from .sessions import PostgresSessions
from .side_databases import SideDatabases
from .structure import Structure
from .target import TargetDatabase
from .verification import PostgresVerifier


class PostgreSQL(Engine):
    """One database of a PostgreSQL server."""

    name: ClassVar[str] = "postgresql"

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url.set(drivername="postgresql+psycopg2"), tag, limits)
        self.target = target = TargetDatabase(self.url, tag, limits, self.stopping)
        programs, sides = NativePrograms(target), SideDatabases(target)
        fingerprints, structure = Fingerprints(target), Structure(target)
        catalogs = SystemCatalogs(target, structure)
        restores = Restores(target, sides, programs, fingerprints)
        self.sessions = PostgresSessions(target)
        self.lock = lock = PostgresLock(target)
        self.gate = gate = PostgresGate(target, lock)
        self.switch = PostgresSwitch(target, lock, gate)
        self.privileges = privileges = PostgresPrivileges(target)
        self.diagnostics = PostgresDiagnostics(target, structure, catalogs, privileges)
        self.planner = PostgresPlanner()
        images = Images(target, lock, sides, programs, fingerprints, restores)
        self.backups = PostgresBackups(target, programs, fingerprints, images)
        self.actions = PostgresActions(target, lock, structure, catalogs)
        self.verifier = PostgresVerifier(target, structure, fingerprints)
        self.rollback = PostgresRollback(target, lock, gate, sides, programs, restores)
        self.benchmark = PostgresBenchmark(target)
        self.rehearsal = PostgresRehearsal(target, sides, programs, self.backups, restores)
        self._lock = lock

    def close(self) -> None:
        """See Engine.close."""
        self._lock.close()
        self.target.close()
