"""The cut and the release, against clients that come again."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psycopg2
import pytest

from maintenance.engines import open_engine
from maintenance.engines.errors import AccessDenied
from maintenance.engines.postgresql import gate as gate_module
from maintenance.engines.values import Limits, Tag
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import MARKER, action, engine, hammering, owned_by


def test_the_gate_holds_against_clients_that_come_again_and_is_restored_exactly(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} CONNECTION LIMIT 33")
    lab.server.run("postgres", f"COMMENT ON DATABASE {lab.name} IS 'the shop''s'")
    with engine(lab) as made, hammering(lab, "shop_app"):
        gate = made.read_gate()
        cut = made.cut(gate, MARKER)
        assert cut.sessions_ended >= 3
        before = made.fingerprint(None)
        time.sleep(0.3)
        assert made.fingerprint(None) == before
        assert made.read_gate() == gate
        made.cut(gate, MARKER)
        made.open_gate(gate, 0.1)
        assert lab.server.run("postgres", f"SELECT datconnlimit FROM pg_database WHERE datname = '{lab.name}'") == [
            (4,)
        ]
        assert made.gate_differences(gate)
        made.open_gate(gate, None)
        assert made.gate_differences(gate) == []
    with lab.application() as application:
        assert application.execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("ours", "theirs"), [("postgres", "postgres"), ("shop_owner", "shop_owner"), ("shop_owner", "shop_app")]
)
def test_a_database_is_hidden_from_clients_with_our_own_power(lab: PostgreSQLLab, ours: str, theirs: str) -> None:
    lab.fill()
    if ours != "postgres":
        owned_by(lab, ours)
    with engine(lab, user=ours) as made, hammering(lab, theirs) as errors:
        gate = made.read_gate()
        assert made.cut(gate, MARKER).sessions_ended >= 3
        before = made.fingerprint(None)
        time.sleep(0.3)
        assert made.fingerprint(None) == before
        assert any("does not exist" in error or "not currently accepting" in error for error in errors)
        with engine(lab, token=2, user=ours) as next_one:  # Another process after a crash.
            next_one.fence()
            assert next_one.read_gate() == gate
            next_one.cut(gate, MARKER)
            assert next_one.fingerprint(None) == before
            next_one.open_gate(gate, 0.5)
            next_one.open_gate(gate, None)
            assert next_one.gate_differences(gate) == []
            assert next_one.leftovers() == []


def test_another_run_can_bring_back_what_a_crashed_one_hid(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as crashed, hammering(lab, "postgres"):
        gate = crashed.read_gate()
        crashed.cut(gate, MARKER)
    other = open_engine(lab.url, Tag(99, 1), Limits())
    assert other.facts().identity.endswith(f":{lab.name}")
    assert other.read_gate() == gate
    other.cut(gate, MARKER)
    other.open_gate(gate, None)
    assert other.gate_differences(gate) == []
    other.close()
    with lab.application() as application:
        application.execute("SELECT 1")


def test_an_owner_who_may_not_rename_revokes_and_gives_back_the_grants(lab: PostgreSQLLab) -> None:
    lab.fill()
    owned_by(lab, "plain_owner")
    lab.server.run("postgres", f"GRANT CONNECT ON DATABASE {lab.name} TO shop_app WITH GRANT OPTION", user="postgres")
    with engine(lab, user="plain_owner") as made, hammering(lab, "shop_app"):
        gate = made.read_gate()
        assert made.cut(gate, MARKER).sessions_ended >= 3
        with pytest.raises(psycopg2.OperationalError, match="permission denied"), lab.application():
            pass
        made.open_gate(gate, None)
        assert made.gate_differences(gate) == []
    with lab.application() as application:
        application.execute("SELECT 1")


def test_somebody_without_the_right_is_refused_before_anything_changes(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab, user="shop_app") as made:
        gate = made.read_gate()
        with pytest.raises(AccessDenied):
            made.cut(gate, MARKER)
        assert made.gate_differences(gate) == []


def test_not_one_connection_of_a_superusers_pool_gets_in_after_the_cut(lab: PostgreSQLLab) -> None:
    """Eight clients try without a pause, some seconds long, from before the cut until after the release."""
    lab.fill()
    came: list[float] = []
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            with suppress(psycopg2.Error), lab.application("postgres") as application:
                application.execute("SELECT 1")
                came.append(time.monotonic())

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        with engine(lab) as made:
            time.sleep(0.3)
            gate = made.read_gate()
            made.cut(gate, MARKER)
            proven = time.monotonic()
            made.perform(action("vacuum_full"), False)
            time.sleep(3)
            opening = time.monotonic()
            made.open_gate(gate, None)
            time.sleep(0.5)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert [moment for moment in came if proven < moment < opening] == []
    assert min(came) < proven
    assert max(came) > opening


def test_what_a_superuser_commits_before_he_is_sent_away_is_noticed(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a prepared transaction forbids hiding, a superuser may live for a moment: longer here, to be sure."""
    lab.fill()
    monkeypatch.setattr(gate_module, "GUARD_SECONDS", 5.0)
    with lab.application("postgres") as application:
        application.execute("BEGIN; INSERT INTO customers (name) VALUES ('x'); PREPARE TRANSACTION 'standing'")
    with engine(lab) as made:
        gate = made.read_gate()
        made.cut(gate, MARKER)
        baseline = made.fingerprint(None)
        with lab.application("postgres") as late:
            late.execute("INSERT INTO customers (name) VALUES ('late')")
        after = made.fingerprint(None)
        assert {name for name in after if after[name] != baseline[name]} == {"public.customers"}
        made.open_gate(gate, None)
    assert lab.sql("SELECT count(*) FROM customers WHERE name = 'late'") == [(1,)]
    lab.sql("ROLLBACK PREPARED 'standing'")


def test_where_it_cannot_be_hidden_a_superuser_who_comes_later_is_sent_away(lab: PostgreSQLLab) -> None:
    lab.fill()
    with lab.application("postgres") as application:
        application.execute("BEGIN; INSERT INTO customers (name) VALUES ('x'); PREPARE TRANSACTION 'waiting'")
    with engine(lab) as made:
        gate = made.read_gate()
        made.cut(gate, MARKER)
        with pytest.raises(psycopg2.Error, match="too many connections"), lab.application():
            pass
        with lab.application("postgres") as late:

            def until_sent_away() -> None:
                for _ in range(30):
                    late.execute("SELECT 1")
                    time.sleep(0.1)

            with pytest.raises(psycopg2.Error, match=r"terminating|closed"):
                until_sent_away()
        made.open_gate(gate, None)
        assert made.gate_differences(gate) == []
        with lab.application("postgres") as welcome:
            time.sleep(0.5)
            welcome.execute("SELECT 1")
            welcome.execute("ROLLBACK PREPARED 'waiting'")
