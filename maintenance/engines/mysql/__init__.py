"""MariaDB 10.6 and later, MySQL 8.0 and later."""

from __future__ import annotations

from typing import ClassVar

import MySQLdb
from sqlalchemy import URL

from ..base import Engine
from ..errors import EngineError
from ..values import Limits, Tag
from . import address
from .access_gate import ServerGate
from .actions import ServerActions
from .backup import ServerBackups
from .benchmark import ServerBenchmark
from .capabilities import MARIADB, MYSQL, Capabilities
from .dead_man_switch import ServerSwitch
from .diagnosis import ServerDiagnostics
from .maintenance_lock import ServerLock
from .planning import ServerPlanner
from .privileges import ServerPrivileges
from .rollback import ServerRollback
from .sessions import ServerSessions
from .target import PINNED, Server
from .verification import ServerVerifier

LOOKING_SECONDS = 10


class Family(Engine):
    """One schema of a server of either product."""

    capabilities: ClassVar[Capabilities]
    lock: ServerLock

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url, tag, limits)
        self.server = server = Server(url, tag, limits, self.stopping, self.capabilities)
        self.sessions = ServerSessions(server)
        self.lock = ServerLock(server)
        self.gate = ServerGate(server)
        self.switch = ServerSwitch(server)
        self.diagnostics = ServerDiagnostics(server)
        self.planner = ServerPlanner()
        self.backups = ServerBackups(server)
        self.actions = ServerActions(server)
        self.verifier = ServerVerifier(server)
        self.rollback = ServerRollback(server)
        self.benchmark = ServerBenchmark(server)
        self.privileges = ServerPrivileges(server)

    def close(self) -> None:
        """See Engine.close."""
        self.lock.close()
        self.server.close()


class MariaDB(Family):
    """A schema of a MariaDB server."""

    name = "mariadb"
    capabilities = MARIADB


class MySQL(Family):
    """A schema of a MySQL server."""

    name = "mysql"
    capabilities = MYSQL


def open_server(url: URL, tag: Tag, limits: Limits) -> Engine:
    """MariaDB or MySQL. The scheme mysql stands for both: then the server is asked.

    Does not answer now: MySQL, whose every verb raises Unreachable as MariaDB's would.
    """
    if url.get_backend_name() == "mariadb":
        return MariaDB(url, tag, limits)
    try:
        connection = address.connect(url, LOOKING_SECONDS, f"SET SESSION {PINNED}")
    except (EngineError, MySQLdb.Error):
        return MySQL(url, tag, limits)
    try:
        is_mariadb = "mariadb" in str(connection.get_server_info()).lower()  # type: ignore[no-untyped-call]
    finally:
        connection.close()  # type: ignore[no-untyped-call]
    return MariaDB(url, tag, limits) if is_mariadb else MySQL(url, tag, limits)


__all__ = ["Family", "MariaDB", "MySQL", "open_server"]
