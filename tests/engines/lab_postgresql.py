"""A throwaway PostgreSQL server for a test session, with a database for each test."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

import psycopg2
from sqlalchemy import make_url

from demo.postgresql import ThrowawayPostgreSQL
from maintenance.engines.base import Engine
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.postgresql.database_access import access_of

from .lab import Application, Lab

PAGE = 8192


class PostgreSQLServer:
    """`opened` starts it once; `fresh` makes a new database."""

    def __init__(self, server: ThrowawayPostgreSQL, folder: Path) -> None:
        self.server, self.folder = server, folder
        self._numbers = count(1)

    @classmethod
    @contextmanager
    def opened(
        cls,
        folder: Path,
        with_checksums: bool = False,
        settings: Mapping[str, str] | None = None,
        programs: Path | None = None,
    ) -> Iterator[Self]:
        # Statistics and bloat must stay as a test makes them.
        settings = {"autovacuum": "off", "max_prepared_transactions": "4", **(settings or {})}
        server = ThrowawayPostgreSQL(folder / "server", with_checksums, settings, programs)
        server.start()
        try:
            opened = cls(server, folder)
            opened.run("postgres", "CREATE ROLE shop_app LOGIN")
            opened.run("postgres", "CREATE ROLE shop_owner LOGIN CREATEDB")
            opened.run("postgres", "CREATE ROLE plain_owner LOGIN")
            opened.run("postgres", "GRANT pg_signal_backend TO shop_owner, plain_owner")
            yield opened
        finally:
            server.stop("immediate")
            shutil.rmtree(server.folder, ignore_errors=True)

    def fresh(self) -> PostgreSQLLab:
        number = next(self._numbers)
        name = f"shop{number}"
        self.run("postgres", f"CREATE DATABASE {name}")
        self.run(name, "GRANT ALL ON SCHEMA public TO PUBLIC")
        files = self.folder / f"files{number}"
        files.mkdir()
        return PostgreSQLLab(self, name, files)

    @contextmanager
    def lent(self) -> Iterator[PostgreSQLLab]:
        """A fresh database, which is dropped afterwards with all that a maintenance made beside it."""
        made = self.fresh()
        try:
            yield made
        finally:
            with suppress(psycopg2.Error):
                self._drop_like(made.name)
            shutil.rmtree(made.folder, ignore_errors=True)

    def _drop_like(self, name: str) -> None:
        like = f"WHERE datname = '{name}' OR starts_with(datname, '{name}_dbm')"
        for (database,) in self.run("postgres", f"SELECT datname FROM pg_database {like}"):
            self.run("postgres", f'ALTER DATABASE "{database}" IS_TEMPLATE false')
            self.run("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
            self.run("postgres", f'DROP DATABASE "{database}"')

    def follower(self, folder: Path, settings: Mapping[str, str]) -> ThrowawayPostgreSQL:
        """A replica, not started yet."""
        main = f"'host=127.0.0.1 port={self.server.port} user=postgres application_name=follower'"
        made = ThrowawayPostgreSQL(folder, settings={**self.server.settings, **settings, "primary_conninfo": main})
        made.copy_of(self.server)
        return made

    def connect(self, database: str, user: str = "postgres") -> Any:
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.server.port, user=user, dbname=database, connect_timeout=5
        )
        connection.autocommit = True
        return connection

    def run(self, database: str, statement: str, user: str = "postgres") -> list[tuple[object, ...]]:
        connection = self.connect(database, user)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


class PostgreSQLApplication(Application):
    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


class PostgreSQLLab(Lab):
    """One database `shopN` of the session's server."""

    opened = PostgreSQLServer.opened

    def __init__(self, server: PostgreSQLServer, name: str, folder: Path) -> None:
        self.server, self.name, self.folder = server, name, folder
        self.url = make_url(server.server.url(name))

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        return self.server.run(self.name, statement)

    def under_cut(self, engine: Engine, statement: str) -> None:
        """Where the database is meanwhile: hidden under another name."""
        assert isinstance(engine, PostgreSQL)
        with engine.target.control("spoiling") as connection:
            name = access_of(engine.target, connection).name
        self.server.run(name, statement)

    @contextmanager
    def application(self, user: str = "shop_app") -> Iterator[Application]:
        connection = self.server.connect(self.name, user)
        try:
            yield PostgreSQLApplication(connection)
        finally:
            connection.close()

    def fill(self) -> None:
        self.sql(
            """
            CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL);
            CREATE TABLE orders (id serial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers,
              status text NOT NULL, note text);
            INSERT INTO customers (name) SELECT 'customer ' || i FROM generate_series(1, 2000) i;
            INSERT INTO orders (customer_id, status, note)
              SELECT 1 + i % 2000, (ARRAY['new', 'paid', 'sent', 'done'])[1 + i % 4], repeat('note ' || i, 12)
                FROM generate_series(1, 20000) i;
            CREATE INDEX orders_status ON orders (status);
            DELETE FROM orders WHERE id % 10 < 6;
            GRANT ALL ON ALL TABLES IN SCHEMA public TO shop_app;
            GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO shop_app
            """
        )

    def difficult(self) -> list[str]:
        self.sql(
            """
            CREATE TABLE "Order" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "select" text, t text,
              total numeric(10, 2),
              twice numeric GENERATED ALWAYS AS (total * 2) STORED, CHECK (total >= 0));
            INSERT INTO "Order" ("select", t, total) SELECT 'x' || i, NULL, i FROM generate_series(1, 100) i;
            CREATE TABLE "顧客" ("名前" text PRIMARY KEY, data jsonb, place point);
            INSERT INTO "顧客" SELECT '顧客' || i, jsonb_build_object('n', i), point(i, i)
              FROM generate_series(1, 50) i;
            CREATE SCHEMA "Sales 50%";
            CREATE TABLE "Sales 50%"."a ""quoted"": name" (id int PRIMARY KEY, parent int REFERENCES "Order" (id),
              bytes bytea);
            INSERT INTO "Sales 50%"."a ""quoted"": name" SELECT i, i, decode(md5(i::text), 'hex')
              FROM generate_series(1, 20) i;
            CREATE TABLE "user" (id bigserial PRIMARY KEY, mail text UNIQUE, at timestamptz DEFAULT now());
            INSERT INTO "user" (mail) SELECT i || '@example.com' FROM generate_series(1, 30) i;
            CREATE TABLE measures (day date NOT NULL, value float8) PARTITION BY RANGE (day);
            CREATE TABLE measures_2024 PARTITION OF measures FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
            CREATE TABLE measures_2025 PARTITION OF measures FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
            CREATE INDEX ON measures (day);
            INSERT INTO measures SELECT date '2024-01-01' + i, i / 7.0 FROM generate_series(0, 700) i;
            CREATE TABLE empty_one (id int);
            CREATE TABLE keyless (a int, b text);
            INSERT INTO keyless SELECT i % 3, 'same' FROM generate_series(1, 30) i;
            CREATE VIEW "Big orders" AS SELECT * FROM "Order" WHERE total > 50;
            CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM "Order";
            CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN NEW.b := NEW.b || '!'; RETURN NEW; END $$;
            CREATE TRIGGER touch BEFORE INSERT ON keyless FOR EACH ROW EXECUTE FUNCTION touched();
            CREATE TYPE mood AS ENUM ('good', 'bad');
            SELECT lo_from_bytea(0, 'a large object'::bytea)
            """
        )
        return [
            'public."Order"',
            'public."顧客"',
            '"Sales 50%"."a ""quoted"": name"',
            'public."user"',
            "public.measures_2024",
            "public.measures_2025",
            "public.empty_one",
            "public.keyless",
            "public.totals",
        ]

    def path_of(self, relation: str) -> Path:
        [(path,)] = self.sql(f"SELECT pg_relation_filepath('{relation}')")
        return self.server.server.data / str(path)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The server's files may be changed in the block."""
        self.sql("CHECKPOINT")
        self.server.server.stop()
        try:
            yield
        finally:
            self.server.server.start()

    def damage_page(self, relation: str, page: int) -> None:
        """Garbage instead of a page."""
        path = self.path_of(relation)
        with self.stopped(), open(path, "r+b") as file:
            file.seek(page * PAGE)
            file.write(random.Random(1).randbytes(PAGE))

    def damage_value(self, relation: str, page: int, column_offset: int) -> None:
        """The length of the first row's value at this offset becomes absurd: reading it can end the server."""
        path = self.path_of(relation)
        with self.stopped(), open(path, "r+b") as file:
            file.seek(page * PAGE)
            content = bytearray(file.read(PAGE))
            item = next(
                entry
                for entry in (struct.unpack_from("<I", content, 24 + 4 * i)[0] for i in range(200))
                if (entry >> 15) & 3 == 1
            )
            start = item & 0x7FFF
            start += content[start + 22] + column_offset
            content[start : start + 4] = b"\xfc\xff\xff\x7f"
            file.seek(page * PAGE)
            file.write(content)

    def damage_index(self) -> str:
        self.damage_page("orders_status", 3)
        return "public.orders"

    def damage_table(self) -> str:
        self.damage_page("orders", 11)
        return "public.orders"
