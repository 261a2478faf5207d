"""PostgreSQL in the matrix: a private server, the database copied from a template for each case."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree

from sqlalchemy import URL

from tests.engines.lab import Application
from tests.engines.lab_postgresql import PostgreSQLApplication, PostgreSQLLab, PostgreSQLServer

from .target import DATABASE, LEDGER, Settings, Target

SESSIONS_END_SECONDS = 5.0


class OnPostgreSQL(Target):
    def __init__(self, folder: Path) -> None:
        self.folder, self.stack = folder, ExitStack()
        self.server = self.stack.enter_context(PostgreSQLServer.opened(folder))
        self.account = "shop_app"
        for name, damaged in (("whole", False), ("damaged", True)):
            self.server.run("postgres", f"CREATE DATABASE {name}")
            self.server.run(name, "GRANT ALL ON SCHEMA public TO PUBLIC")
            (folder / name).mkdir()
            made = PostgreSQLLab(self.server, name, folder / name)
            made.fill()
            made.sql("CREATE TABLE ledger (id int PRIMARY KEY, word text NOT NULL)")
            made.sql(f"INSERT INTO ledger SELECT i, 'row ' || i FROM generate_series(1, {LEDGER}) i")
            made.sql("GRANT ALL ON ledger TO shop_app")
            if damaged:
                made.damage_index()
        (folder / DATABASE).mkdir()
        self.lab: PostgreSQLLab = PostgreSQLLab(self.server, DATABASE, folder / DATABASE)

    @property
    def url(self) -> URL:
        return self.lab.url

    @property
    def backups(self) -> Path:
        return self.folder / DATABASE

    def fresh(self, damaged: bool, other: bool) -> None:
        self.account = "postgres" if other else "shop_app"
        for row in self.server.run("postgres", "SELECT datname FROM pg_database"):
            if str(row[0]) not in ("postgres", "template0", "template1", "whole", "damaged"):
                self.server.run("postgres", f'ALTER DATABASE "{row[0]}" ALLOW_CONNECTIONS true')
                self.server.run("postgres", f'DROP DATABASE "{row[0]}" WITH (FORCE)')
        copy = "STRATEGY file_copy" if self.server.connect("postgres").server_version >= 150000 else ""
        template = "damaged" if damaged else "whole"
        self.server.run("postgres", f"CREATE DATABASE {DATABASE} TEMPLATE {template} {copy} CONNECTION LIMIT 40")
        for statement in (
            f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {DATABASE} TO shop_app",
            f"GRANT ALL ON DATABASE {DATABASE} TO shop_owner",
            f"ALTER DATABASE {DATABASE} SET work_mem = '5MB'",
            f"COMMENT ON DATABASE {DATABASE} IS 'the shop''s own'",
        ):
            self.server.run("postgres", statement)
        # A copied database has no statistics of its own.
        self.server.run(DATABASE, "ANALYZE")
        self.empty_backups()

    def settings(self) -> Settings:
        ask = self.server.run
        found: Settings = {
            "database": ask(
                "postgres",
                "SELECT datname, pg_get_userbyid(datdba), encoding, datcollate, datctype, datistemplate, datallowconn,"
                " datconnlimit, datacl::text, shobj_description(oid, 'pg_database'),"
                " (SELECT setconfig::text FROM pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0)"
                f" FROM pg_database d WHERE datname = '{DATABASE}'",
            ),
            "databases": sorted(str(row[0]) for row in ask("postgres", "SELECT datname FROM pg_database")),
            "roles": sorted(
                map(str, ask("postgres", "SELECT rolname, rolcanlogin, rolconnlimit, rolconfig::text FROM pg_roles"))
            ),
            "server": ask("postgres", "SELECT name, setting FROM pg_settings WHERE source = 'configuration file'"),
            "slots": ask("postgres", "SELECT slot_name FROM pg_replication_slots"),
            "prepared": ask("postgres", "SELECT gid FROM pg_prepared_xacts"),
            "sessions": self._sessions(),
        }
        found["schemas"] = ask(
            DATABASE, "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1"
        )
        found["extensions"] = ask(DATABASE, "SELECT extname FROM pg_extension ORDER BY 1")
        found["objects"] = ask(
            DATABASE,
            "SELECT n.nspname, c.relname, c.relkind, c.relacl::text, c.reloptions::text, c.relpersistence,"
            " pg_get_userbyid(c.relowner), coalesce(i.indisvalid, true)"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " LEFT JOIN pg_index i ON i.indexrelid = c.oid"
            " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' ORDER BY 1, 2",
        )
        found["comments"] = ask(
            DATABASE,
            "SELECT classoid::regclass::text, objoid::regclass::text, objsubid, description FROM"
            " pg_description WHERE objoid >= 16384 ORDER BY 1, 2, 3",
        )
        found["indexes"] = ask(DATABASE, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
        return found

    def _sessions(self) -> list[tuple[object, ...]]:
        """Those of the console, which end a moment after their process."""
        until = time.monotonic() + SESSIONS_END_SECONDS
        while True:
            left = self.server.run(
                "postgres",
                "SELECT application_name, datname, query FROM pg_stat_activity WHERE application_name ~ '^dbmaint'",
            )
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.1)

    def contents(self) -> Settings:
        return {
            table: self.lab.sql(
                f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY id || ''))::text FROM {table} t"
            )
            for table in ("customers", "orders")
        }

    @contextmanager
    def client(self) -> Iterator[Application]:
        connection = self.server.connect(DATABASE, self.account)
        try:
            yield PostgreSQLApplication(connection)
        finally:
            connection.close()

    def close(self) -> None:
        self.stack.close()
        rmtree(self.folder, ignore_errors=True)
