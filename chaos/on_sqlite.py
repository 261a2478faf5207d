"""SQLite in the matrix: a file in a folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copyfile, rmtree

from sqlalchemy import URL

from tests.engines.lab import Application
from tests.engines.lab_sqlite import SQLiteApplication, SQLiteLab

from .target import DATABASE, LEDGER, Settings, Target

LEDGER_ROWS = (
    "CREATE TABLE ledger (id INTEGER PRIMARY KEY, word TEXT NOT NULL)",
    (
        f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {LEDGER})"
        " INSERT INTO ledger SELECT i, 'row ' || i FROM n"
    ),
)


class OnSQLite(Target):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, damaged in (("whole", False), ("damaged", True)):
            made = SQLiteLab(folder / name)
            made.fill()
            made.script(*LEDGER_ROWS)
            if damaged:
                made.damage_index()
        self.lab: SQLiteLab = SQLiteLab(folder / DATABASE)

    @property
    def url(self) -> URL:
        return self.lab.url

    @property
    def backups(self) -> Path:
        return self.lab.folder

    def fresh(self, damaged: bool, other: bool) -> None:
        rmtree(self.folder / DATABASE)
        self.lab = SQLiteLab(self.folder / DATABASE)
        copyfile(self.folder / ("damaged" if damaged else "whole") / "data" / "shop.db", self.lab.path)
        self.lab.path.chmod(0o640)
        with closing(sqlite3.connect(self.lab.path)) as connection:
            connection.execute(f"PRAGMA journal_mode = {'wal' if other else 'delete'}")

    def settings(self) -> Settings:
        status = self.lab.path.stat()
        with closing(sqlite3.connect(self.lab.path, timeout=1)) as connection:
            found: Settings = {
                name: connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "user_version", "application_id", "page_size", "auto_vacuum", "encoding")
            }
            objects = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'")
            found["objects"] = sorted(objects.fetchall())
        found["rights"] = (oct(status.st_mode), status.st_uid, status.st_gid)
        journals = ("shop.db-wal", "shop.db-shm")
        # An empty journal is what SQLite leaves when an application has just written.
        found["files"] = sorted(p.name for p in self.lab.path.parent.iterdir() if p.name not in journals)
        return found

    def contents(self) -> Settings:
        return {
            table: self.lab.sql(
                f"SELECT count(*), sum(id), sum(length({text}) * id), min({text}), max({text}) FROM {table} NOT INDEXED"
            )
            for table, text in (("customers", "name"), ("orders", "note"), ("orders", "status"))
        }

    @contextmanager
    def client(self) -> Iterator[Application]:
        # As long as one statement: an open connection keeps everybody from the lock of a file in WAL mode.
        with closing(sqlite3.connect(self.lab.path, timeout=0.1, isolation_level=None)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield SQLiteApplication(connection)

    def kept(self) -> set[int]:
        found: set[int] = set()
        for image in self.lab.path.parent.glob("shop.db.dbm*.image"):
            with closing(sqlite3.connect(f"file:{image}?immutable=1", uri=True)) as connection:
                found |= {row[0] for row in connection.execute("SELECT id FROM ledger")}
        return found

    def close(self) -> None:
        rmtree(self.folder, ignore_errors=True)
