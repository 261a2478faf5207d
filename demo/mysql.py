"""A private MySQL server for the tests; its programs come from `deploy/mysql.sh`."""

from __future__ import annotations

import os
from pathlib import Path

from .private_server import PrivateServer, ServerFailed, needed

__all__ = ["HOME", "ServerFailed", "ThrowawayMySQL", "programs"]

HOME = "DBMAINT_MYSQL_HOME"
"""Environment variable: the folder that `deploy/mysql.sh` prints."""


def programs() -> Path:
    """The folder of MySQL's own programs; raises ServerFailed where it is not told: PATH may lead to MariaDB's."""
    if HOME not in os.environ:
        raise ServerFailed(f"MySQL's own server is had where {HOME} tells its folder, as deploy/mysql.sh prints it")
    return Path(os.environ[HOME]) / "bin"


class ThrowawayMySQL(PrivateServer):
    program = "mysqld"
    usual = {
        "innodb-buffer-pool-size": "32M",
        "innodb-redo-log-capacity": "16M",
        "innodb-fast-shutdown": "1",
        "event-scheduler": "OFF",
        "max-connections": "80",
        "mysqlx": "OFF",
        "secure-file-priv": "",
    }

    def found(self) -> str:
        return needed(str(programs() / self.program))

    def installing(self) -> list[str]:
        return [
            self.found(),
            "--no-defaults",
            "--initialize-insecure",
            f"--datadir={self.data}",
            "--innodb-redo-log-capacity=16M",
        ]
