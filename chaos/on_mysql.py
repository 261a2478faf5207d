"""MySQL's own server in the matrix, where DBMAINT_MYSQL_HOME tells its folder: what differs from MariaDB's."""

from __future__ import annotations

import os

from demo.mysql import programs
from tests.engines.lab_mysql import MySQLLab

from .on_mariadb import OnMariaDB


class OnMySQL(OnMariaDB):
    labs = MySQLLab
    # The backup of another kind needs a plugin here.
    options = {**OnMariaDB.options, "plugin-load-add": "mysql_clone.so"}

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{programs()}{os.pathsep}{os.environ['PATH']}"}

    def fresh(self, damaged: bool, other: bool) -> None:
        # Reading a damaged page ends this server; a case that did has been told as a fault.
        self.lab.server.start_again()
        super().fresh(damaged, other)

    def _accounts(self) -> list[tuple[object, ...]]:
        """By column names, without the moment of the last change."""
        names = self.root(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'mysql' AND table_name = 'user'"
            " AND column_name <> 'password_last_changed' ORDER BY ordinal_position"
        )
        columns = ", ".join(f"HEX({name})" if name == "authentication_string" else f"`{name}`" for (name,) in names)
        return sorted(self.root(f"SELECT {columns} FROM mysql.user"), key=str)
