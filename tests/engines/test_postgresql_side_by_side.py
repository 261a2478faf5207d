"""Pieces of work beside each other on PostgreSQL: one must not wait for the lock of another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from maintenance.engines.values import Action, Limits
from maintenance.engines.words import say

from .conftest import short_folder
from .lab_postgresql import PostgreSQLLab, PostgreSQLServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    folder = short_folder()
    try:
        with PostgreSQLServer.opened(folder) as opened:
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(server: PostgreSQLServer) -> PostgreSQLLab:
    made = server.fresh()
    made.fill()
    return made


def test_work_on_one_table_does_not_wait_for_the_rewrite_of_another(lab: PostgreSQLLab) -> None:
    """Asking for the size of a table waits for its lock, so only the table's own size may be asked for."""
    rewriting = lab.server.connect(lab.name)
    rewriting.autocommit = False
    try:
        with rewriting.cursor() as cursor:
            cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        with lab.engine(limits=Limits(jobs=2, lock_seconds=1)) as engine:
            done = engine.perform(Action("public.customers", "vacuum_full", say("because"), say("none"), 1, 0), False)
        assert done.bytes_after
    finally:
        rewriting.close()
