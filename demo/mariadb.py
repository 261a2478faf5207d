"""A private MariaDB server for the demo and the tests."""

from __future__ import annotations

from .private_server import PrivateServer, ServerFailed, needed, program

__all__ = ["ServerFailed", "ThrowawayMariaDB", "missing_programs"]


def missing_programs() -> list[str]:
    """Programs a private server needs that are not on PATH (or in /usr/sbin)."""
    return [name for name in ("mariadbd", "mariadb-install-db", "setpriv") if program(name) is None]


class ThrowawayMariaDB(PrivateServer):
    program = "mariadbd"
    usual = {
        "innodb-buffer-pool-size": "32M",
        "innodb-log-file-size": "16M",
        "innodb-fast-shutdown": "1",
        "performance-schema": "OFF",
        "event-scheduler": "OFF",
        "max-connections": "80",
    }

    def installing(self) -> list[str]:
        return [
            needed("mariadb-install-db"),
            "--no-defaults",
            "--force",
            f"--datadir={self.data}",
            # Two installs at once would meet in the system's own.
            f"--tmpdir={self.folder / 'tmp'}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--innodb-log-file-size=16M",
        ]
