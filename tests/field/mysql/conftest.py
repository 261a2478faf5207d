"""The servers of these cases: those of the engine's own tests."""

from tests.engines.mariadb.conftest import family_lab, lab, mysql_server, server

__all__ = ["family_lab", "lab", "mysql_server", "server"]
