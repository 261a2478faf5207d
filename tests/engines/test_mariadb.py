"""What MariaDB does that no other product does, and what the engine makes of it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import MySQLdb
import pyrage
import pytest
from sqlalchemy import URL

from maintenance import archive
from maintenance.archive import Seal
from maintenance.engines.errors import AccessDenied, Damaged, EngineError, Interrupted, Transient, Unable, Unreachable
from maintenance.engines.mysql import Family, MariaDB, MySQL, open_server, proof, quarantine
from maintenance.engines.mysql.server import Session
from maintenance.engines.values import Action, Diagnosis, Fingerprint, Json, Limits, Tag, Thresholds
from maintenance.engines.words import say
from tests.engines.conftest import short_folder
from tests.engines.lab_mariadb import MariaDBLab

PLAIN = Seal()
SMALL = Thresholds(minimum_bytes=10_000)
MARKER: Json = {"run": 5}
EFFECTS = ("ALTER", "CREATE", "DROP", "INSERT", "RENAME", "DELETE", "UPDATE")


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDBLab]:
    folder = short_folder()
    try:
        with MariaDBLab.opened(folder) as opened:
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(server: MariaDBLab) -> Iterator[MariaDBLab]:
    made = server.fresh()
    yield made
    # What a failed test left locked must not disturb the next one.
    made.sql(f"ALTER USER '{made.account}'@'127.0.0.1' ACCOUNT UNLOCK")


@contextmanager
def engine_of(lab: MariaDBLab, token: int = 1, target: int = 7, **limits: Any) -> Iterator[MariaDB]:
    with lab.engine(target, token, Limits(**{"jobs": 2, "lock_seconds": 5, "cut_seconds": 10, **limits})) as engine:
        assert isinstance(engine, MariaDB)
        yield engine


def action(table: str, kind: str) -> Action:
    return Action(table, kind, say("for the test"), say("none"), 1, 1)


def backed_up(engine: Family, lab: MariaDBLab, which: int = 0, seal: Seal = PLAIN) -> Any:
    return engine.back_up(engine.backup_methods[which], lab.folder, "shop", seal)


class Crash(BaseException):
    """Ends the engine's work as kill -9 would: nothing of it cleans up on the server."""


@contextmanager
def crashing_after(effects: int) -> Iterator[list[str]]:
    """The statement after so many with an effect does not come about any more. Yields what was said."""
    said: list[str] = []
    ask, verbatim = Session.ask, Session.verbatim

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(session: Session, sql: str, **binds: object) -> Any:
            if sql.lstrip().upper().startswith(EFFECTS):
                if len(said) == effects:
                    raise Crash(sql)
                said.append(sql)
            return original(session, sql, **binds)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "ask", guarded(ask))
        patch.setattr(Session, "verbatim", guarded(verbatim))
        yield said


def crash_everywhere(work: Callable[[], None]) -> Iterator[int]:
    """Runs `work` with a crash after 0, 1, 2, … effects, and gives control after each; ends when it got through."""
    for effects in range(200):
        try:
            with crashing_after(effects):
                work()
        except Crash:
            yield effects
        else:
            assert effects > 0
            return
    raise AssertionError("never got through")


class TestWhichProduct:
    def test_the_scheme_mysql_is_asked_for_its_product(self, lab: MariaDBLab) -> None:
        assert isinstance(open_server(lab.url, Tag(1, 1), Limits()), MariaDB)
        assert isinstance(open_server(lab.url.set(drivername="mariadb"), Tag(1, 1), Limits()), MariaDB)

    def test_a_server_that_does_not_answer_says_so_at_the_first_question(self, lab: MariaDBLab) -> None:
        engine = open_server(lab.url.set(port=1), Tag(1, 1), Limits())
        with pytest.raises(Unreachable):
            engine.facts()

    def test_by_socket_and_by_network_it_is_the_same_database(self, lab: MariaDBLab) -> None:
        by_socket = URL.create("mysql", "root", database=lab.database, query={"unix_socket": str(lab.server.socket)})
        engine = open_server(by_socket, Tag(1, 1), Limits())
        with engine_of(lab) as other:
            assert engine.facts().identity == other.facts().identity
        engine.close()

    def test_a_database_that_is_not_there_is_named(self, lab: MariaDBLab) -> None:
        engine = open_server(lab.url.set(database="no_such_shop"), Tag(1, 1), Limits())
        with pytest.raises(EngineError, match="no_such_shop"):
            engine.facts()
        engine.close()

    def test_every_difference_of_the_products_is_named_for_both(self) -> None:
        named = {name for name in Family.__mro__[1].__annotations__ if not name.startswith("_")}
        differences = {name for name in named if name.islower() and name not in ("dumped_definitions",)}
        for product in (MariaDB, MySQL):
            assert [name for name in differences if not hasattr(product, name)] == []

    def test_the_password_is_in_no_argument_of_a_tool(self, lab: MariaDBLab) -> None:
        with engine_of(lab) as engine:
            assert not any(str(lab.url.password) in word for word in engine.address())
            assert engine.secrets() == {"MYSQL_PWD": str(lab.url.password)}


class TestDiagnosis:
    def test_free_pages_are_found_after_fresh_statistics_too(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab._wait_for_purge()
        lab.sql("ANALYZE TABLE orders")
        with engine_of(lab) as engine:
            found = {table.name: table for table in engine.diagnose(SMALL).tables}
        assert (found["orders"].bloat_share or 0) > 0.3
        assert found["orders"].stale_share == 0.0

    def test_a_damaged_index_page_is_found_and_the_server_does_not_mark_the_table(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab.damage_index()
        with engine_of(lab) as engine:
            found = engine.diagnose(SMALL)
            assert [(f.code, f.object) for f in found.findings if f.severity == "critical"] == [
                ("damaged_page", "orders")
            ]
            assert any("orders_status" in f.evidence for f in found.findings)
            marked = "SELECT COUNT(*) FROM information_schema.innodb_sys_indexes WHERE type & 16"
            assert lab.sql(marked) == [(0,)]
            assert [a.object for a in engine.plan("repair", found, SMALL, None, False)] == ["orders"]

    def test_a_crashed_table_is_found_and_not_repaired_by_looking(self, lab: MariaDBLab) -> None:
        index = crashed_table(lab)
        before = index.read_bytes()
        with engine_of(lab) as engine:
            found = engine.diagnose(SMALL)
            engine.facts()
            engine.resolve(["old_log"])
        assert [f.code for f in found.findings if f.object == "old_log"] == ["crashed_table"]
        assert index.read_bytes() == before

    def test_a_crashed_table_is_copied_as_it_is_before_anything_reads_it(self, lab: MariaDBLab) -> None:
        index = crashed_table(lab)
        before = index.read_bytes()
        with engine_of(lab) as engine:
            with pytest.raises(Damaged, match="old_log"):
                backed_up(engine, lab, 0)
            assert index.read_bytes() == before
            assert backed_up(engine, lab, 1).method == "mariabackup"
            assert index.read_bytes() == before
            done = engine.perform(action("old_log", "check_and_repair"), False)
            assert done.losses == ()
            assert engine.fingerprint(["old_log"])["old_log"].rows == 500

    def test_duplicate_and_missing_keys_are_told_and_nothing_is_dropped(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE t (a INT, b INT, KEY one (a), KEY two (a, b))")
        with engine_of(lab) as engine:
            codes = {f.code for f in engine.diagnose(SMALL).findings if f.object == "t"}
        assert codes == {"duplicate_index", "no_primary_key"}

    def test_who_waits_for_a_metadata_lock_is_told(self, lab: MariaDBLab) -> None:
        lab.fill()
        with lab.application() as reader, lab.application() as changer:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM customers")
            waiting = background(lambda: changer.execute("ALTER TABLE customers ADD COLUMN x INT"))
            with engine_of(lab) as engine:
                until = time.monotonic() + 5
                while time.monotonic() < until:
                    codes = {f.code for f in engine.diagnose(SMALL).findings}
                    if "metadata_lock_queue" in codes:
                        break
            reader.execute("ROLLBACK")
            waiting.join(5)
        assert "metadata_lock_queue" in codes

    def test_an_account_that_cannot_see_other_sessions_may_not_call_it_quiet(self, lab: MariaDBLab) -> None:
        blind = f"blind_{lab.database}"
        lab.sql(f"CREATE USER '{blind}'@'127.0.0.1' IDENTIFIED BY 'b'")
        lab.sql(f"GRANT ALL ON {lab.database}.* TO '{blind}'@'127.0.0.1'")
        engine = MariaDB(lab.url.set(username=blind, password="b"), Tag(7, 1), Limits())
        try:
            with pytest.raises(AccessDenied):
                engine.cut({"accounts": [], "events": [], "max_connections": 1}, MARKER)
            found = engine.diagnose(SMALL)
            assert found.tables == ()
        finally:
            engine.close()
            lab.sql(f"DROP USER '{blind}'@'127.0.0.1'")

    def test_unverified_tables_are_all_checked_when_nothing_points_to_one(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE m (a INT) ENGINE=Aria")
        lab.sql("CREATE TABLE n (a INT PRIMARY KEY)")
        with engine_of(lab) as engine:
            plan = engine.plan("repair", engine.diagnose(SMALL), SMALL, None, False)
            named = engine.plan("repair", engine.diagnose(SMALL), SMALL, ["n"], False)
        assert [a.object for a in plan] == ["m"]
        assert [a.object for a in named] == ["n"]


def crashed_table(lab: MariaDBLab) -> Path:
    """A MyISAM table with the mark that a server leaves which died while writing. Returns its index file."""
    lab.sql("CREATE TABLE old_log (id INT PRIMARY KEY, t VARCHAR(40)) ENGINE=MyISAM")
    lab.sql("INSERT INTO old_log SELECT seq, CONCAT('line ', seq) FROM seq_1_to_500")
    lab.sql("FLUSH TABLES old_log")
    index = lab.server.data / lab.database / "old_log.MYI"
    with open(index, "r+b") as file:
        file.seek(26)
        mark = file.read(1)[0] | 2
        file.seek(26)
        file.write(bytes([mark]))
    return index


def background(work: Callable[[], object]) -> Any:
    import threading

    def quietly() -> None:
        try:
            work()
        except (MySQLdb.Error, EngineError):
            pass

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


class TestWhoseTurn:
    def test_a_later_claim_ends_the_sessions_of_a_killed_worker(self, lab: MariaDBLab) -> None:
        lab.fill()
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, lab.url.render_as_string(hide_password=False)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"working\n"
        until = time.monotonic() + 10
        while not running(lab, "SLEEP(61)") and time.monotonic() < until:
            time.sleep(0.05)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
        assert running(lab, "SLEEP(61)") == 1
        with engine_of(lab, token=2) as engine:
            assert engine.fence() >= 1
            assert engine.leftovers() == []
        assert running(lab, "SLEEP(61)") == 0

    def test_a_slow_worker_can_do_nothing_after_another_took_over(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab, token=1) as slow, engine_of(lab, token=2) as engine:
            slow.fence()
            assert engine.fence() == 1
            with pytest.raises(Transient, match="another maintenance"):
                slow.perform(action("orders", "rebuild"), False)
            assert engine.perform(action("orders", "rebuild"), False).bytes_after

    def test_another_run_on_the_same_database_waits(self, lab: MariaDBLab) -> None:
        with engine_of(lab, target=7) as first, engine_of(lab, target=8) as second:
            first.fence()
            assert first.fence() == 0
            with pytest.raises(Transient):
                second.fence()
            first.close()
            assert second.fence() == 0

    def test_work_goes_on_after_the_server_restarted(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            engine.fence()
            gate = engine.read_gate()
            engine.cut(gate, MARKER)
            lab.server.kill()
            with pytest.raises(Unreachable):
                engine.fingerprint(None)
            lab.server.start()
            with pytest.raises(MySQLdb.Error):
                lab.app_connection()
            assert engine.fence() == 0
            assert engine.read_gate() == gate
            engine.cut(gate, MARKER)
            assert engine.fingerprint(["orders"])["orders"].rows == 8000
            engine.open_gate(gate, None)
            assert engine.gate_differences(gate) == []


WORKER = """
import sys
from sqlalchemy import make_url
from maintenance.engines import open_engine
from maintenance.engines.values import Limits, Tag
engine = open_engine(make_url(sys.argv[1]), Tag(7, 1), Limits())
engine.fence()
print("working", flush=True)
engine.query("SELECT SLEEP(61)")
"""


def running(lab: MariaDBLab, text: str) -> int:
    return sum(1 for row in lab.sql("SHOW FULL PROCESSLIST") if text in str(row[7]) and row[1] != "root")


class TestGate:
    def test_a_client_that_stalls_in_the_middle_of_logging_in_is_ended(self, lab: MariaDBLab) -> None:
        stalled = socket.create_connection(("127.0.0.1", lab.server.port))
        stalled.settimeout(5)
        stalled.recv(4096)
        with engine_of(lab) as engine:
            gate = engine.read_gate()
            engine.cut(gate, MARKER)
            try:
                try:
                    stalled.sendall(b"\x01\x00\x00\x01\x00")
                    answer = stalled.recv(4096)
                except OSError:
                    answer = b""
                assert answer == b"" or b"killed" in answer.lower()
            finally:
                stalled.close()
                engine.open_gate(gate, None)

    def test_limits_and_locks_that_were_there_come_back_exactly(self, lab: MariaDBLab) -> None:
        name = f"x_{lab.database}"
        for statement in (
            f"CREATE USER '{name}'@'10.%' IDENTIFIED BY 'a' WITH MAX_USER_CONNECTIONS 40",
            f"GRANT SELECT ON `shop\\_%`.* TO '{name}'@'10.%'",
            f"CREATE USER '{name}'@'%' ACCOUNT LOCK",
            f"GRANT SELECT (id) ON {lab.database}.secret TO '{name}'@'%'",
            f"CREATE ROLE 'r_{name}'",
            f"GRANT SELECT ON {lab.database}.* TO 'r_{name}'",
            f"CREATE USER '{name}'@'role' IDENTIFIED BY 'b'",
            f"GRANT 'r_{name}' TO '{name}'@'role'",
            f"CREATE USER '{name}'@'elsewhere' IDENTIFIED BY 'c'",
        ):
            if "secret" in statement:
                lab.sql("CREATE TABLE secret (id INT PRIMARY KEY)")
            lab.sql(statement)
        try:
            with engine_of(lab) as engine:
                gate = engine.read_gate()
                held = {(a["user"], a["host"]) for a in gate["accounts"]}  # type: ignore[attr-defined]
                assert {(name, "10.%"), (name, "%"), (name, "role"), (lab.account, "127.0.0.1")} <= held
                assert (name, "elsewhere") not in held
                engine.cut(gate, MARKER)
                assert "ACCOUNT LOCK" in shown(lab, name, "10.%")
                assert "ACCOUNT LOCK" not in shown(lab, name, "elsewhere")
                engine.open_gate(gate, 0.1)
                assert "MAX_USER_CONNECTIONS 4 " in shown(lab, name, "10.%") + " "
                assert "ACCOUNT LOCK" in shown(lab, name, "%")
                assert "MAX_USER_CONNECTIONS 8 " in shown(lab, lab.account, "127.0.0.1") + " "
                engine.open_gate(gate, None)
                assert engine.gate_differences(gate) == []
                assert "MAX_USER_CONNECTIONS 40" in shown(lab, name, "10.%")
                assert "ACCOUNT LOCK" in shown(lab, name, "%")
                assert "MAX_USER_CONNECTIONS" not in shown(lab, lab.account, "127.0.0.1")
        finally:
            for host in ("10.%", "%", "role", "elsewhere"):
                lab.sql(f"DROP USER '{name}'@'{host}'")
            lab.sql(f"DROP ROLE 'r_{name}'")

    def test_neither_our_account_nor_the_local_administrator_is_locked(self, lab: MariaDBLab) -> None:
        with engine_of(lab) as engine:
            held = {a["user"] + "@" + a["host"] for a in engine.read_gate()["accounts"]}  # type: ignore[attr-defined]
        assert not held & {"dbmaint@127.0.0.1", "root@localhost", "mariadb.sys@localhost"}

    def test_events_sleep_under_the_cut_and_wake_as_they_were(self, lab: MariaDBLab) -> None:
        lab.difficult()
        lab.sql("CREATE DEFINER = 'mariadb.sys'@'localhost' EVENT alien ON SCHEDULE EVERY 1 HOUR DO SELECT 1")
        before = event_states(lab)
        with engine_of(lab) as engine:
            gate, catalog = engine.read_gate(), engine.catalog()
            engine.cut(gate, MARKER)
            assert {state for _, state, *_ in event_states(lab)} == {"DISABLED"}
            assert engine.catalog() == catalog
            engine.open_gate(gate, 0.5)
            engine.open_gate(gate, None)
            assert engine.gate_differences(gate) == []
        assert event_states(lab) == before

    def test_a_change_by_somebody_else_meanwhile_is_told(self, lab: MariaDBLab) -> None:
        lab.difficult()
        with engine_of(lab) as engine:
            gate = engine.read_gate()
            lab.sql(f"ALTER USER '{lab.account}'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 3")
            lab.sql("DROP EVENT tidy")
            told = engine.gate_differences(gate)
        assert told == [f"account {lab.account}@127.0.0.1 may have 3 connections, was 0", "event tidy is gone"]

    def test_an_application_on_our_own_account_is_named_and_not_overlooked(self, lab: MariaDBLab) -> None:
        lab.fill()
        stop: list[bool] = []

        def intruding() -> None:
            while not stop:
                try:
                    connection = MySQLdb.connect(
                        host="127.0.0.1", port=lab.server.port, user="dbmaint", passwd="emergency-only", db=lab.database
                    )
                    connection.cursor().execute("SELECT SLEEP(0.3)")
                except MySQLdb.Error:
                    time.sleep(0.005)

        client = background(intruding)
        try:
            with engine_of(lab, cut_seconds=1) as engine:
                gate = engine.read_gate()
                with pytest.raises(Transient, match="our own account dbmaint"):
                    engine.cut(gate, MARKER)
                engine.open_gate(gate, None)
                assert engine.gate_differences(gate) == []
        finally:
            stop.append(True)
            client.join(5)

    def test_a_crash_after_any_effect_of_cut_or_release_ends_as_before(self, lab: MariaDBLab) -> None:
        lab.difficult()
        tokens = iter(range(2, 100))
        with engine_of(lab, token=1) as engine:
            original = engine.read_gate()

        def cut_and_release(token: int) -> None:
            with engine_of(lab, token=token) as engine:
                engine.fence()
                gate = engine.read_gate()
                engine.cut(gate, MARKER)
                engine.open_gate(gate, 0.5)
                engine.open_gate(gate, None)

        points = 0
        for _ in crash_everywhere(lambda: cut_and_release(next(tokens))):
            points += 1
            with engine_of(lab, token=next(tokens)) as engine:
                engine.fence()
                assert engine.read_gate() == original
                engine.cut(engine.read_gate(), MARKER)
                with pytest.raises(MySQLdb.Error):
                    lab.app_connection()
                engine.open_gate(original, None)
                assert engine.gate_differences(original) == []
        assert points >= 8


def shown(lab: MariaDBLab, user: str, host: str) -> str:
    return str(lab.sql(f"SHOW CREATE USER '{user}'@'{host}'")[0][0])


def event_states(lab: MariaDBLab) -> list[tuple[object, ...]]:
    return lab.sql(
        "SELECT event_name, status, definer, sql_mode, time_zone, starts, interval_value, event_definition"
        " FROM information_schema.events WHERE event_schema = DATABASE() ORDER BY 1"
    )


class TestBackup:
    def test_the_products_own_client_loads_a_backup_whole(self, lab: MariaDBLab) -> None:
        lab.difficult()
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            live = engine.fingerprint(None)
            catalog = engine.catalog()
        other = f"{lab.database}_by_hand"
        lab.sql(f"CREATE DATABASE {other} CHARACTER SET utf8mb4")
        with archive.reading(backup.path, PLAIN) as stream:
            sql = stream.read().decode().replace(f"`{lab.database}`", f"`{other}`")
        subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={lab.server.socket}", "--user=root", "--binary-mode", other],
            input=sql.encode(),
            check=True,
        )
        copy = open_server(lab.url.set(database=other), Tag(9, 1), Limits())
        assert copy.fingerprint(None) == live
        assert set(copy.catalog()) == set(catalog)
        copy.close()
        lab.sql(f"DROP DATABASE {other}")

    def test_a_sealed_backup_is_read_back_and_restored(self, lab: MariaDBLab) -> None:
        lab.fill()
        key = pyrage.x25519.Identity.generate()
        identity = lab.folder.parent / "key.txt"
        identity.write_text(str(key))
        seal = Seal((str(key.to_public()),), identity)
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab, seal=seal)
            assert backup.path.name.endswith(".sql.zst.age")
            baseline = engine.fingerprint(None)
            image = engine.image(backup, baseline, lab.folder, "image", seal)
            side = engine.restore_beside(image, backup, seal)
            assert engine.fingerprint(None, side) == baseline
            engine.clean()

    def test_an_unreadable_page_fails_the_dump_and_not_the_alternates(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab.damage_table()
        with engine_of(lab) as engine:
            with pytest.raises(Damaged, match="orders"):
                backed_up(engine, lab, 0)
            assert list(lab.folder.iterdir()) == []
            physical = backed_up(engine, lab, 1)
            by_table = engine.back_up("table_dump", lab.folder, "shop", PLAIN)
            assert (physical.method, by_table.method) == ("mariabackup", "table_dump")
            assert by_table.snapshot["customers"].rows == 2000
            assert not by_table.snapshot["orders"].readable
            for backup in (physical, by_table):
                baseline = engine.fingerprint(None)
                image = engine.image(backup, baseline, lab.folder, f"image-{backup.method}", PLAIN)
                side = engine.restore_beside(image, backup, PLAIN)
                assert engine.fingerprint(None, side) == {"customers": baseline["customers"]}
            catalog = engine.catalog()
            engine.swap(side, {}, MARKER)
            assert engine.catalog() == catalog
            assert engine.fingerprint(["customers"]) == {"customers": baseline["customers"]}
            engine.clean()

    def test_an_interrupted_backup_leaves_no_file(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            ended: list[BaseException] = []

            def work() -> None:
                try:
                    while True:
                        backed_up(engine, lab)
                except BaseException as error:
                    ended.append(error)

            thread = background(work)
            time.sleep(0.3)
            engine.interrupt()
            thread.join(5)
            assert [type(error) for error in ended] == [Interrupted]
        assert [p.name for p in lab.folder.iterdir() if p.name != "shop.sql.zst"] == []


class TestRepair:
    def test_an_index_is_rebuilt_and_the_answer_through_it_is_whole_again(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab.damage_index()
        with engine_of(lab) as engine:
            done = engine.perform(action("orders", "check_and_repair"), False)
            assert done.losses == ()
            assert "8,000 rows" in done.sentence
            again = engine.perform(action("orders", "check_and_repair"), False)
            assert "sound" in again.sentence
            assert engine.query("SELECT COUNT(*) FROM orders FORCE INDEX (orders_status) WHERE status > ''") == [
                (8000,)
            ]
            assert [f for f in engine.diagnose(SMALL).findings if f.severity == "critical"] == []

    def test_salvage_keeps_keys_triggers_and_neighbours_and_counts_what_is_gone(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab.sql(
            "CREATE TABLE items (id INT PRIMARY KEY, order_id INT, CONSTRAINT of_order FOREIGN KEY (order_id)"
            " REFERENCES orders (id) ON DELETE CASCADE ON UPDATE SET NULL)"
        )
        lab.sql("CREATE TABLE seen (n INT)")
        lab.sql("CREATE TRIGGER orders_ad AFTER DELETE ON orders FOR EACH ROW INSERT INTO seen VALUES (OLD.id)")
        lab.damage_table()
        with engine_of(lab) as engine:
            catalog = engine.catalog()
            with pytest.raises(Damaged):
                engine.perform(action("orders", "check_and_repair"), False)
            done = engine.perform(action("orders", "check_and_repair"), True)
            loss = done.losses[0]
            saved = engine.fingerprint(["orders"])["orders"].rows
            assert loss.rows is not None
            assert 0 < loss.rows < 200
            assert saved == 8000 - loss.rows
            assert loss.pages
            assert engine.catalog() == catalog
            assert [check for check in engine.check(None) if not check.passed] == []
            assert quarantine.old_schema(engine) in engine.leftovers()
            lab.sql("DELETE FROM orders LIMIT 1")
            assert lab.sql("SELECT COUNT(*) FROM seen") == [(1,)]
            engine.clean()
            assert engine.leftovers() == []

    def test_salvage_survives_a_crash_anywhere(self, lab: MariaDBLab) -> None:
        lab.fill()
        lab.sql("CREATE TABLE seen (n INT)")
        lab.sql("CREATE TRIGGER orders_ad AFTER DELETE ON orders FOR EACH ROW INSERT INTO seen VALUES (OLD.id)")
        lab.damage_table()
        repair = action("orders", "check_and_repair")
        with engine_of(lab) as engine:
            catalog = engine.catalog()
            for effects in (0, 1, 2, 3, 8, 20):
                with crashing_after(effects), pytest.raises(Crash):
                    engine.perform(repair, True)
            # The copy is many effects alike; what follows it is met by name.
            for beginning in ("DROP TRIGGER", "RENAME TABLE", "ALTER TABLE", "CREATE DEFINER", "DROP DATABASE"):
                with crash_before(beginning), pytest.raises(Crash):
                    engine.perform(repair, True)
            done = engine.perform(repair, True)
            assert done.losses[0].rows
            assert engine.catalog() == catalog
            assert lab.sql("SELECT COUNT(*) FROM orders") == [(8000 - done.losses[0].rows,)]
            assert engine.perform(repair, True).losses == done.losses

    def test_a_full_repair_that_would_drop_rows_is_undone_without_leave(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE old_log (id INT PRIMARY KEY, t VARCHAR(200)) ENGINE=MyISAM ROW_FORMAT=DYNAMIC")
        lab.sql("INSERT INTO old_log SELECT seq, REPEAT(CONCAT('line ', seq), 5) FROM seq_1_to_2000")
        lab.sql("FLUSH TABLES old_log")
        data = lab.server.data / lab.database / "old_log.MYD"
        with open(data, "r+b") as file:
            file.seek(data.stat().st_size // 2)
            file.write(b"\xff" * 64)
        damaged = data.read_bytes()
        with engine_of(lab) as engine:
            with pytest.raises(Damaged, match="put back"):
                engine.perform(action("old_log", "check_and_repair"), False)
            assert data.read_bytes() == damaged
            done = engine.perform(action("old_log", "check_and_repair"), True)
            assert done.losses
            assert done.losses[0].rows
            assert engine.fingerprint(["old_log"])["old_log"].rows == 2000 - done.losses[0].rows
            engine.clean()


@contextmanager
def crash_before(beginning: str) -> Iterator[list[str]]:
    """The first statement that begins so does not come about."""
    reached: list[str] = []
    ask, verbatim = Session.ask, Session.verbatim

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(session: Session, sql: str, **binds: object) -> Any:
            if sql.startswith(beginning):
                reached.append(sql)
                raise Crash(sql)
            return original(session, sql, **binds)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "ask", guarded(ask))
        patch.setattr(Session, "verbatim", guarded(verbatim))
        yield reached


class TestRollback:
    def test_a_crash_after_any_effect_of_the_exchange_still_ends_whole(self, lab: MariaDBLab) -> None:
        lab.difficult()
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            baseline, catalog = engine.fingerprint(None), engine.catalog()
            image = engine.image(backup, baseline, lab.folder, "image", PLAIN)
            points = 0
            for effects in range(60):
                lab.sql("UPDATE Kunden SET `Name` = 'spoiled'")
                side = engine.restore_beside(image, backup, PLAIN)
                try:
                    with crashing_after(effects):
                        engine.swap(side, {}, MARKER)
                except Crash:
                    points += 1
                    with engine_of(lab) as another:
                        another.swap(side, {}, MARKER)
                    crashed = True
                else:
                    crashed = False
                assert engine.fingerprint(None) == baseline
                assert engine.catalog() == catalog
                engine.clean()
                if not crashed:
                    break
            assert points >= 6

    def test_an_incomplete_side_copy_is_never_put_in_place(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            image = engine.image(backup, engine.fingerprint(None), lab.folder, "image", PLAIN)
            with crash_before("CREATE TABLE IF NOT EXISTS"), pytest.raises(Crash):
                engine.restore_beside(image, backup, PLAIN)
            with pytest.raises(Unable, match="not completely restored"):
                engine.swap(quarantine.new_schema(engine), {}, MARKER)
            side = engine.restore_beside(image, backup, PLAIN)
            assert engine.swap(side, {}, MARKER) == quarantine.old_schema(engine)
            engine.clean()

    def test_what_changed_between_backup_and_cut_is_in_the_image_and_what_was_dropped_is_not(
        self, lab: MariaDBLab
    ) -> None:
        lab.fill()
        lab.sql("CREATE TABLE gone (a INT)")
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            lab.sql("DROP TABLE gone")
            lab.sql("CREATE TABLE fresh (a INT PRIMARY KEY)")
            lab.sql("INSERT INTO fresh VALUES (1)")
            lab.sql("CREATE VIEW late AS SELECT a FROM fresh")
            baseline, catalog = engine.fingerprint(None), engine.catalog()
            image = engine.image(backup, baseline, lab.folder, "image", PLAIN)
            assert image.tables == ("fresh",)
            lab.sql("DROP VIEW late")
            lab.sql("DELETE FROM fresh")
            side = engine.restore_beside(image, backup, PLAIN)
            assert engine.fingerprint(None, side) == baseline
            engine.swap(side, {}, MARKER)
            assert engine.fingerprint(None) == baseline
            assert engine.catalog() == catalog
            engine.clean()

    def test_a_number_given_out_once_is_not_given_out_again(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            backup = backed_up(engine, lab)
            lab.sql("INSERT INTO customers (id, name) VALUES (9000, 'gone again')")
            lab.sql("DELETE FROM customers WHERE id = 9000")
            image = engine.image(backup, engine.fingerprint(None), lab.folder, "image", PLAIN)
            engine.swap(engine.restore_beside(image, backup, PLAIN), {}, MARKER)
            lab.sql("INSERT INTO customers (name) VALUES ('new')")
            assert lab.sql("SELECT MAX(id) FROM customers") == [(9001,)]
            engine.clean()


class TestProof:
    def test_a_row_of_failure_is_a_failure_and_a_note_is_not(self, lab: MariaDBLab) -> None:
        with engine_of(lab) as engine:
            fine = [("t", "optimize", "note", "doing recreate + analyze instead"), ("t", "optimize", "status", "OK")]
            assert engine.accept(fine, "rewriting", "t") == ["doing recreate + analyze instead"]
            for row in (
                ("t", "check", "error", "Corrupt"),
                ("t", "check", "Error", "x"),
                ("t", "x", "status", "Operation failed"),
            ):
                with pytest.raises(EngineError):
                    engine.accept([row], "checking", "t")

    def test_a_check_is_not_believed_when_sessions_were_killed_meanwhile(
        self, lab: MariaDBLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.fill()
        counts = iter(range(1000))
        monkeypatch.setattr(proof, "_kill_counters", lambda session: {"Com_kill": str(next(counts))})
        with engine_of(lab) as engine, pytest.raises(Transient, match="proves nothing"):
            engine.check(["orders"])

    def test_orphans_and_a_counter_that_fell_behind_are_found(self, lab: MariaDBLab) -> None:
        lab.fill()
        connection = lab.server.connect(lab.database)
        cursor = connection.cursor()
        cursor.execute("SET foreign_key_checks = 0")
        cursor.execute("INSERT INTO orders (customer_id, status) VALUES (999999, 'orphan')")
        connection.close()  # type: ignore[no-untyped-call]
        with engine_of(lab) as engine:
            failed = [(check.name, check.object) for check in engine.check(None) if not check.passed]
        assert failed == [("foreign key", "orders.orders_customer")]

    def test_null_empty_text_and_shifted_borders_are_different_rows(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE t (a VARCHAR(10), b VARCHAR(10))")
        seen: set[Fingerprint] = set()
        rows = ["(NULL, 'N')", "('', 'N')", "('N', NULL)", "('a', 'bc')", "('ab', 'c')", "('a', 'bc '),('a', 'bc ')"]
        with engine_of(lab) as engine:
            for values in rows:
                lab.sql("TRUNCATE t")
                lab.sql(f"INSERT INTO t VALUES {values}")
                seen.add(engine.fingerprint(None)["t"])
        assert len(seen) == len(rows)

    def test_another_storage_engine_and_another_index_give_the_same_fingerprint(self, lab: MariaDBLab) -> None:
        lab.difficult()
        with engine_of(lab) as engine:
            before = engine.fingerprint(None)
            lab.sql("ALTER TABLE keyless ENGINE=InnoDB, ADD KEY (b)")
            lab.sql("ALTER TABLE files ROW_FORMAT=COMPRESSED")
            assert engine.fingerprint(None) == before

    @pytest.mark.parametrize(
        "sql",
        ["SELECT 1 INTO OUTFILE '/tmp/x'", "/*! DROP TABLE orders */", "COMMIT", "SET GLOBAL read_only = 1", "KILL 1"],
    )
    def test_what_could_leave_the_read_only_transaction_is_refused(self, lab: MariaDBLab, sql: str) -> None:
        with engine_of(lab) as engine, pytest.raises(Unable):
            engine.query(sql)

    def test_percent_signs_colons_and_backslashes_of_an_operator_stay(self, lab: MariaDBLab) -> None:
        with engine_of(lab) as engine:
            assert engine.query(r"SELECT '100%', '%s', ':a', '\\' LIKE '%'") == [("100%", "%s", ":a", 1)]


class TestWork:
    def test_a_rebuild_is_ended_on_the_server_by_interrupt(self, lab: MariaDBLab) -> None:
        lab.sql("CREATE TABLE big (id INT PRIMARY KEY, t VARCHAR(200), KEY (t))")
        lab.sql("INSERT INTO big SELECT seq, REPEAT(MD5(seq), 5) FROM seq_1_to_50000")
        with engine_of(lab) as engine:
            before = engine.fingerprint(["big"])
            ended: list[BaseException] = []

            def work() -> None:
                try:
                    while True:
                        engine.perform(action("big", "rebuild"), False)
                except BaseException as error:
                    ended.append(error)

            thread = background(work)
            until = time.monotonic() + 20
            while not running(lab, "OPTIMIZE") and time.monotonic() < until:
                time.sleep(0.01)
            assert [p.object for p in engine.progress()] == ["big"]
            engine.interrupt()
            thread.join(5)
            assert [type(error) for error in ended] == [Interrupted]
            assert running(lab, "OPTIMIZE") == 0
            engine.clear_interrupt()
            assert engine.fingerprint(["big"]) == before

    def test_a_statement_over_its_limit_is_ended_and_said(self, lab: MariaDBLab) -> None:
        with engine_of(lab, statement_seconds=1) as engine, pytest.raises(Transient):
            engine.query("SELECT COUNT(*) FROM seq_1_to_1000000 a, seq_1_to_1000000 b")

    def test_a_table_somebody_holds_gives_up_after_the_lock_limit(self, lab: MariaDBLab) -> None:
        lab.fill()
        with lab.application() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM orders")
            with engine_of(lab, lock_seconds=1) as engine, pytest.raises(Transient):
                engine.perform(action("orders", "rebuild"), False)

    def test_the_cost_of_a_scan_falls_with_a_rebuild(self, lab: MariaDBLab) -> None:
        lab.fill()
        with engine_of(lab) as engine:
            # The other order of keys: every page keeps some rows, so none is freed.
            lab.sql("DELETE FROM orders WHERE id % 10 <> 4")
            query = "SELECT COUNT(*) FROM orders USE INDEX ()"
            before = engine.measure(query, 1)
            engine.perform(action("orders", "rebuild"), False)
            after = engine.measure(query, 1)
        assert before.cost_unit == after.cost_unit == "pages"
        assert before.cost is not None
        assert after.cost is not None
        assert after.cost < before.cost


class TestMySQL:
    def test_a_suspect_table_is_rebuilt_before_anything_checks_it(self) -> None:
        assert MySQL.reading_damage_kills
        assert MySQL.backup_methods == ("mysqldump", "table_dump")

    def test_a_plan_needs_no_server(self, lab: MariaDBLab) -> None:
        engine = MySQL(lab.url.set(port=1), Tag(1, 1), Limits())
        nothing_known = Diagnosis("8.4", 0, 0, None, None, (), ())
        assert engine.plan("rebuild", nothing_known, SMALL, None, False) == []


def test_the_private_server_is_gone_afterwards(tmp_path: Path) -> None:
    from demo.mariadb import ThrowawayMariaDB

    own = ThrowawayMariaDB(tmp_path / "own", {"performance-schema": "ON"})
    own.start()
    assert own.process is not None
    number = own.process.pid
    own.restart()
    own.connect().close()  # type: ignore[no-untyped-call]
    own.remove()
    assert not own.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
