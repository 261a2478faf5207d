"""The cut and the release, against clients that come again."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from contextlib import ExitStack, closing, suppress

import psycopg2
import pytest
from psycopg2.extras import LogicalReplicationConnection

from maintenance.engines import open_engine
from maintenance.engines.errors import AccessDenied
from maintenance.engines.values import Limits, Tag
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import MARKER, PLAIN, action, engine, hammering, owned_by, wait_until


def test_the_gate_holds_against_clients_that_come_again_and_is_restored_exactly(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} CONNECTION LIMIT 33")
    lab.server.run("postgres", f"COMMENT ON DATABASE {lab.name} IS 'the shop''s'")
    with engine(lab) as made, hammering(lab, "shop_app"):
        gate = made.gate.read_state()
        cut = made.gate.cut(gate, MARKER)
        assert cut.sessions_ended >= 3
        before = made.verifier.fingerprint(None)
        time.sleep(0.3)
        assert made.verifier.fingerprint(None) == before
        assert made.gate.read_state() == gate
        made.gate.cut(gate, MARKER)
        made.gate.open(gate, 0.1)
        assert lab.server.run("postgres", f"SELECT datconnlimit FROM pg_database WHERE datname = '{lab.name}'") == [
            (4,)
        ]
        assert made.gate.differences(gate)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
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
        gate = made.gate.read_state()
        assert made.gate.cut(gate, MARKER).sessions_ended >= 3
        before = made.verifier.fingerprint(None)
        wait_until(
            "they are refused",
            lambda: any("does not exist" in error or "not currently accepting" in error for error in errors),
        )
        assert made.verifier.fingerprint(None) == before
        with engine(lab, token=2, user=ours) as next_one:  # Another process after a crash.
            next_one.lock.fence()
            assert next_one.gate.read_state() == gate
            next_one.gate.cut(gate, MARKER)
            assert next_one.verifier.fingerprint(None) == before
            next_one.gate.open(gate, 0.5)
            next_one.gate.open(gate, None)
            assert next_one.gate.differences(gate) == []
            assert next_one.rollback.leftovers() == []


def test_who_got_past_the_cut_is_told(lab: PostgreSQLLab) -> None:
    with engine(lab) as made:
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        try:
            assert made.sessions.writers() == [], "neither our own sessions nor the server's"
            with closing(lab.server.connect(str(gate["hidden"]))) as intruder:
                intruder.cursor().execute("SET application_name = 'nightly import'")
                [told] = made.sessions.writers()
                number = intruder.info.backend_pid
            assert told.startswith(f"client backend {number}, account {lab.url.username}, from 127.0.0.1, application")
            assert "application nightly import, last statement begun 20" in told
        finally:
            made.gate.open(gate, None)


def test_another_run_can_bring_back_what_a_crashed_one_hid(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as crashed, hammering(lab, "postgres"):
        gate = crashed.gate.read_state()
        crashed.gate.cut(gate, MARKER)
    other = open_engine(lab.url, Tag(99, 1), Limits())
    assert other.sessions.facts().identity.endswith(f":{lab.name}")
    assert other.gate.read_state() == gate
    other.gate.cut(gate, MARKER)
    other.gate.open(gate, None)
    assert other.gate.differences(gate) == []
    other.close()
    with lab.application() as application:
        application.execute("SELECT 1")


def test_an_owner_who_may_not_rename_revokes_and_gives_back_the_grants(lab: PostgreSQLLab) -> None:
    lab.fill()
    owned_by(lab, "plain_owner")
    lab.server.run("postgres", f"GRANT CONNECT ON DATABASE {lab.name} TO shop_app WITH GRANT OPTION", user="postgres")
    with engine(lab, user="plain_owner") as made, hammering(lab, "shop_app"):
        gate = made.gate.read_state()
        assert made.gate.cut(gate, MARKER).sessions_ended >= 3
        with pytest.raises(psycopg2.OperationalError, match="permission denied"), lab.application():
            pass
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
    with lab.application() as application:
        application.execute("SELECT 1")


def test_somebody_without_the_right_is_refused_before_anything_changes(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab, user="shop_app") as made:
        gate = made.gate.read_state()
        with pytest.raises(AccessDenied):
            made.gate.cut(gate, MARKER)
        assert made.gate.differences(gate) == []


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
            wait_until("they get in", lambda: came)
            gate = made.gate.read_state()
            made.gate.cut(gate, MARKER)
            proven = time.monotonic()
            made.actions.perform(action("vacuum_full"), False)
            time.sleep(3)
            opening = time.monotonic()
            made.gate.open(gate, None)
            wait_until("they get in again", lambda: max(came) > opening)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert [moment for moment in came if proven < moment < opening] == []
    assert min(came) < proven
    assert max(came) > opening


@pytest.mark.every(2, 1)
@pytest.mark.parametrize("crashed", [False, True])
def test_under_a_prepared_transaction_a_database_is_hidden_from_superusers_as_well(
    lab: PostgreSQLLab, crashed: bool
) -> None:
    """The server itself refuses to rename it then, and to copy it."""
    lab.fill()
    with lab.application("postgres") as application:
        application.execute(f"BEGIN; INSERT INTO customers (name) VALUES ('2') ; PREPARE TRANSACTION '{lab.name}'")
    with ExitStack() as stack:
        made = stack.enter_context(engine(lab))
        gate = made.gate.read_state()
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        stack.enter_context(hammering(lab, "postgres"))
        made.gate.cut(gate, MARKER)
        before = made.verifier.fingerprint(None)
        with pytest.raises(psycopg2.OperationalError, match="does not exist"), lab.application("postgres"):
            pass
        made.actions.perform(action("vacuum_full"), False)
        assert made.backups.image(backup, before, lab.folder, "image", PLAIN).kind == "dump"
        time.sleep(0.3)
        assert made.verifier.fingerprint(None) == before
        if crashed:
            made = stack.enter_context(engine(lab, token=2))
            made.lock.fence()
            assert made.gate.read_state() == gate
            made.gate.cut(gate, MARKER)
            assert made.verifier.fingerprint(None) == before
        made.gate.open(gate, 0.5)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
    lab.sql(f"COMMIT PREPARED '{lab.name}'")
    assert lab.sql("SELECT count(*) FROM customers WHERE name = '2'") == [(1,)]


def test_what_is_told_to_type_opens_a_database_in_which_a_prepared_transaction_stands(lab: PostgreSQLLab) -> None:
    lab.fill()
    with lab.application("postgres") as application:
        application.execute(f"BEGIN; INSERT INTO customers (name) VALUES ('2') ; PREPARE TRANSACTION '{lab.name}'")
    with engine(lab) as made:
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        for command in made.gate.manual_commands(gate):
            subprocess.run(shlex.split(command), check=True, stdout=subprocess.DEVNULL)
        assert made.gate.differences(gate) == []
        lab.sql(f"ROLLBACK PREPARED '{lab.name}'")


def test_the_switch_opens_a_database_in_which_a_prepared_transaction_stands(lab: PostgreSQLLab) -> None:
    lab.fill()
    with lab.application("postgres") as application:
        application.execute(f"BEGIN; INSERT INTO customers (name) VALUES ('2') ; PREPARE TRANSACTION '{lab.name}'")
    with engine(lab) as gone:
        gate = gone.gate.read_state()
        gone.gate.cut(gate, MARKER)
        gone.switch.arm(gate, 1)
    until = time.monotonic() + 60
    opened = f"SELECT 1 FROM pg_database WHERE datname = '{lab.name}' AND shobj_description(oid, 'pg_database') IS NULL"
    while not lab.server.run("postgres", opened) and time.monotonic() < until:
        time.sleep(0.1)
    with engine(lab) as made:
        assert made.gate.differences(gate) == []
        lab.sql(f"ROLLBACK PREPARED '{lab.name}'")


def test_a_session_that_was_let_in_just_before_it_closed_is_ended_as_well(lab: PostgreSQLLab) -> None:
    """One that takes a second to begin is in the database before the server lists it."""
    lab.fill()
    with lab.application("postgres") as application:
        application.execute(f"BEGIN; INSERT INTO customers (name) VALUES ('2') ; PREPARE TRANSACTION '{lab.name}'")
    ended: list[str] = []

    def slow_client() -> None:
        try:
            with closing(psycopg2.connect(lab.server.server.url(lab.name), options="-c post_auth_delay=1")) as client:
                client.cursor().execute("SELECT pg_sleep(5)")
        except psycopg2.Error as error:
            ended.append(str(error))

    client = threading.Thread(target=slow_client)
    client.start()
    time.sleep(0.3)
    try:
        with engine(lab) as made:
            gate = made.gate.read_state()
            assert made.gate.cut(gate, MARKER).sessions_ended == 1
            client.join(3)
            assert "terminat" in ended[0]
            made.gate.open(gate, None)
    finally:
        client.join()
    lab.sql(f"ROLLBACK PREPARED '{lab.name}'")


def test_a_reader_of_changes_stays_while_the_database_is_hidden(lab: PostgreSQLLab) -> None:
    lab.fill()
    slot = f"spared_{lab.name}"
    lab.sql(f"SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")
    active = f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'"
    url = lab.server.server.url(lab.name)
    with closing(psycopg2.connect(url, connection_factory=LogicalReplicationConnection)) as reader:
        cursor = reader.cursor()
        cursor.start_replication(slot_name=slot, decode=True)
        [(before,)] = lab.sql(active)
        with engine(lab) as made:
            gate = made.gate.read_state()
            made.gate.cut(gate, MARKER)
            with pytest.raises(psycopg2.OperationalError, match="does not exist"), lab.application("postgres"):
                pass
            made.gate.open(gate, None)
            assert made.gate.differences(gate) == []
        assert lab.sql(active) == [(before,)]
        lab.sql("INSERT INTO customers (name) VALUES ('afterwards')")
        read = ""
        until = time.monotonic() + 60
        while "afterwards" not in read and time.monotonic() < until:
            message = cursor.read_message()
            read += message.payload if message else ""
            time.sleep(0.01)
        assert "afterwards" in read
    while lab.sql(f"{active} AND active"):
        time.sleep(0.05)
    lab.sql(f"SELECT pg_drop_replication_slot('{slot}')")
