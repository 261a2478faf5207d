"""MariaDB in the matrix: a private server, the schema filled anew for each case."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from typing import ClassVar

from sqlalchemy import URL

from tests.engines.lab import Application
from tests.engines.lab_mariadb import MariaDBApplication, MariaDBLab

from .target import DATABASE, LEDGER, Settings, Target

SESSIONS_END_SECONDS = 5.0
OF_THE_SERVER = "('information_schema', 'performance_schema', 'mysql', 'sys')"
CHANGES_BY_ITSELF = ("gtid", "timestamp", "innodb_buffer_pool_size", "last_", "rand_", "pseudo_", "error_count")


class OnMariaDB(Target):
    labs: ClassVar[type[MariaDBLab]] = MariaDBLab
    options: ClassVar[Mapping[str, str]] = {"event-scheduler": "ON"}

    def __init__(self, folder: Path) -> None:
        self.folder, self.stack = folder, ExitStack()
        started = self.stack.enter_context(self.labs.started(folder, self.options))
        self.lab: MariaDBLab = self.labs(started.server, folder, DATABASE)
        self.lab.url = started.server.url(DATABASE)
        self.backups.mkdir()
        for user, host in self.root("SELECT user, host FROM mysql.user WHERE host NOT IN ('localhost', '')"):
            # MariaDB spells out the entry of an account at its first change.
            self.root(f"ALTER USER '{user}'@'{host}' ACCOUNT LOCK")
            self.root(f"ALTER USER '{user}'@'{host}' ACCOUNT UNLOCK")

    @property
    def url(self) -> URL:
        return self.lab.url

    @property
    def backups(self) -> Path:
        return self.lab.folder

    def root(self, statement: str) -> list[tuple[object, ...]]:
        with self.lab._root() as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall() or ()]

    def fresh(self, damaged: bool, other: bool) -> None:
        for row in self.root(
            f"SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN {OF_THE_SERVER}"
        ):
            self.root(f"DROP DATABASE `{row[0]}`")
        account = f"'{self.lab.account}'@'127.0.0.1'"
        for statement in (
            f"CREATE DATABASE `{DATABASE}` CHARACTER SET utf8mb4",
            f"DROP USER IF EXISTS {account}, 'left'@'127.0.0.1'",
            f"CREATE USER {account} IDENTIFIED BY 'app-secret' WITH MAX_USER_CONNECTIONS 20",
            f"GRANT ALL ON `{DATABASE}`.* TO {account}",
            "CREATE USER 'left'@'127.0.0.1' IDENTIFIED BY 'gone' ACCOUNT LOCK",
            f"GRANT SELECT ON `{DATABASE}`.* TO 'left'@'127.0.0.1'",
        ):
            self.root(statement)
        self.lab.fill()
        for statement in (
            "CREATE TABLE ledger (id INT PRIMARY KEY, word VARCHAR(40) NOT NULL)",
            f"INSERT INTO ledger SELECT seq, CONCAT('row ', seq) FROM {self.lab.numbers(LEDGER)}",
            "CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY STARTS NOW() + INTERVAL 1 DAY DO SET @nothing = 1",
            "CREATE EVENT asleep ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM ledger WHERE id < -1",
        ):
            self.lab.sql(statement)
        if damaged:
            self.lab.damage_index()
        self.empty_backups()

    def settings(self) -> Settings:
        ask = self.root
        variables = [
            (str(name), value) for name, value in ask("SHOW GLOBAL VARIABLES")
            if not str(name).startswith(CHANGES_BY_ITSELF)
        ]  # fmt: skip
        return {
            "sessions": self._sessions(),
            "schemas": sorted(ask("SELECT schema_name, default_character_set_name FROM information_schema.schemata")),
            "accounts": self._accounts(),
            "grants": sorted(map(str, ask("SELECT * FROM mysql.db"))),
            "events": sorted(ask("SELECT event_schema, event_name, status, definer FROM information_schema.events")),
            "objects": sorted(
                ask(
                    "SELECT table_schema, table_name, table_type, engine, table_comment, create_options"
                    f" FROM information_schema.tables WHERE table_schema NOT IN {OF_THE_SERVER}"
                ),
                key=str,
            ),
            "comments": sorted(
                ask(
                    "SELECT table_schema, table_name, table_comment FROM information_schema.tables"
                    f" WHERE table_schema NOT IN {OF_THE_SERVER} AND table_comment <> ''"
                )
            ),
            "prepared": ask("XA RECOVER"),
            "routines": sorted(
                ask(
                    "SELECT routine_schema, routine_name FROM information_schema.routines"
                    f" WHERE routine_schema NOT IN {OF_THE_SERVER}"
                )
            ),
            "variables": variables,
            "files": sorted(p.name for p in (self.lab.server.data / DATABASE).iterdir()),
        }

    def _accounts(self) -> list[tuple[object, ...]]:
        rows = self.root("SELECT user, host, priv FROM mysql.global_priv")
        return sorted((str(user), str(host), without_times(str(entry))) for user, host, entry in rows)

    def _sessions(self) -> list[tuple[object, ...]]:
        until = time.monotonic() + SESSIONS_END_SECONDS
        while True:
            left = self.root("SELECT user, info FROM information_schema.processlist WHERE user = 'dbmaint'")
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.1)

    def contents(self) -> Settings:
        return {
            table: self.lab.sql(
                f"SELECT count(*), sum(crc32(concat_ws('|', {columns}))) FROM {table} FORCE INDEX (PRIMARY)"
            )
            for table, columns in (("customers", "id, name, city"), ("orders", "id, customer_id, status, note"))
        }

    @contextmanager
    def client(self) -> Iterator[Application]:
        connection = self.lab.app_connection()
        try:
            yield MariaDBApplication(connection)
        finally:
            try:
                connection.close()  # type: ignore[no-untyped-call]
            except Exception:
                pass

    def close(self) -> None:
        self.stack.close()
        rmtree(self.folder, ignore_errors=True)


def without_times(privileges: str) -> str:
    """The entry of an account without the moment of its last change."""
    entry = json.loads(privileges)
    entry.pop("password_last_changed", None)
    for name, without in (("account_locked", False), ("max_user_connections", 0)):
        if entry.get(name) == without:
            entry.pop(name)
    return json.dumps(entry, sort_keys=True)
