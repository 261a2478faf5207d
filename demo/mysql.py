"""A private MySQL server for the tests; its programs come from `deploy/mysql.sh`."""

from __future__ import annotations

from .private_server import PrivateServer, ServerFailed, needed

__all__ = ["ServerFailed", "ThrowawayMySQL"]


class ThrowawayMySQL(PrivateServer):
    """The folder that `deploy/mysql.sh` prints must be at the head of PATH, with its `bin`."""

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

    def installing(self) -> list[str]:
        return [
            needed(self.program),
            "--no-defaults",
            "--initialize-insecure",
            f"--datadir={self.data}",
            "--innodb-redo-log-capacity=16M",
        ]
