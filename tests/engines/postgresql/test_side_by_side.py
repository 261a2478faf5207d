"""Pieces of work beside each other on PostgreSQL: one must not wait for the lock of another."""

from __future__ import annotations

import pytest

from maintenance.engines.messages import msg
from maintenance.engines.values import Action, Limits
from tests.engines.lab_postgresql import PostgreSQLLab


@pytest.fixture
def lab(lab: PostgreSQLLab) -> PostgreSQLLab:
    lab.fill()
    return lab


def test_work_on_one_table_does_not_wait_for_the_rewrite_of_another(lab: PostgreSQLLab) -> None:
    """Asking for the size of a table waits for its lock, so only the table's own size may be asked for."""
    rewriting = lab.server.connect(lab.name)
    rewriting.autocommit = False
    try:
        with rewriting.cursor() as cursor:
            cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        with lab.engine(limits=Limits(jobs=2, lock_seconds=1)) as engine:
            done = engine.actions.perform(
                Action("public.customers", "vacuum_full", msg("because"), msg("none"), 1, 0), False
            )
        assert done.bytes_after
    finally:
        rewriting.close()
