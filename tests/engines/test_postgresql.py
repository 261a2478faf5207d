"""PostgreSQL's own behaviour, on a real server in a scratch folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pyrage
import pytest
from sqlalchemy import make_url

from maintenance.archive import Seal
from maintenance.engines import open_engine
from maintenance.engines.errors import (
    AccessDenied,
    Damaged,
    Interrupted,
    ResourceShortage,
    Transient,
    Unable,
    Unreachable,
)
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.postgresql.rollback import entries_without
from maintenance.engines.values import Action, Json, Limits, Progress, Tag, Thresholds
from maintenance.engines.words import say

from .conftest import short_folder
from .lab_postgresql import PAGE, PostgreSQLLab, PostgreSQLServer

PLAIN = Seal()
MARKER: Json = {"run": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    folder = short_folder()
    try:
        with PostgreSQLServer.opened(folder) as opened:
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server_with_checksums() -> Iterator[PostgreSQLServer]:
    folder = short_folder()
    try:
        with PostgreSQLServer.opened(folder, with_checksums=True) as opened:
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(server: PostgreSQLServer) -> PostgreSQLLab:
    return server.fresh()


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

    def client() -> None:
        while not stop.is_set():
            with suppress(psycopg2.Error):
                try:
                    with lab.application(user) as application:
                        while not stop.is_set():
                            application.execute("INSERT INTO customers (name) VALUES ('hammer')")
                            time.sleep(0.005)
                except psycopg2.Error as error:
                    errors.append(str(error))
                    raise
            time.sleep(0.01)

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    try:
        yield errors
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def action(kind: str, object: str = "public.orders") -> Action:
    return Action(object, kind, say("because"), say("none"), 1, 0)


def owned_by(lab: PostgreSQLLab, role: str) -> None:
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO {role}")
    for table in ("customers", "orders"):
        lab.sql(f"ALTER TABLE {table} OWNER TO {role}")


# -- who is it ---------------------------------------------------------------------------------------


def test_two_ways_to_the_same_database_have_one_identity_and_another_database_has_another(
    server: PostgreSQLServer,
) -> None:
    first, second = server.fresh(), server.fresh()
    by_socket = make_url(f"postgresql://postgres@/{first.name}?host={server.server.folder}&port={server.server.port}")
    with engine(first) as a, engine(second) as b:
        c = open_engine(by_socket, Tag(8, 1), Limits())
        assert a.facts().identity == c.facts().identity != b.facts().identity
        c.close()


def test_an_unreachable_server_is_told_without_the_password() -> None:
    made = open_engine(make_url("postgresql://dba:geheim123@127.0.0.1:1/shop"), Tag(7, 1), Limits())
    with pytest.raises(Unreachable) as caught:
        made.facts()
    assert "geheim123" not in str(caught.value)
    assert "Connection refused" in str(caught.value)


def test_a_missing_database_is_unreachable(lab: PostgreSQLLab) -> None:
    made = open_engine(lab.url.set(database="nowhere"), Tag(7, 1), Limits())
    with pytest.raises(Unreachable, match="does not exist"):
        made.facts()


def test_tables_are_found_by_what_people_call_them_and_a_partitioned_one_by_its_partitions(lab: PostgreSQLLab) -> None:
    lab.difficult()
    with engine(lab) as made:
        found, unknown = made.resolve(["Order", "measures", "public.顧客", 'public."user"', "nothing"])
    assert found == ['public."Order"', "public.measures_2024", "public.measures_2025", 'public."顧客"', 'public."user"']
    assert unknown == ["nothing"]


def test_a_later_claim_ends_the_sessions_of_an_earlier_one_and_takes_the_lock(lab: PostgreSQLLab) -> None:
    with engine(lab, token=1) as old, engine(lab, token=2) as new:
        assert old.fence() == 0
        assert new.fence() >= 1
        other = open_engine(lab.url, Tag(99, 1), Limits())
        with pytest.raises(Transient, match="another maintenance"):
            other.fence()
        other.close()


# -- diagnosis and plan ------------------------------------------------------------------------------


def test_a_damaged_index_is_found_without_amcheck_being_installed_and_planned_for_repair(lab: PostgreSQLLab) -> None:
    lab.fill()
    orders = lab.damage_index()
    with engine(lab) as made:
        diagnosis = made.diagnose(Thresholds())
        plan = made.plan("repair", diagnosis, Thresholds(), None, False)
    assert {("damaged_index", orders), ("table_bloat", orders)} <= {(f.code, f.object) for f in diagnosis.findings}
    assert [(a.kind, a.object) for a in plan] == [("reindex", orders), ("analyze", orders)]
    assert lab.sql("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'") == [(0,)]
    assert lab.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'dbm%'") == [(0,)]


def test_optimize_plans_only_what_crosses_a_threshold_with_its_figures(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made:
        plan = made.plan("optimize", made.diagnose(Thresholds()), Thresholds(), None, False)
    assert [(a.kind, a.object) for a in plan] == [("vacuum_full", "public.orders"), ("vacuum", "public.orders")]
    assert "60%" in plan[0].reason
    assert plan[0].stage < plan[1].stage


def test_a_question_that_fails_becomes_a_finding_and_not_a_crash(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab, user="shop_app") as made:
        diagnosis = made.diagnose(Thresholds())
    assert "cannot_tell" in {finding.code for finding in diagnosis.findings}
    assert len(diagnosis.tables) == 2


def test_sequences_behind_and_leftover_indexes_are_found_planned_and_put_right(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql("SELECT setval('orders_id_seq', 10)")
    with pytest.raises(psycopg2.Error):
        lab.sql("CREATE UNIQUE INDEX CONCURRENTLY orders_x_ccnew ON orders (status)")
    with engine(lab) as made:
        plan = made.plan("repair", made.diagnose(Thresholds()), Thresholds(), None, False)
        kinds = [a.kind for a in plan]
        assert kinds == ["drop_index", "set_sequences", "analyze"]
        for planned in plan:
            made.perform(planned, False)
            made.perform(planned, False)  # As after a crash just behind it.
        assert all(check.passed for check in made.check(None))
    assert lab.sql("SELECT last_value FROM orders_id_seq") == [(19999,)]


# -- backup ------------------------------------------------------------------------------------------


def test_a_sealed_backup_is_read_back_and_bound_to_the_rows_in_it(lab: PostgreSQLLab) -> None:
    names = lab.difficult()
    identity = pyrage.x25519.Identity.generate()
    key = lab.folder / "key"
    key.write_text(str(identity))
    with engine(lab) as made:
        backup = made.back_up("pg_dump", lab.folder, "night", Seal((str(identity.to_public()),), key))
        assert backup.verified
        assert backup.snapshot == made.fingerprint(None)
    assert backup.path.name == "night.dump.zst.age"
    assert set(backup.snapshot) == {*names, "large objects"}
    assert [path.name for path in lab.folder.iterdir() if ".part" in path.name] == []


def test_a_damaged_page_breaks_the_logical_backup_but_not_the_physical_one(lab: PostgreSQLLab) -> None:
    lab.fill()
    orders = lab.damage_table()
    with engine(lab) as made:
        with pytest.raises(Damaged, match="invalid page"):
            made.back_up("pg_dump", lab.folder, "one", PLAIN)
        assert list(lab.folder.iterdir()) == []
        backup = made.back_up("pg_basebackup", lab.folder, "two", PLAIN)
    assert backup.verified
    assert backup.bytes > 1_000_000
    assert not backup.snapshot[orders].readable
    assert backup.snapshot["public.customers"].readable


def test_a_place_that_cannot_be_written_is_a_shortage(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made, pytest.raises(ResourceShortage):
        made.back_up("pg_dump", Path("/nowhere/at/all"), "one", PLAIN)


def test_the_password_reaches_the_programs_and_nothing_else(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql("CREATE ROLE secret_dba LOGIN SUPERUSER PASSWORD 'geheim-123'")
    rules = lab.server.server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("host all secret_dba 127.0.0.1/32 scram-sha-256\n" + before)
    lab.sql("SELECT pg_reload_conf()")
    time.sleep(0.3)
    try:
        url = lab.url.set(username="secret_dba", password="geheim-123")
        made = open_engine(url, Tag(7, 1), Limits())
        assert isinstance(made, PostgreSQL)
        assert made.back_up("pg_dump", lab.folder, "one", PLAIN).verified
        assert "geheim" not in made.conninfo(lab.name)
        made.close()
        wrong = open_engine(url.set(password="falsch-123"), Tag(7, 1), Limits())
        with pytest.raises(AccessDenied, match="password authentication failed") as caught:
            wrong.facts()
        assert "falsch-123" not in str(caught.value)
    finally:
        rules.write_text(before)
        lab.sql("SELECT pg_reload_conf()")
        lab.sql("DROP ROLE secret_dba")


# -- gate --------------------------------------------------------------------------------------------


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


# -- work --------------------------------------------------------------------------------------------


def test_work_that_the_server_skips_is_a_failure(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab, user="shop_app") as made:
        for kind in ("vacuum", "vacuum_full", "analyze"):
            with pytest.raises(Unable, match=r"skipping|only table"):
                made.perform(action(kind), False)


def test_rebuilding_shrinks_the_table_and_changes_no_row_nor_definition(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.difficult()
    with engine(lab) as made:
        rows, definitions = made.fingerprint(None), made.catalog()
        for planned in made.plan("rebuild", made.diagnose(Thresholds()), Thresholds(), None, False):
            done = made.perform(planned, False)
            if planned.kind == "vacuum_full" and planned.object == "public.orders":
                assert done.bytes_after is not None
                assert done.bytes_before is not None
                assert done.bytes_after < done.bytes_before / 2
        assert made.fingerprint(None) == rows
        assert made.catalog() == definitions
        assert all(check.passed for check in made.check(None)), made.check(None)
        lab.sql('ALTER TABLE "Order" ALTER COLUMN "select" SET DEFAULT 1')
        changed = made.catalog()
        assert {name for name in changed if changed[name] != definitions[name]} == {'table public."Order"'}


def test_progress_is_told_while_work_runs(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql(
        "INSERT INTO orders (customer_id, status, note) SELECT 1, 'new', repeat('x', 300) "
        "FROM generate_series(1, 150000)"
    )
    seen = []
    with engine(lab) as made:
        worker = threading.Thread(target=made.perform, args=(action("vacuum_full"), False))
        worker.start()
        while worker.is_alive():
            seen += made.progress()
        worker.join()
    assert {item.object for item in seen if item.object} == {"public.orders"}
    assert all(item.share is None or 0 <= item.share <= 1 for item in seen)
    assert any(item.statement.startswith("VACUUM") and item.seconds is not None for item in seen)
    assert {item.blockers for item in seen} == {()}


def test_who_blocks_the_work_is_told(lab: PostgreSQLLab) -> None:
    lab.fill()
    seen: list[Progress] = []
    with engine(lab) as made, closing(lab.server.connect(lab.name, "postgres")) as other:
        pid = other.info.backend_pid
        other.cursor().execute("BEGIN; SELECT count(*) FROM orders")
        worker = threading.Thread(target=made.perform, args=(action("vacuum_full"), False))
        worker.start()
        until = time.monotonic() + 5
        while not any(item.blockers for item in seen) and time.monotonic() < until:
            seen += made.progress()
            time.sleep(0.05)
        other.cursor().execute("ROLLBACK")
        worker.join()
    waiting = [item for item in seen if item.blockers]
    assert [item.object for item in waiting] == [""]
    assert waiting[0].blockers == (f"pid {pid} postgres 127.0.0.1",)


def test_an_interrupt_ends_work_on_the_server_and_what_comes_later(lab: PostgreSQLLab) -> None:
    lab.fill()
    caught: list[BaseException] = []
    with engine(lab) as made:
        made.fence()

        def work() -> None:
            try:
                made.query("SELECT pg_sleep(60)")
            except BaseException as error:
                caught.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(0.5)
        begun = time.monotonic()
        made.interrupt()
        worker.join(5)
        assert time.monotonic() - begun < 5
        assert isinstance(caught[0], Interrupted)
        with pytest.raises(Interrupted):
            made.facts()
        assert lab.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") == [(0,)]
        made.clear_interrupt()
        assert made.query("SELECT 1") == [(1,)]


def test_work_of_a_killed_process_is_given_up_by_the_server(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql(
        "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.01); RETURN 1; END $$"
    )
    lab.sql("CREATE INDEX slow ON orders (slow(id)) WHERE id > 19500")
    [before] = lab.sql("SELECT pg_relation_filenode('orders')")
    program = f"""
from sqlalchemy import make_url
from maintenance.engines import open_engine
from maintenance.engines.values import Action, Limits, Tag
from maintenance.engines.words import say
engine = open_engine(make_url({str(lab.url)!r}), Tag(7, 1), Limits())
engine.fence()
engine.perform(Action("public.orders", "vacuum_full", say("because"), say("none"), 1, 0), False)
"""
    child = subprocess.Popen([sys.executable, "-c", program])
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'VACUUM (FULL)%' AND state = 'active'"
    until = time.monotonic() + 15
    while lab.sql(busy) == [(0,)] and time.monotonic() < until:
        time.sleep(0.05)
    assert lab.sql(busy) == [(1,)]
    child.kill()
    child.wait()
    with engine(lab, token=2) as made:
        made.fence()
        assert lab.sql(busy) == [(0,)]
        assert lab.sql("SELECT pg_relation_filenode('orders')") == [before]
        assert made.fingerprint(["public.orders"])["public.orders"].rows == 8000


def test_a_lock_that_is_not_given_is_transient(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab, lock_seconds=0.5) as made, lab.application("postgres") as holder:
        holder.execute("BEGIN; LOCK TABLE orders")
        with pytest.raises(Transient, match="lock timeout"):
            made.perform(action("vacuum_full"), False)


def test_a_functional_check_cannot_write(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made:
        assert made.query("SELECT ';', count(*) FROM customers; ") == [(";", 2000)]
        for statement in (
            "DELETE FROM orders",
            "COMMIT; DELETE FROM orders",
            "SET TRANSACTION READ WRITE; DELETE FROM orders",
        ):
            with pytest.raises(Unable):
                made.query(statement)
    assert lab.sql("SELECT count(*) FROM orders") == [(8000,)]


# -- damage ------------------------------------------------------------------------------------------


def test_a_damaged_page_is_salvaged_only_when_loss_is_allowed_and_the_rest_stays(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql(
        "CREATE TABLE items (order_id int REFERENCES orders, n int); "
        "CREATE VIEW paid AS SELECT * FROM orders WHERE status = 'paid'"
    )
    orders = lab.damage_table()
    with engine(lab) as made:
        diagnosis = made.diagnose(Thresholds())
        refused = made.plan("repair", diagnosis, Thresholds(), None, False)
        assert [a.kind for a in refused if a.stage == 0] == ["read_test"]
        with pytest.raises(Damaged, match="invalid page"):
            made.perform(refused[0], False)
        definitions = made.catalog()
        plan = made.plan("repair", diagnosis, Thresholds(), None, True)
        assert plan[0].kind == "salvage"
        assert plan[0].needs_data_loss
        with pytest.raises(Damaged):
            made.perform(plan[0], False)
        done = made.perform(plan[0], True)
        assert [(loss.object, loss.pages) for loss in done.losses] == [(orders, (11,))]
        for planned in plan[1:]:
            made.perform(planned, True)
        assert all(check.passed for check in made.check(None))
        assert made.catalog() == definitions
        assert made.leftovers() == []
    [(left,)] = lab.sql("SELECT count(*) FROM orders")
    assert 7900 < int(str(left)) < 8000


def test_a_value_whose_reading_ends_the_server_is_told_and_salvaged(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE TABLE pp (id int PRIMARY KEY, words text); CREATE TABLE good (id int); INSERT INTO good VALUES (1)")
    lab.sql("INSERT INTO pp SELECT i, repeat('word ' || i, 10) FROM generate_series(1, 3000) i")
    lab.damage_value("pp", 5, 4)
    with engine(lab) as made:
        diagnosis = made.diagnose(Thresholds())
        assert ("damaged_table", "public.pp") in {(f.code, f.object) for f in diagnosis.findings}
        prints = made.fingerprint(None)
        assert not prints["public.pp"].readable
        assert prints["public.good"].rows == 1
        [salvage, *_] = made.plan("repair", diagnosis, Thresholds(), None, True)
        done = made.perform(salvage, True)
        assert [(loss.rows, loss.pages) for loss in done.losses] == [(1, (5,))]
        assert made.fingerprint(["public.pp"])["public.pp"].rows == 2999


def test_a_salvage_broken_off_after_the_rewrite_is_brought_to_its_end(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.fill()
    lab.damage_table()
    with engine(lab) as made:
        [salvage, *_] = made.plan("repair", made.diagnose(Thresholds()), Thresholds(), None, True)
        monkeypatch.setattr(PostgreSQL, "_put_back", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made.perform(salvage, True)
        assert made.leftovers() == ["schema dbm7_salvage"]
        monkeypatch.undo()
        done = made.perform(salvage, True)
        assert done.losses[0].pages == (11,)
        assert made.leftovers() == []


@pytest.mark.parametrize("broken_off", ["", "_rewrite", "_operate", "_put_back"])
def test_of_a_page_whose_checksum_is_wrong_every_row_that_reads_is_kept_once(
    server_with_checksums: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch, broken_off: str
) -> None:
    lab = server_with_checksums.fresh()
    lab.fill()
    path = lab.path_of("orders")
    with lab.stopped(), open(path, "r+b") as file:
        file.seek(11 * PAGE + PAGE - 20)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    with engine(lab) as made:
        [salvage, *_] = made.plan("repair", made.diagnose(Thresholds()), Thresholds(), None, True)
        if broken_off:
            monkeypatch.setattr(PostgreSQL, broken_off, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                made.perform(salvage, True)
            monkeypatch.undo()
            lab.server.server.restart()
        [loss] = made.perform(salvage, True).losses
        assert loss.pages == (11,)
        assert "rows of these pages could still be read" in loss.detail
        assert made.fingerprint(None)["public.orders"].rows == 8000
        assert all(check.passed for check in made.check(None))
        assert made.leftovers() == []


# -- rollback ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_superuser_applications", [False, True])
def test_the_copy_made_under_the_cut_takes_the_place_with_everything_around_it(
    lab: PostgreSQLLab, as_superuser_applications: bool
) -> None:
    lab.fill()
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} SET search_path = public, pg_catalog")
    lab.server.run("postgres", f"ALTER ROLE shop_app IN DATABASE {lab.name} SET work_mem = '5MB'")
    lab.server.run("postgres", f"GRANT CREATE ON DATABASE {lab.name} TO shop_app")
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO shop_owner")
    with engine(lab) as made, hammering(lab, "postgres" if as_superuser_applications else "shop_app"):
        backup = made.back_up("pg_dump", lab.folder, "one", PLAIN)
        gate = made.read_gate()
        made.cut(gate, MARKER)
        baseline = made.fingerprint(None)
        image = made.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.kind == "copy"
        with made.session("spoiling") as connection:
            connection.exec_driver_sql("DELETE FROM orders")
        side = made.restore_beside(image, backup, PLAIN)
        assert made.fingerprint(None, side) == baseline
        broken = made.swap(side, gate, MARKER)
        # As after a crash just behind it.
        assert made.restore_beside(image, backup, PLAIN) == side
        assert made.fingerprint(None, side) == baseline
        assert made.swap(side, gate, MARKER) == broken
        assert made.fingerprint(None) == baseline
        assert made.read_gate() == gate
        made.open_gate(gate, None)
        assert made.gate_differences(gate) == []
        assert made.leftovers() == [broken]
        assert made.clean([broken]) == []
        assert made.clean() == [broken]
    assert lab.sql("SHOW search_path") == [("public, pg_catalog",)]
    with lab.application() as application:
        assert application.execute("SHOW work_mem") == [("5MB",)]


def test_without_room_for_a_copy_the_tables_that_changed_are_dumped_again(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = lab.difficult()
    monkeypatch.setattr(PostgreSQL, "_free_bytes", lambda *_: 1000)
    with engine(lab) as made:
        backup = made.back_up("pg_dump", lab.folder, "one", PLAIN)
        definitions = made.catalog()
        lab.sql('INSERT INTO "Order" (total) VALUES (1000)')
        lab.sql("""INSERT INTO "Sales 50%"."a ""quoted"": name" VALUES (1000, 101, 'x')""")
        gate = made.read_gate()
        made.cut(gate, MARKER)
        baseline = made.fingerprint(None)
        image = made.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.kind == "dump"
        assert set(image.tables) == {names[0], names[2]}
        side = made.restore_beside(image, backup, PLAIN)
        assert made.restore_beside(image, backup, PLAIN) == side
        assert made.fingerprint(None, side) == baseline
        assert made.catalog(side) == definitions
        made.swap(side, gate, MARKER)
        made.open_gate(gate, None)
        assert made.gate_differences(gate) == []
        assert all(check.passed for check in made.check(None))
    assert lab.sql('INSERT INTO "Order" (total) VALUES (1) RETURNING id') == [(102,)]


def test_without_room_after_a_crash_everything_is_dumped_again(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.fill()
    monkeypatch.setattr(PostgreSQL, "_free_bytes", lambda *_: 1000)
    with engine(lab) as made:
        backup = made.back_up("pg_dump", lab.folder, "one", PLAIN)
    with engine(lab, token=2) as made:
        gate = made.read_gate()
        made.cut(gate, MARKER)
        baseline = made.fingerprint(None)
        image = made.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.tables == ()
        assert image.path == lab.folder / "image.dump.zst"
        assert made.fingerprint(None, made.restore_beside(image, backup, PLAIN)) == baseline
        made.open_gate(gate, None)
        assert made.clean() == [f"{lab.name}_dbm7_restore"]


def test_a_side_database_of_somebody_else_is_never_dropped(lab: PostgreSQLLab) -> None:
    lab.fill()
    name = f"{lab.name}_dbm7_image"
    lab.server.run("postgres", f"CREATE DATABASE {name}")
    lab.server.run("postgres", f"COMMENT ON DATABASE {name} IS 'mine'")
    with engine(lab) as made, pytest.raises(Unable, match="not ours"):
        made.clean()
    assert lab.server.run("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{name}'") == [(1,)]


def test_the_rows_of_a_table_are_left_out_by_its_whole_name() -> None:
    listing = (
        "; comment\n1; 0 16 TABLE DATA public a owner\n2; 0 17 TABLE DATA public a b owner\n"
        "3; 0 0 SEQUENCE SET public s owner"
    )
    assert entries_without(listing, {"public a": True, "public a b": False}) == [
        "; comment",
        "2; 0 17 TABLE DATA public a b owner",
    ]


# -- benchmark ---------------------------------------------------------------------------------------


def test_blocks_fall_after_a_rebuild_and_an_error_is_in_the_sample(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made:
        queries = made.benchmark_queries(None)
        assert queries == made.benchmark_queries(None)
        before = made.measure(queries[0], 3)
        made.perform(action("vacuum_full"), False)
        made.perform(action("vacuum"), False)
        after = made.measure(queries[0], 3)
        assert before.cost is not None
        assert after.cost is not None
        assert after.cost < before.cost / 2
        assert len(after.times_ms) == 3
        assert "does not exist" in str(made.measure("SELECT * FROM nowhere", 1).error)
        assert "read-only" in str(made.measure("DELETE FROM orders", 1).error)
