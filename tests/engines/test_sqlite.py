"""What is particular to SQLite: its locks, its files, its damage."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pyrage
import pytest

from maintenance import archive
from maintenance.archive import Seal
from maintenance.engines.base import Engine
from maintenance.engines.errors import AccessDenied, Damaged, EngineError, Transient, Unable, Unreachable
from maintenance.engines.sqlite import SQLite
from maintenance.engines.sqlite.fingerprints import fingerprint_rows
from maintenance.engines.values import Action, Json, Limits, Loss, Tag, Thresholds
from maintenance.engines.words import say
from tests.engines.lab_sqlite import SQLiteLab

ROOT = Path(__file__).resolve().parents[2]
SMALL = Thresholds(minimum_bytes=10_000)
SHORT = Limits(lock_seconds=1, cut_seconds=1)
PLAIN = Seal()


@pytest.fixture
def lab(tmp_path: Path) -> SQLiteLab:
    return SQLiteLab(tmp_path / "shop")


@pytest.fixture
def wal_lab(tmp_path: Path) -> SQLiteLab:
    return SQLiteLab(tmp_path / "shop", "wal")


@contextmanager
def under_cut(engine: Engine) -> Iterator[Json]:
    engine.fence()
    gate = engine.read_gate()
    engine.cut(gate, {})
    try:
        yield gate
    finally:
        engine.clear_interrupt()
        engine.open_gate(gate, None)


@contextmanager
def another_process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Python code in a process of its own; it is ready when it has printed a line."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1]); connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
print("ready", flush=True); sys.stdin.read()
"""

WORKER = """
import sys, time
from sqlalchemy import URL
from maintenance.engines import open_engine
from maintenance.engines.values import Limits, Tag
engine = open_engine(URL.create("sqlite", database=sys.argv[1]), Tag(int(sys.argv[2]), int(sys.argv[3])), Limits())
engine.fence(); engine.cut(engine.read_gate(), {})
print("ready", flush=True)
while True: time.sleep(1)
"""


def gets_in(lab: SQLiteLab) -> bool:
    """Asked by another process: locks of one process do not bind the process itself."""
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT count(*) FROM sqlite_master')"
    return subprocess.run([sys.executable, "-c", code, str(lab.path)], capture_output=True).returncode == 0


def repaired(lab: SQLiteLab, allow_data_loss: bool = False) -> list[Loss]:
    """The whole repair of a sick file; afterwards every check passes."""
    losses: list[Loss] = []
    with lab.engine() as engine:
        found = engine.diagnose(SMALL)
        with under_cut(engine):
            for action in engine.plan("repair", found, SMALL, None, allow_data_loss):
                losses += engine.perform(action, allow_data_loss).losses
            assert [check for check in engine.check(None) if not check.passed] == []
        engine.clean()
    return losses


def content(lab: SQLiteLab) -> list[tuple[object, ...]]:
    return lab.sql("SELECT id, customer_id, status, note FROM orders ORDER BY id")


class TestTheFile:
    def test_a_missing_file_is_not_made(self, tmp_path: Path) -> None:
        lab = SQLiteLab(tmp_path / "shop")
        lab.path.unlink()
        with lab.engine() as engine:
            for ask in (engine.facts, engine.read_gate, engine.fence, lambda: engine.diagnose(SMALL)):
                with pytest.raises(Unreachable, match="no such file"):
                    ask()
        assert list(lab.path.parent.iterdir()) == []

    def test_a_folder_and_a_relative_path_are_refused(self, lab: SQLiteLab, tmp_path: Path) -> None:
        with pytest.raises(Unreachable, match="not a file"):
            SQLite(lab.url.set(database=str(tmp_path)), Tag(7, 1), SHORT).facts()
        with pytest.raises(Unable, match="absolute"):
            SQLite(lab.url.set(database="shop.db"), Tag(7, 1), SHORT).facts()

    def test_a_link_leads_to_the_same_database(self, lab: SQLiteLab, tmp_path: Path) -> None:
        link = tmp_path / "link.db"
        link.symlink_to(lab.path)
        with lab.engine() as engine:
            assert SQLite(lab.url.set(database=str(link)), Tag(7, 1), SHORT).facts() == engine.facts()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_of_somebody_else_is_access_denied(self, lab: SQLiteLab) -> None:
        lab.path.chmod(0)
        with lab.engine() as engine, pytest.raises(AccessDenied):
            engine.facts()


class TestTheCut:
    @pytest.mark.parametrize("journal_mode", ["delete", "wal"])
    def test_nothing_we_do_meanwhile_lets_another_process_in(self, tmp_path: Path, journal_mode: str) -> None:
        lab = SQLiteLab(tmp_path / "shop", journal_mode)
        lab.fill()
        with lab.engine() as engine, under_cut(engine) as gate:
            baseline = engine.fingerprint(None)
            first, second = (engine.back_up(method, lab.folder, method, PLAIN) for method in engine.backup_methods)
            image = engine.image(first, baseline, lab.folder, "image", PLAIN)
            assert first.snapshot == second.snapshot == baseline
            queries = engine.benchmark_queries(None)
            for act in (
                engine.facts,
                lambda: engine.diagnose(SMALL),
                lambda: engine.check(None),
                engine.catalog,
                lambda: engine.query("SELECT 1"),
                lambda: engine.measure(queries[0], 2),
                lambda: [engine.perform(action, False) for action in plan(engine, "rebuild")],
                lambda: engine.swap(engine.restore_beside(image, first, PLAIN), gate, {}),
                lambda: engine.gate_differences(gate),
                engine.leftovers,
                engine.clean,
                engine.read_gate,
            ):
                act()
                assert not gets_in(lab)
        assert gets_in(lab)

    def test_a_process_that_keeps_the_file_open_is_named(self, wal_lab: SQLiteLab) -> None:
        wal_lab.fill()
        with another_process(READER, str(wal_lab.path)) as reader, wal_lab.engine(limits=SHORT) as engine:
            engine.fence()
            with pytest.raises(Transient, match=f"process {reader.pid} "):
                engine.cut(engine.read_gate(), {})
            assert engine.diagnose(SMALL).connections == 1
            engine.open_gate(engine.read_gate(), None)
        assert wal_lab.sql("SELECT count(*) FROM orders") == [(8000,)]

    @pytest.mark.parametrize("journal_mode", ["delete", "wal"])
    def test_the_journal_mode_and_the_rights_come_back(self, tmp_path: Path, journal_mode: str) -> None:
        lab = SQLiteLab(tmp_path / "shop", journal_mode)
        lab.fill()
        lab.path.chmod(0o640)
        with lab.engine() as engine:
            with under_cut(engine) as gate:
                other = {"delete": "wal", "wal": "delete"}[journal_mode]
                lab.under_cut(engine, f"PRAGMA journal_mode = {other}")
                lab.path.chmod(0o600)
                assert len(engine.gate_differences(gate)) == 4
            assert engine.gate_differences(gate) == []
        assert lab.sql("PRAGMA journal_mode") == [(journal_mode,)]
        assert lab.path.stat().st_mode & 0o777 == 0o640

    def test_a_killed_worker_leaves_nobody_locked_out_and_the_next_one_finds_its_marker(self, lab: SQLiteLab) -> None:
        lab.fill()
        with another_process(WORKER, str(lab.path), "7", "1") as worker:
            assert not gets_in(lab)
            worker.kill()
            worker.wait()
            assert gets_in(lab)
        with lab.engine(token=2) as engine:
            assert engine.fence() == 0
            gate = engine.read_gate()
            assert engine.gate_differences(gate) == ["the marker shop.db.dbmaint is still there"]
            engine.cut(gate, {})
            assert not gets_in(lab)
            engine.open_gate(gate, None)
        assert [path.name for path in lab.path.parent.iterdir()] == ["shop.db"]

    def test_a_successor_without_a_claim_removes_the_lock_file_of_the_dead(self, lab: SQLiteLab) -> None:
        lab.fill()
        lock = lab.path.with_name("shop.db.dbmaint-lock")
        with another_process(WORKER, str(lab.path), "7", "1") as worker:
            with lab.engine(token=2) as engine:
                engine.facts()
            assert lock.exists()  # its holder lives
            worker.kill()
            worker.wait()
            with lab.engine(target=8) as engine:
                engine.facts()
            assert lock.exists()  # of another run target
            with lab.engine(token=2) as engine:
                engine.facts()
        assert not lock.exists()

    def test_a_paused_older_worker_is_ended_before_it_can_wake(self, lab: SQLiteLab) -> None:
        lab.fill()
        with another_process(WORKER, str(lab.path), "7", "1") as worker, lab.engine(token=2) as engine:
            os.kill(worker.pid, signal.SIGSTOP)
            assert engine.fence() == 1
            assert worker.wait(5) == -signal.SIGKILL
            engine.cut(engine.read_gate(), {})

    @pytest.mark.parametrize(("target", "token"), [(8, 1), (7, 2), (7, 3)])
    def test_any_other_maintenance_is_left_alone(self, lab: SQLiteLab, target: int, token: int) -> None:
        with (
            another_process(WORKER, str(lab.path), str(target), str(token)) as worker,
            lab.engine(token=2, limits=SHORT) as engine,
        ):
            with pytest.raises(Transient, match=f"run target {target} in process {worker.pid} "):
                engine.fence()
            assert worker.poll() is None

    def test_a_process_that_only_has_the_number_of_the_older_worker_is_not_killed(self, lab: SQLiteLab) -> None:
        with another_process(WORKER, str(lab.path), "7", "1") as worker, lab.engine(token=2, limits=SHORT) as engine:
            lock = lab.path.with_name("shop.db.dbmaint-lock")
            signed = json.loads(lock.read_text())
            lock.write_text(json.dumps({**signed, "started": signed["started"] - 1}))
            with pytest.raises(Transient):
                engine.fence()
            assert worker.poll() is None

    def test_two_targets_of_one_process_shut_each_other_out(self, lab: SQLiteLab) -> None:
        with lab.engine(target=1) as first, lab.engine(target=2, limits=SHORT) as second:
            first.fence()
            first.fence()
            with pytest.raises(Transient, match="run target 1 "):
                second.fence()
            first.close()
            assert second.fence() == 0


def plan(engine: Engine, kind: str, allow_data_loss: bool = False) -> list[Action]:
    assert kind in ("repair", "optimize", "rebuild")
    return engine.plan(kind, engine.diagnose(SMALL), SMALL, None, allow_data_loss)  # type: ignore[arg-type]


class TestBackup:
    def test_rows_that_are_only_in_the_write_ahead_log_are_in_both_kinds(self, wal_lab: SQLiteLab) -> None:
        wal_lab.fill()
        with closing(sqlite3.connect(wal_lab.path, isolation_level=None)) as client:
            client.execute("PRAGMA wal_autocheckpoint = 0")
            client.execute("INSERT INTO orders VALUES (100001, 1, 'new', 'in the log')")
            with wal_lab.engine() as engine:
                now = engine.fingerprint(None)
                for method in engine.backup_methods:
                    assert engine.back_up(method, wal_lab.folder, method, PLAIN).snapshot == now
        assert now["orders"].rows == 8001

    def test_a_damaged_table_is_copied_with_its_damage_and_the_backup_says_so(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.damage_table()
        with lab.engine() as engine:
            for method in engine.backup_methods:
                backup = engine.back_up(method, lab.folder, method, PLAIN)
                assert backup.verified
                assert not backup.snapshot["orders"].readable
                assert backup.snapshot["customers"].rows == 2000

    def test_a_file_without_its_header_can_still_be_copied_as_it_lies(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.write(0, bytes(16))
        with lab.engine() as engine:
            with pytest.raises(Damaged):
                engine.back_up("sqlite_backup", lab.folder, "first", PLAIN)
            backup = engine.back_up("file_copy", lab.folder, "second", PLAIN)
        assert backup.verified
        assert [path.name for path in lab.folder.iterdir()] == [backup.path.name]

    def test_a_sealed_backup_is_opened_again_and_without_the_key_it_is_not_called_verified(
        self, lab: SQLiteLab, tmp_path: Path
    ) -> None:
        lab.fill()
        identity = pyrage.x25519.Identity.generate()
        key = tmp_path / "age.key"
        key.write_text(f"{identity}\n")
        recipients = (str(identity.to_public()),)
        with lab.engine() as engine:
            opened = engine.back_up("sqlite_backup", lab.folder, "a", Seal(recipients, key))
            closed = engine.back_up("sqlite_backup", lab.folder, "b", Seal(recipients))
        assert (opened.verified, closed.verified) == (True, False)
        with archive.reading(opened.path, Seal(recipients, key)) as plain:
            assert plain.read(16) == b"SQLite format 3\x00"

    def test_the_image_goes_to_the_backup_folder_where_there_is_no_room_beside_the_file(
        self, lab: SQLiteLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.fill()
        usage = shutil.disk_usage
        beside = lab.path.parent
        monkeypatch.setattr(shutil, "disk_usage", lambda p: usage(p)._replace(free=5_000_000 if p == beside else 10**9))
        with lab.engine() as engine:
            backup = engine.back_up("sqlite_backup", lab.folder, "shop", PLAIN)
            with under_cut(engine):
                image = engine.image(backup, {}, lab.folder, "stem", PLAIN)
            assert Path(image.name).parent == lab.folder
            assert engine.leftovers() == [image.name]
            # As after a crash: another object, which never heard of the image.
        with lab.engine(token=2) as engine:
            assert engine.clean() == [image.name]
        assert list(beside.iterdir()) == [lab.path]


class TestRepair:
    def test_an_index_entry_that_is_only_wrong_is_found_and_made_again(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        data = lab.path.read_bytes()
        page = lab.pages("orders_status", "leaf")[1]
        lab.write(data.index(b"status ", (page - 1) * 4096), b"statuz ")
        with lab.engine() as engine:
            assert [f.code for f in engine.diagnose(SMALL).findings if f.severity == "high"] == ["index_damaged"]
            assert next(a.kind for a in plan(engine, "repair")) == "reindex"
        assert repaired(lab) == []
        assert content(lab) == before

    def test_the_index_of_a_constraint_comes_back_with_its_table(self, lab: SQLiteLab) -> None:
        lab.difficult()
        with lab.engine() as engine:
            before, catalog = engine.fingerprint(None), engine.catalog()
        lab.overwrite(lab.pages("sqlite_autoindex_customers_1", "leaf")[1], b"\xff")
        assert repaired(lab) == []
        with lab.engine() as engine:
            assert engine.fingerprint(None) == before
            assert engine.catalog() == catalog
        with pytest.raises(sqlite3.IntegrityError):
            lab.sql("INSERT INTO customers (name) VALUES ('NAME 3')")

    def test_rows_behind_a_lost_root_page_all_come_back_without_leave_to_lose_any(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        lab.overwrite(lab.pages("orders", "internal")[0], b"\0")
        assert repaired(lab) == []
        assert content(lab) == before

    def test_deleted_rows_stay_deleted_when_the_tree_is_lost(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.sql("DELETE FROM orders WHERE id BETWEEN 5000 AND 15000")
        before = content(lab)
        lab.overwrite(lab.pages("orders", "internal")[0], b"\xff")
        assert repaired(lab) == []
        assert content(lab) == before

    def test_the_lost_rows_are_named(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        page = lab.pages("orders", "leaf")[3]
        lab.damage_table()
        lab.overwrite(page, b"\xff")
        (loss,) = repaired(lab, allow_data_loss=True)
        after = content(lab)
        lost = sorted(set(before) - set(after))
        assert set(after) < set(before)
        assert (loss.rows, page in loss.pages) == (len(lost), True)
        assert str(lost[0][0]) in loss.detail

    def test_without_an_index_to_count_by_the_loss_is_of_unknown_size(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.sql("DROP INDEX orders_status")
        lab.damage_table()
        (loss,) = repaired(lab, allow_data_loss=True)
        assert loss.rows is None

    def test_two_damaged_tables_do_not_get_each_others_rows(self, lab: SQLiteLab) -> None:
        lab.fill()
        copies = "SELECT id, customer_id, status, note FROM copies"
        lab.sql("CREATE TABLE copies AS SELECT id, customer_id, status, 'copy of ' || note AS note FROM orders")
        lab.sql("CREATE INDEX copies_id ON copies (id)")
        before = content(lab), lab.sql(copies)
        inner = lab.pages("orders", "internal"), lab.pages("copies", "internal")
        lab.overwrite(inner[0][1], b"\0")
        lab.overwrite(inner[1][0], b"\0")
        losses = repaired(lab, allow_data_loss=True)
        after = content(lab), lab.sql(copies)
        assert set(after[0]) <= set(before[0])
        assert set(after[1]) <= set(before[1])
        assert {loss.object: loss.rows for loss in losses} == {
            "orders": len(before[0]) - len(after[0]),
            "copies": len(before[1]) - len(after[1]),
        }

    def test_repairs_asked_for_at_once_do_not_get_in_each_others_way(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.sql("CREATE INDEX customers_name ON customers (name)")
        with lab.engine() as engine:
            before = engine.fingerprint(None)
        for table in ("orders", "customers"):
            lab.overwrite(lab.pages(table, "internal")[0], b"\0")
        with lab.engine() as engine:
            actions = [action for action in plan(engine, "repair") if action.stage == 0]
            assert len(actions) == 2
            with under_cut(engine), ThreadPoolExecutor(2) as pool:
                done = list(pool.map(lambda action: engine.perform(action, False), actions))
            assert [performed.losses for performed in done] == [(), ()]
            assert engine.fingerprint(None) == before

    def test_every_kind_of_table_survives_being_made_again_from_its_pages(self, lab: SQLiteLab) -> None:
        names = lab.difficult()
        lab.script(
            # Rows that do not have the column, long rows with overflow pages, and numbers of every size.
            "ALTER TABLE typed ADD COLUMN added TEXT DEFAULT 'since then'",
            "INSERT INTO typed (id, payload, weight) VALUES (9000000000, randomblob(70000), 1.5)",
            "INSERT INTO typed (id, weight) SELECT -id, -id * 1000000007 * 100 FROM customers",
        )
        with lab.engine() as engine:
            before, catalog = engine.fingerprint(None), engine.catalog()
            with under_cut(engine):
                for name in names:
                    assert moved(engine, name) == before[name]
            assert engine.fingerprint(None) == before
            assert engine.catalog() == catalog

    def test_another_text_encoding_is_read_right(self, tmp_path: Path) -> None:
        lab = SQLiteLab(tmp_path / "shop")
        lab.path.unlink()
        lab.path.touch()
        lab.sql("PRAGMA encoding = 'UTF-16be'")
        with closing(sqlite3.connect(lab.path)) as connection:
            connection.execute("PRAGMA encoding = 'UTF-16be'")
            connection.execute("CREATE TABLE t (a TEXT)")
            connection.executemany("INSERT INTO t VALUES (?)", [("注文 😀",), ("",), ("x" * 9000,)])
            connection.commit()
        with lab.engine() as engine, under_cut(engine):
            before = engine.fingerprint(None)["t"]
            assert moved(engine, "t") == before

    def test_a_lost_magic_is_written_again(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        mode = lab.path.stat().st_mode
        lab.write(0, b"\xff" * 16)
        with lab.engine() as engine, under_cut(engine):
            # What is in it can be proven although SQLite cannot open it.
            assert engine.fingerprint(None)["orders"].rows == 8000
            assert not gets_in(lab)
        assert repaired(lab) == []
        assert content(lab) == before
        assert lab.path.stat().st_mode == mode

    def test_what_is_left_of_a_file_that_was_cut_short_is_saved(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        os.truncate(lab.path, lab.path.stat().st_size * 7 // 10 // 4096 * 4096)
        with pytest.raises(Damaged):
            repaired(lab)
        (loss,) = repaired(lab, allow_data_loss=True)
        after = content(lab)
        assert set(after) < set(before)
        assert len(after) > 4000
        assert (loss.object, loss.rows) == ("orders", None)

    def test_a_file_with_nothing_readable_is_a_finding_and_not_a_crash(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.overwrite(1, b"\xff")
        with lab.engine() as engine:
            found = engine.diagnose(SMALL)
            assert [finding.code for finding in found.findings] == ["file_damaged"]
            plan = engine.plan("repair", found, SMALL, None, True)
            assert [action.kind for action in plan] == ["write_first_page", "vacuum"]
            with under_cut(engine):
                with pytest.raises(Damaged, match="not allowed"):
                    engine.perform(plan[0], False)
                with pytest.raises(Damaged, match="nowhere else in the file; restore the file from a backup"):
                    engine.perform(plan[0], True)
        assert lab.path.read_bytes()[:4096] == b"\xff" * 4096

    @pytest.mark.parametrize("page_size", [1024, 4096])
    def test_a_lost_first_page_is_written_again_from_the_pages_of_the_schema(
        self, lab: SQLiteLab, page_size: int
    ) -> None:
        with closing(sqlite3.connect(lab.path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {page_size}")
            connection.execute("VACUUM")
        lab.fill()
        columns = ", ".join(f"column_{number} TEXT" for number in range(20))
        lab.script(*(f"CREATE TABLE more_{number} (id INTEGER PRIMARY KEY, {columns})" for number in range(60)))
        lab.sql("INSERT INTO more_7 (id, column_3) VALUES (1, 'kept')")
        lab.sql("PRAGMA user_version = 12")
        before = content(lab)
        with lab.engine() as engine:
            catalog = engine.catalog()
        lab.write(0, b"\xff" * page_size)
        (loss,) = repaired(lab, allow_data_loss=True)
        assert "user_version" in loss.detail
        assert content(lab) == before
        assert lab.sql("SELECT column_3 FROM more_7") == [("kept",)]
        with lab.engine() as engine:
            assert {name for name, digest in engine.catalog().items() if catalog[name] != digest} == {"settings"}
            assert [check for check in engine.check(None) if not check.passed] == []
            assert [finding.code for finding in engine.diagnose(SMALL).findings if finding.severity == "critical"] == []

    def test_an_action_done_twice_is_done_once(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.damage_index()
        with lab.engine() as engine:
            actions = plan(engine, "repair")
            with under_cut(engine):
                for action in [*actions, *actions]:
                    engine.perform(action, False)
                assert all(check.passed for check in engine.check(None))

    def test_an_unknown_action_is_refused(self, lab: SQLiteLab) -> None:
        with lab.engine() as engine, pytest.raises(Unable):
            engine.perform(Action("orders", "drop_everything", say("why"), say("none"), 0, 0), True)


def moved(engine: Engine, name: str) -> object:
    """The fingerprint of a table after its rows were read page by page and put into a new one."""
    from maintenance.engines.sqlite.replace import move_by_pages

    assert isinstance(engine, SQLite)
    move_by_pages(engine.file, name)
    return engine.fingerprint([name])[name]


class TestPartialMaintenance:
    def test_named_tables_are_never_a_reason_to_rewrite_the_file(self, lab: SQLiteLab) -> None:
        lab.fill()
        with lab.engine() as engine:
            found = engine.diagnose(SMALL, ["orders"])
            kinds = [action.kind for action in engine.plan("rebuild", found, SMALL, ["orders"], False)]
        assert kinds == ["reindex", "analyze"]

    def test_a_damaged_index_of_a_named_table_is_repaired_in_place(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        lab.damage_index()
        with lab.engine() as engine:
            actions = engine.plan("repair", engine.diagnose(SMALL, ["orders"]), SMALL, ["orders"], False)
            assert [action.object for action in actions] == ["orders", "orders"]
            with under_cut(engine):
                for action in actions:
                    engine.perform(action, False)
                assert all(check.passed for check in engine.check(["orders"]))
        assert content(lab) == before


class TestRollback:
    def test_a_file_that_lost_its_header_gets_the_image_in_one_rename(self, wal_lab: SQLiteLab) -> None:
        lab = wal_lab
        lab.fill()
        before = content(lab)
        with lab.engine() as engine:
            backup = engine.back_up("sqlite_backup", lab.folder, "shop", PLAIN)
            with under_cut(engine):
                image = engine.image(backup, {}, lab.folder, "image", PLAIN)
            lab.write(0, bytes(200))
            # A journal of the broken file must not be played into the good one.
            lab.path.with_name("shop.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
            gate: Json = {
                "journal_mode": "wal",
                "mode": 0o644,
                "owner": lab.path.stat().st_uid,
                "group": lab.path.stat().st_gid,
            }
            side = engine.restore_beside(image, backup, PLAIN)
            engine.swap(side, gate, {})
            assert not gets_in(lab)
            engine.open_gate(gate, None)
            assert engine.gate_differences(gate) == []
            engine.clean()
        assert content(lab) == before
        assert lab.sql("PRAGMA journal_mode") == [("wal",)]
        assert list(lab.path.parent.iterdir()) == [lab.path]

    def test_an_image_that_changed_is_not_restored(self, lab: SQLiteLab) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = engine.back_up("sqlite_backup", lab.folder, "shop", PLAIN)
            with under_cut(engine):
                image = engine.image(backup, {}, lab.folder, "image", PLAIN)
                with open(image.name, "r+b") as file:
                    file.seek(5000)
                    file.write(b"?")
                with pytest.raises(Damaged, match="not what was written"):
                    engine.restore_beside(image, backup, PLAIN)
            engine.clean()
            with pytest.raises(Unable, match="not there"):
                engine.restore_beside(image, backup, PLAIN)


CRASHES = """
import sys
from sqlalchemy import URL
from maintenance.archive import Seal
from maintenance.engines import open_engine
from maintenance.engines.values import Image, Limits, Tag, Thresholds
from pathlib import Path
url, work, folder = URL.create("sqlite", database=sys.argv[1]), sys.argv[2], Path(sys.argv[3])
engine = open_engine(url, Tag(7, int(sys.argv[4])), Limits())
engine.fence(); gate = engine.read_gate(); engine.cut(gate, {})
small = Thresholds(minimum_bytes=10_000)
found = engine.diagnose(small)
backup = engine.back_up("sqlite_backup", folder, "shop", Seal())
image = engine.image(backup, {}, folder, "image", Seal())
print("ready", flush=True)
while True:
    if work == "swap":
        engine.swap(engine.restore_beside(image, backup, Seal()), gate, {})
    else:
        for action in engine.plan(work, found, small, None, False):
            engine.perform(action, False)
"""


class TestCrash:
    @pytest.mark.parametrize("work", ["rebuild", "repair", "swap"])
    def test_killed_at_any_moment_the_file_keeps_every_row(self, lab: SQLiteLab, work: str) -> None:
        lab.fill()
        before = content(lab)
        if work == "repair":
            lab.overwrite(lab.pages("orders", "internal")[0], b"\0")
        for number in range(1, 5):
            with another_process(CRASHES, str(lab.path), work, str(lab.folder), str(number)) as worker:
                time.sleep(0.03 * number)
                worker.kill()
                worker.wait()
            assert gets_in(lab)
        repaired(lab)
        assert content(lab) == before
        with lab.engine(token=9) as engine:
            engine.fence()
            gate = engine.read_gate()
            engine.open_gate(gate, None)
            assert engine.gate_differences(gate) == []
            engine.clean()
        assert list(lab.path.parent.iterdir()) == [lab.path]


class TestLimits:
    def test_a_statement_ends_at_its_limit_and_says_so(self, lab: SQLiteLab) -> None:
        lab.fill()
        with lab.engine(limits=Limits(statement_seconds=0.3)) as engine, pytest.raises(Transient, match="longer than"):
            engine.query("SELECT count(*) FROM orders a, orders b, orders c")

    def test_a_locked_file_is_waited_for_and_then_told(self, lab: SQLiteLab) -> None:
        lab.fill()
        with closing(sqlite3.connect(lab.path, isolation_level=None)) as client:
            client.execute("BEGIN EXCLUSIVE")
            with lab.engine(limits=Limits(lock_seconds=0.3)) as engine, pytest.raises(Transient, match="locked"):
                engine.fingerprint(None)

    def test_a_rewrite_is_interrupted_and_the_file_stays_as_it_was(self, lab: SQLiteLab) -> None:
        lab.fill()
        before = content(lab)
        ended: list[BaseException] = []
        with lab.engine() as engine:
            actions = [action for action in plan(engine, "rebuild") if action.kind == "vacuum"]

            def work() -> None:
                try:
                    while True:
                        engine.perform(actions[0], False)
                except EngineError as error:
                    ended.append(error)

            with under_cut(engine):
                worker = threading.Thread(target=work)
                worker.start()
                time.sleep(0.1)
                engine.interrupt()
                worker.join(5)
                assert not worker.is_alive()
        assert len(ended) == 1
        assert content(lab) == before


def test_equal_rows_do_not_cancel_each_other_and_types_count() -> None:
    one = fingerprint_rows([(1, "a")])
    assert fingerprint_rows([(1, "a")] * 3)[1] != one[1]
    assert fingerprint_rows([(1.0, "a")]) != one
    assert fingerprint_rows([(1, b"a")]) != one
    assert fingerprint_rows([(1, None)]) != fingerprint_rows([(1, "")])
