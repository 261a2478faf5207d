"""SQLite's lab: every database is a file in a temporary folder; no server is started."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL

from maintenance.engines.base import Engine
from maintenance.engines.sqlite import SQLite
from tests.engines.lab import Application, Lab

TIMEOUT = 0.1
"""Seconds an application waits for a lock."""


class SQLiteApplication(Application):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        return self.connection.execute(statement).fetchall()


class SQLiteServer:
    """Stands where the other labs have a server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def fresh(self) -> SQLiteLab:
        self.count += 1
        return SQLiteLab(self.folder / f"shop{self.count}")


class SQLiteLab(Lab):
    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[SQLiteServer]:
        yield SQLiteServer(folder)

    def __init__(self, place: Path, journal_mode: str = "delete") -> None:
        data = place / "data"
        self.folder = place / "backups"
        data.mkdir(parents=True)
        self.folder.mkdir()
        self.path = data / "shop.db"
        self.url = URL.create("sqlite", database=str(self.path))
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(f"PRAGMA journal_mode = {journal_mode}")
            connection.execute("PRAGMA user_version = 7")

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.path, timeout=TIMEOUT, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    def script(self, *statements: str) -> None:
        """Several statements in one transaction."""
        with closing(sqlite3.connect(self.path, timeout=TIMEOUT, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            for statement in statements:
                connection.execute(statement)
            connection.execute("COMMIT")

    @contextmanager
    def application(self) -> Iterator[SQLiteApplication]:
        """Let in means: it can read. Opening an SQLite file alone reads nothing."""
        with closing(sqlite3.connect(self.path, timeout=TIMEOUT, isolation_level=None)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            yield SQLiteApplication(connection)

    def fill(self) -> None:
        self.script(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT)",
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id),"
            " status TEXT NOT NULL, note TEXT)",
            "CREATE INDEX orders_status ON orders (status)",
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
            " INSERT INTO customers SELECT i, 'customer ' || i, 'city ' || (i % 37) FROM n",
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
            " INSERT INTO orders SELECT i, 1 + i % 2000, 'status ' || (i % 50),"
            " 'note ' || i || ' ' || hex(zeroblob(60)) FROM n",
            # Spread over all pages, so that hardly any page becomes free as a whole.
            "DELETE FROM orders WHERE id % 5 < 3",
        )

    def difficult(self) -> list[str]:
        self.script(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE COLLATE NOCASE)",
            'CREATE TABLE "Mixed Case" (id INTEGER PRIMARY KEY, "Quoted ""Column""" TEXT, n INTEGER,'
            " twice INTEGER GENERATED ALWAYS AS (n * 2) STORED, thrice INTEGER AS (n * 3))",
            'CREATE TABLE "注文" ("番号" INTEGER PRIMARY KEY, "顧客" INTEGER REFERENCES customers ON DELETE CASCADE,'
            " \"備考\" TEXT DEFAULT 'なし')",
            'CREATE TABLE "order" ("select" TEXT, "from" REAL, amount NUMERIC CHECK (amount > 0))',
            "CREATE TABLE without_rowid (country TEXT, code TEXT, label TEXT, PRIMARY KEY (code, country))"
            " WITHOUT ROWID",
            "CREATE TABLE typed (id INTEGER PRIMARY KEY, payload BLOB, weight REAL) STRICT",
            "CREATE TABLE no_key (a, b)",
            "CREATE TABLE empty (id INTEGER PRIMARY KEY AUTOINCREMENT)",
            "CREATE VIRTUAL TABLE letters USING fts5(body)",
            "CREATE VIRTUAL TABLE places USING rtree(id, west, east, +label)",
            "CREATE TABLE log (at TEXT, what TEXT)",
            'CREATE INDEX "Index on 注文" ON "注文" ("顧客" DESC)',
            "CREATE INDEX partly ON no_key (a) WHERE b IS NOT NULL",
            "CREATE INDEX computed ON customers (length(name))",
            'CREATE VIEW "総数" AS SELECT count(*) AS n FROM "注文"',
            "CREATE TRIGGER customers_log AFTER INSERT ON customers BEGIN"
            " INSERT INTO log (at, what) VALUES ('now', 'new ' || new.id); END",
            'CREATE TRIGGER total_write INSTEAD OF INSERT ON "総数" BEGIN'
            " INSERT INTO log (at, what) VALUES ('view', 'x'); END",
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
            " INSERT INTO customers (name) SELECT 'Name ' || i FROM n",
            "DELETE FROM customers WHERE id > 290",
            'INSERT INTO "Mixed Case" (id, "Quoted ""Column""", n) SELECT id, name, id FROM customers',
            "INSERT INTO \"注文\" SELECT id, id, '備考' || id FROM customers",
            'INSERT INTO "order" SELECT name, id / 7.0, id FROM customers',
            "INSERT INTO without_rowid SELECT 'jp', name, hex(zeroblob(id)) FROM customers",
            "INSERT INTO typed SELECT id, zeroblob(id * 40), id FROM customers",
            "INSERT INTO no_key SELECT id, CASE WHEN id % 2 THEN NULL ELSE name END FROM customers",
            "INSERT INTO no_key SELECT * FROM no_key",
            "INSERT INTO letters SELECT 'Dear ' || name FROM customers",
            "INSERT INTO places SELECT id, id, id + 0.5, name FROM customers",
            # A column that the rows before it do not have on the disk.
            "ALTER TABLE log ADD COLUMN level INTEGER DEFAULT 3",
        )
        shadows = ["letters_config", "letters_content", "letters_data", "letters_docsize", "letters_idx"]
        shadows += ["places_node", "places_parent", "places_rowid"]
        quoted = ['"Mixed Case"', '"注文"', '"order"']
        return [*quoted, "customers", "empty", "log", "no_key", "typed", "without_rowid", *shadows]

    def damage_index(self) -> str:
        leaves = self.pages("orders_status", "leaf")
        self.overwrite(leaves[len(leaves) // 2], b"\xff")
        return "orders"

    def damage_table(self) -> str:
        leaves = self.pages("orders", "leaf")
        self.overwrite(leaves[len(leaves) // 2], b"\0")
        return "orders"

    def under_cut(self, engine: Engine, statement: str) -> None:
        """Through the engine's own lock: nobody else gets in."""
        assert isinstance(engine, SQLite)
        with engine.file.working("spoiling", self.path.name) as connection:
            connection.execute(statement)

    # -- the file itself -----------------------------------------------------------------------------------

    def pages(self, tree: str, kind: str) -> list[int]:
        """Page numbers of a table or index, in order of its keys."""
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY path", (tree, kind)
            )
            return [int(row[0]) for row in rows]

    def overwrite(self, page: int, byte: bytes) -> None:
        size = int.from_bytes(self.path.read_bytes()[16:18], "big")
        self.write((page - 1) * size, byte * size)

    def write(self, offset: int, data: bytes) -> None:
        with open(self.path, "r+b") as file:
            file.seek(offset)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
