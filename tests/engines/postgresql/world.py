"""What the tests of PostgreSQL share: an engine on a lab, and clients that come again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2

from maintenance.engines import open_engine
from maintenance.engines.archive import Seal
from maintenance.engines.messages import msg
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.values import Action, Json, Limits, Tag
from tests.engines.lab_postgresql import PostgreSQLLab

PLAIN = Seal()
MARKER: Json = {"run": 1}


@contextmanager
def engine(lab: PostgreSQLLab, token: int = 1, user: str | None = None, **limits: Any) -> Iterator[PostgreSQL]:
    url = lab.url.set(username=user) if user else lab.url
    made = open_engine(url, Tag(7, token), Limits(**{"jobs": 2, "lock_seconds": 3, "cut_seconds": 8, **limits}))
    assert isinstance(made, PostgreSQL)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def hammering(lab: PostgreSQLLab, user: str) -> Iterator[list[str]]:
    """Three clients that write, and connect again whenever they are thrown out; yields their errors."""
    stop = threading.Event()
    errors: list[str] = []
    inside = set()

    def client(number: int) -> None:
        while not stop.is_set():
            with suppress(psycopg2.Error):
                try:
                    with lab.application(user) as application:
                        while not stop.is_set():
                            application.execute("INSERT INTO customers (name) VALUES ('hammer')")
                            inside.add(number)
                            time.sleep(0.005)
                except psycopg2.Error as error:
                    errors.append(str(error))
                    raise
            time.sleep(0.01)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until("all three write", lambda: len(inside) == len(threads))
        yield errors
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wait_until(what: str, true: Callable[[], object]) -> None:
    """Fails, saying what, when it does not come about in a minute."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def action(kind: str, object: str = "public.orders") -> Action:
    return Action(object, kind, msg("because"), msg("none"), 1, 0)


def owned_by(lab: PostgreSQLLab, role: str) -> None:
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO {role}")
    for table in ("customers", "orders"):
        lab.sql(f"ALTER TABLE {table} OWNER TO {role}")
