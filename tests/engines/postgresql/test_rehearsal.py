"""The copy that a maintenance is rehearsed on: nobody waits for it, and all of it goes again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from maintenance.engines.values import Stage
from tests.engines.lab_postgresql import PostgreSQLLab
from tests.engines.postgresql.world import PLAIN, engine, wait_until

SOON = 5.0
"""Seconds within which a client is let in although a copy is being made."""
LONG = 40.0
"""Seconds that the server's own limits would let our statement wait."""


def copies(lab: PostgreSQLLab) -> list[str]:
    """Names of the databases beside it."""
    like = f"SELECT datname FROM pg_database WHERE starts_with(datname, '{lab.name}_dbm')"
    return [str(name) for (name,) in lab.server.run("postgres", like)]


def built(lab: PostgreSQLLab) -> Stage:
    """Makes the copy and removes it again."""
    with engine(lab, lock_seconds=LONG) as made:
        stage = made.rehearsal.build(lab.folder, "rehearsed", PLAIN)
        assert copies(lab) == [stage.name]
        made.rehearsal.remove()
    return stage


@contextmanager
def copying(lab: PostgreSQLLab) -> Iterator[tuple[Callable[[], None], list[Stage]]]:
    """Within the block the server is in the midst of copying by file, until the callable yielded lets it go on."""
    holder = lab.server.connect("postgres")
    holder.autocommit = False
    cursor = holder.cursor()
    cursor.execute("LOCK TABLE pg_catalog.pg_database IN SHARE MODE")
    stages: list[Stage] = []
    building = threading.Thread(target=lambda: stages.append(built(lab)))
    building.start()

    def go_on() -> None:
        holder.rollback()
        building.join(60)
        assert not building.is_alive()

    waits = "SELECT 1 FROM pg_locks WHERE relation = 'pg_database'::regclass AND NOT granted"
    try:
        wait_until("the copying has begun", lambda: lab.server.run("postgres", waits))
        yield go_on, stages
    finally:
        holder.close()
        building.join(60)


def assert_gets_in(lab: PostgreSQLLab) -> None:
    begun = time.monotonic()
    with lab.application() as client:
        assert client.execute("SELECT count(*) FROM orders") == [(8000,)]
    assert time.monotonic() - begun < SOON


def test_who_wants_to_connect_while_the_copy_is_made_ends_the_copying_and_gets_in(lab: PostgreSQLLab) -> None:
    lab.fill()
    with copying(lab) as (go_on, stages):
        assert_gets_in(lab)
        assert copies(lab) == []
        go_on()
    assert [stage.by_file for stage in stages] == [False]
    assert copies(lab) == []
    assert list(lab.folder.iterdir()) == []


def test_a_copy_that_nobody_watches_any_more_is_ended(lab: PostgreSQLLab) -> None:
    lab.fill()
    watcher = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE starts_with(application_name, 'dbm') AND state = 'idle' AND query LIKE '%pg_locks%'"""
    with copying(lab) as (go_on, stages):
        wait_until("its session is there", lambda: lab.server.run("postgres", watcher))
        assert_gets_in(lab)
        go_on()
    assert [stage.by_file for stage in stages] == [False]
    assert copies(lab) == []


def test_the_copying_itself_waits_for_nobody_who_holds_the_database(lab: PostgreSQLLab) -> None:
    lab.fill()
    holder = lab.server.connect("postgres")
    holder.autocommit = False
    try:
        holder.cursor().execute(f"COMMENT ON DATABASE {lab.name} IS 'being changed'")
        begun = time.monotonic()
        assert not built(lab).by_file
        assert time.monotonic() - begun < LONG / 2
    finally:
        holder.close()


def test_nobody_there_it_is_copied_by_file_also_where_its_collation_changed(lab: PostgreSQLLab) -> None:
    lab.fill()
    recorded = "SELECT datcollversion FROM pg_database WHERE datname = "
    lab.sql(f"UPDATE pg_database SET datcollversion = '1.0' WHERE datname = '{lab.name}'")
    with engine(lab) as made:
        stage = made.rehearsal.build(lab.folder, "rehearsed", PLAIN)
        assert lab.sql(f"{recorded}'{stage.name}'") == [("1.0",)]
        made.rehearsal.remove()
    assert stage.by_file
    assert copies(lab) == []


@pytest.mark.parametrize("slot", ["NONE", "theirs"])
def test_a_copy_with_subscriptions_goes_again_and_no_slot_of_the_publisher_is_asked_for(
    lab: PostgreSQLLab, slot: str
) -> None:
    lab.fill()
    nowhere = "CONNECTION 'host=127.0.0.1 port=1 dbname=nowhere' PUBLICATION theirs"
    lab.sql(f"CREATE SUBSCRIPTION mine {nowhere} WITH (connect = false, slot_name = {slot}, enabled = false)")
    try:
        with lab.application():
            assert not built(lab).by_file
        assert copies(lab) == []
    finally:
        lab.sql("ALTER SUBSCRIPTION mine SET (slot_name = NONE)")
        lab.sql("DROP SUBSCRIPTION mine")
