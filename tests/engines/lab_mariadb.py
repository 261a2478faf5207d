"""Throwaway MariaDB databases: one private server a test session, a fresh schema and account a test."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import MySQLdb

from demo.mariadb import ThrowawayMariaDB
from demo.private_server import PrivateServer
from tests.engines.lab import Application, Lab

PAGE = 16_384
INDEX_PAGE = 17_855
QUIET_FILES = {
    # A damaged page must wait for who reads it: nothing may read ahead of the test.
    "innodb-buffer-pool-dump-at-shutdown": "OFF",
    "innodb-buffer-pool-load-at-startup": "OFF",
    "innodb-fast-shutdown": "0",
}
LONG = "a_name_of_" + "x" * 54
LONG_COLUMN = "c" * 64
EVERYWHERE = (
    "`Kunden`",
    "`order`",
    "`with space``tick%`",
    "`顧客`",
    LONG,
    "parts",
    "computed",
    "files",
    "places",
    "hen",
    "egg",
    "empty_one",
    "keyless",
    "audit",
)
"""Canonical names of the difficult tables that every product of the family can have."""


class MariaDBApplication(Application):
    def __init__(self, connection: MySQLdb.Connection) -> None:
        self.connection = connection

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        return _run(self.connection, statement)


class MariaDBLab(Lab):
    """`opened` once a session gives the server; `fresh` gives each test its own database in it."""

    server_options: ClassVar[Mapping[str, str]] = {}
    innodb = "innodb_sys"
    """What the names of InnoDB's own lists in information_schema begin with."""

    def __init__(self, server: PrivateServer, scratch: Path, database: str) -> None:
        self.server, self.scratch, self.database = server, scratch, database
        self.folder = scratch / f"backups-{database}"

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, options: Mapping[str, str] | None = None) -> Iterator[Self]:
        """With all that an engine in this very process needs besides."""
        with cls.started(folder, options) as started:
            yield started

    @classmethod
    @contextmanager
    def started(cls, folder: Path, options: Mapping[str, str] | None = None) -> Iterator[Self]:
        server = cls.server_in(folder, {**QUIET_FILES, **cls.server_options, **(options or {})})
        try:
            server.start()
            yield cls(server, folder, "")
        finally:
            server.remove()

    @classmethod
    def server_in(cls, folder: Path, options: Mapping[str, str]) -> PrivateServer:
        return ThrowawayMariaDB(folder / "mariadb", options)

    _numbers = itertools.count(1)

    def fresh(self) -> Self:
        self.server.start_again()
        made = type(self)(self.server, self.scratch, f"shop_{next(self._numbers)}")
        made.url = self.server.url(made.database)
        made.folder.mkdir(parents=True, exist_ok=True)
        with self._root() as connection:
            _run(connection, f"CREATE DATABASE `{made.database}` CHARACTER SET utf8mb4")
            _run(connection, f"CREATE USER '{made.account}'@'127.0.0.1' IDENTIFIED BY 'app-secret'")
            _run(connection, f"GRANT ALL ON `{made.database}`.* TO '{made.account}'@'127.0.0.1'")
        return made

    @property
    def account(self) -> str:
        return f"app_{self.database}"

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with self._root(self.database) as connection:
            return _run(connection, statement)

    @contextmanager
    def application(self) -> Iterator[MariaDBApplication]:
        connection = self.app_connection()
        try:
            yield MariaDBApplication(connection)
        finally:
            try:
                connection.close()  # type: ignore[no-untyped-call]
            except MySQLdb.Error:
                pass

    def app_connection(self) -> MySQLdb.Connection:
        return MySQLdb.connect(
            host="127.0.0.1",
            port=self.server.port,
            user=self.account,
            passwd="app-secret",
            db=self.database,
            autocommit=True,
            charset="utf8mb4",
        )

    def numbers(self, last: int) -> str:
        """What a SELECT reads the column `seq` from: 1 to `last`."""
        return f"seq_1_to_{last}"

    def fill(self) -> None:
        for statement in (
            "CREATE TABLE customers (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80) NOT NULL, city VARCHAR(40))",
            (
                "CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, customer_id INT NOT NULL, status VARCHAR(20),"
                " note VARCHAR(200), KEY orders_status (status), CONSTRAINT orders_customer FOREIGN KEY (customer_id)"
                " REFERENCES customers (id)) STATS_AUTO_RECALC=0"
            ),
            (
                "INSERT INTO customers (name, city)"
                " SELECT CONCAT('Customer ', seq), ELT(1 + seq % 3, 'Berlin', '東京', NULL)"
                f" FROM {self.numbers(2000)}"
            ),
            (
                "INSERT INTO orders (customer_id, status, note) SELECT 1 + seq % 2000,"
                " CONCAT(ELT(1 + seq % 4, 'paid', 'open', 'sent', 'late'), '-', seq % 500),"
                f" CONCAT('order ', seq, ' ', REPEAT('x', 100)) FROM {self.numbers(20000)}"
            ),
            "ANALYZE TABLE customers, orders",
            "DELETE FROM orders WHERE id % 5 < 3",
        ):
            self.sql(statement)

    def difficult(self) -> list[str]:
        for statement in (*self._difficult_everywhere(), *self._difficult_here()):
            self.sql(statement)
        return [*EVERYWHERE, *self.difficult_here]

    difficult_here: ClassVar[tuple[str, ...]] = ("uuids", "aria_one", "versioned")
    """Canonical names of the tables that `_difficult_here` makes."""

    def _difficult_here(self) -> tuple[str, ...]:
        """What only this product has."""
        return (
            "CREATE TABLE uuids (id UUID PRIMARY KEY, at INET6)",
            "INSERT INTO uuids VALUES (UUID(), '::1'), (UUID(), NULL)",
            "CREATE TABLE aria_one (id INT PRIMARY KEY, t VARCHAR(20)) ENGINE=Aria",
            "INSERT INTO aria_one VALUES (1, 'one'), (2, 'two')",
            "CREATE TABLE versioned (id INT PRIMARY KEY, price INT) WITH SYSTEM VERSIONING",
            "INSERT INTO versioned VALUES (1, 10), (2, 20)",
            "UPDATE versioned SET price = 11 WHERE id = 1",
            "CREATE SEQUENCE numbers START WITH 5",
        )

    def _difficult_everywhere(self) -> tuple[str, ...]:
        return (
            "CREATE TABLE Kunden (id INT PRIMARY KEY, `Name` VARCHAR(40) COLLATE utf8mb4_bin)",
            "INSERT INTO Kunden VALUES (1, 'Ärger'), (2, NULL), (3, '')",
            (
                "CREATE TABLE `order` (id INT PRIMARY KEY, `select` VARCHAR(10), kunde INT,"
                " CONSTRAINT an_kunde FOREIGN KEY (kunde) REFERENCES Kunden (id))"
            ),
            "INSERT INTO `order` VALUES (1, 'a', 1), (2, 'b', NULL)",
            "CREATE TABLE `with space``tick%` (a INT, b INT)",
            "INSERT INTO `with space``tick%` VALUES (1, 1), (1, 1), (NULL, 2)",
            "CREATE TABLE `顧客` (`番号` INT PRIMARY KEY, `名前` TEXT)",
            "INSERT INTO `顧客` VALUES (1, '東京'), (2, '100% \\'\"')",
            f"CREATE TABLE {LONG} (id INT PRIMARY KEY, {LONG_COLUMN} INT, KEY {LONG_COLUMN} ({LONG_COLUMN}))",
            f"INSERT INTO {LONG} VALUES (1, 1)",
            (
                "CREATE TABLE parts (id INT, y INT, v VARCHAR(20), PRIMARY KEY (id, y)) PARTITION BY RANGE (y)"
                " (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)"
            ),
            f"INSERT INTO parts SELECT seq, seq % 20, CONCAT('v', seq) FROM {self.numbers(200)}",
            (
                "CREATE TABLE computed (id INT PRIMARY KEY, price DECIMAL(10,2), n INT CHECK (n >= 0),"
                " total DECIMAL(12,2) AS (price * n) STORED, twice INT AS (n * 2) VIRTUAL,"
                " hidden INT DEFAULT 7 INVISIBLE,"
                " CONSTRAINT sane CHECK (price < 1000), KEY by_twice (twice))"
            ),
            "INSERT INTO computed (id, price, n) VALUES (1, 9.99, 3), (2, NULL, 1)",
            "UPDATE computed SET hidden = 8 WHERE id = 2",
            (
                "CREATE TABLE files (id INT PRIMARY KEY AUTO_INCREMENT, body LONGBLOB, doc JSON, f FLOAT, d DOUBLE,"
                " b BIT(9), at TIMESTAMP(6) NULL, g GEOMETRY, e ENUM('x', 'y'), s SET('p', 'q'), y YEAR, t TIME(3))"
            ),
            (
                "INSERT INTO files (body, doc, f, d, b, at, g, e, s, y, t) VALUES"
                " (UNHEX('00ff0a0d2700'), '{\"a\": 1}', 0.1, 1e300, b'101', '2026-01-02 03:04:05.678901',"
                " ST_GeomFromText('POINT(1 2)'), 'y', 'p,q', 2026, '-12:34:56.789'),"
                " (REPEAT('y', 300000), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
            ),
            (
                "CREATE TABLE places (id INT PRIMARY KEY, words TEXT, at POINT NOT NULL, FULLTEXT KEY words (words),"
                " SPATIAL KEY at (at))"
            ),
            "INSERT INTO places VALUES (1, 'a quiet harbour', ST_GeomFromText('POINT(3 4)'))",
            "CREATE TABLE hen (id INT PRIMARY KEY, egg INT)",
            "CREATE TABLE egg (id INT PRIMARY KEY, hen INT, CONSTRAINT of_hen FOREIGN KEY (hen) REFERENCES hen (id))",
            "INSERT INTO hen VALUES (1, NULL)",
            "INSERT INTO egg VALUES (1, 1)",
            "UPDATE hen SET egg = 1",
            "ALTER TABLE hen ADD CONSTRAINT of_egg FOREIGN KEY (egg) REFERENCES egg (id) ON DELETE SET NULL",
            "CREATE TABLE empty_one (id INT PRIMARY KEY)",
            "CREATE TABLE keyless (a INT, b VARCHAR(10)) ENGINE=MyISAM",
            "INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (2, NULL)",
            "CREATE TABLE audit (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(40))",
            "CREATE VIEW paying AS SELECT id, `Name` FROM Kunden WHERE id > 1",
            "CREATE VIEW a_view_of_it AS SELECT id FROM paying WITH CASCADED CHECK OPTION",
            "CREATE FUNCTION doubled(x INT) RETURNS INT DETERMINISTIC RETURN x * 2",
            "CREATE PROCEDURE note_it(IN w VARCHAR(40)) BEGIN INSERT INTO audit (what) VALUES (w); END",
            f"CREATE DEFINER = '{self.account}'@'127.0.0.1' PROCEDURE theirs() SQL SECURITY DEFINER SELECT 1",
            (
                "CREATE TRIGGER kunden_ai AFTER INSERT ON Kunden FOR EACH ROW BEGIN"
                " INSERT INTO audit (what) VALUES (CONCAT('new; ', NEW.id)); END"
            ),
            "CREATE EVENT tidy ON SCHEDULE EVERY 1 DAY DO DELETE FROM audit WHERE id < 0",
            "CREATE EVENT asleep ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM audit WHERE id < -1",
        )

    def damage_index(self) -> str:
        self._flip_page("orders", "orders_status")
        return "orders"

    def damage_table(self) -> str:
        self._flip_page("orders", "PRIMARY")
        return "orders"

    # -- damage ------------------------------------------------------------------------------------

    def _flip_page(self, table: str, index: str) -> None:
        """Turns 64 bytes of the middle leaf page of this index: its checksum is wrong from now on."""
        self._wait_for_purge()
        number = self.sql(
            f"SELECT i.index_id FROM information_schema.{self.innodb}_indexes i"
            f" JOIN information_schema.{self.innodb}_tables t ON t.table_id = i.table_id"
            f" WHERE t.name = '{self.database}/{table}' AND i.name = '{index}'"
        )[0][0]
        self.server.stop()
        file = self.server.data / self.database / f"{table}.ibd"
        leaves = _leaf_pages(file, int(str(number)))
        _flip(file, leaves[len(leaves) // 2] * PAGE + 8000, 64)
        self.server.start()

    def _wait_for_purge(self) -> None:
        """Until the history is empty, or has stood still for two seconds: MySQL keeps some of it."""
        begun = moved = time.monotonic()
        before = -1
        while time.monotonic() - begun < 10 and time.monotonic() - moved < 2:
            length = self.sql("SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'")
            now = int(str(length[0][0])) if length else 0
            if now == 0:
                return
            if now != before:
                before, moved = now, time.monotonic()
            time.sleep(0.05)

    @contextmanager
    def _root(self, database: str = "") -> Iterator[MySQLdb.Connection]:
        connection = self.server.connect(database)
        try:
            yield connection
        finally:
            connection.close()  # type: ignore[no-untyped-call]


def _run(connection: Any, statement: str) -> list[tuple[object, ...]]:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        return list(cursor.fetchall() or ())
    finally:
        cursor.close()


def _leaf_pages(file: Path, index: int) -> list[int]:
    """Pages with records at level 0 of this index that the file's map says are in use: a freed page keeps its old
    content."""
    data = file.read_bytes()
    pages = [data[start : start + PAGE] for start in range(0, len(data), PAGE)]

    def number_at(page: int, offset: int, width: int) -> int:
        return int.from_bytes(pages[page][offset : offset + width], "big") if page < len(pages) else -1

    def is_free(page: int) -> bool:
        first, place = divmod(page, PAGE)
        bit = 2 * (place % 64)
        return bool(number_at(first * PAGE, 150 + place // 64 * 40 + 24 + bit // 8, 1) >> bit % 8 & 1)

    return [
        page
        for page in range(len(pages))
        if number_at(page, 24, 2) in (INDEX_PAGE, INDEX_PAGE - 1)
        and number_at(page, 64, 2) == 0
        and number_at(page, 66, 8) == index
        and number_at(number_at(page, 8, 4), 12, 4) == page
        and number_at(number_at(page, 12, 4), 8, 4) == page
        and not is_free(page)
    ]


def _flip(file: Path, offset: int, count: int) -> None:
    with open(file, "r+b") as opened:
        opened.seek(offset)
        before = opened.read(count)
        opened.seek(offset)
        opened.write(bytes(byte ^ 0xFF for byte in before))
        opened.flush()
        os.fsync(opened.fileno())
