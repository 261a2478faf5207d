"""What every engine promises to the procedure. The same sentences for each product."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from maintenance.engines import archive, open_engine
from maintenance.engines.archive import Archive, ArchiveError, Seal
from maintenance.engines.base import Engine
from maintenance.engines.errors import AccessDenied, Damaged, EngineError, Interrupted, ResourceShortage, Unreachable
from maintenance.engines.values import Action, Backup, Fingerprint, Image, Json, Limits, Loss, Tag, Thresholds
from tests.engines.lab import Lab

MARKER: Json = {"run": 5, "target": 7}
SMALL = Thresholds(minimum_bytes=10_000)
PLAIN = Seal()
KEPT = 8000
"""Orders that `fill` leaves."""
NEW_ORDER = "INSERT INTO orders (id, customer_id, status, note) VALUES ({number}, 1, 'new', 'after the backup')"


@contextmanager
def under_cut(engine: Engine) -> Iterator[Json]:
    """Fenced and cut; given back as it was, whatever happens."""
    engine.lock.fence()
    gate = engine.gate.read_state()
    engine.gate.cut(gate, MARKER)
    try:
        yield gate
    finally:
        engine.clear_interrupt()
        engine.gate.open(gate, None)


def backed_up(engine: Engine, lab: Lab, stem: str = "first") -> Backup:
    return engine.backups.back_up(engine.backups.methods[0], lab.folder, stem, PLAIN)


def imaged(engine: Engine, lab: Lab, backup: Backup) -> tuple[dict[str, Fingerprint], Image]:
    baseline = engine.verifier.fingerprint(None)
    return baseline, engine.backups.image(backup, baseline, lab.folder, "image", PLAIN)


def spoil(engine: Engine, lab: Lab, statement: str) -> None:
    """Writes into the live database although it is cut: as the administrator, or through our own lock."""
    if hasattr(lab, "under_cut"):
        lab.under_cut(engine, statement)
    else:
        lab.sql(statement)


def perform_all(engine: Engine, actions: list[Action], allow_data_loss: bool = False) -> list[Loss]:
    losses: list[Loss] = []
    for action in sorted(actions, key=lambda a: a.stage):
        losses += engine.actions.perform(action, allow_data_loss).losses
    return losses


def count_orders(engine: Engine) -> int:
    return int(str(engine.benchmark.query("SELECT count(*) FROM orders")[0][0]))


class TestWhoIsIt:
    def test_the_same_database_says_the_same_of_itself_twice(self, lab: Lab) -> None:
        with lab.engine() as engine, lab.engine(token=2) as again:
            assert engine.sessions.facts() == again.sessions.facts()
            product = {"mysql": "MySQL", "mariadb": "MariaDB", "sqlite": "SQLite", "postgresql": "PostgreSQL"}[
                engine.name
            ]
            assert product in engine.sessions.facts().version
            assert product in engine.diagnostics.diagnose(SMALL).version
            assert not engine.sessions.facts().is_replica

    def test_a_database_that_cannot_be_reached_is_one_clear_sentence_without_the_password(self, lab: Lab) -> None:
        if lab.url.get_backend_name() == "sqlite":
            url = lab.url.set(database=f"{lab.url.database}.absent")
        else:
            url = lab.url.set(username="nobody_here", password="hunter2-secret")
        engine = open_engine(url, Tag(7, 1), Limits())
        try:
            with pytest.raises((AccessDenied, Unreachable)) as told:
                engine.sessions.facts()
        finally:
            engine.close()
        assert "hunter2-secret" not in str(told.value)
        assert str(told.value).startswith("Failed while ")
        assert "\n" not in str(told.value)

    def test_tables_are_found_by_every_way_to_write_their_names(self, lab: Lab) -> None:
        names = lab.difficult()
        with lab.engine() as engine:
            assert engine.sessions.resolve(names) == (names, [])
            assert engine.sessions.resolve(["no_such_table", names[0], names[0]]) == ([names[0]], ["no_such_table"])


class TestDiagnosis:
    def test_deleted_rows_are_found_as_bloat(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            orders = engine.sessions.resolve(["orders"])[0][0]
        assert any("bloat" in f.code or "dead" in f.code for f in found.findings if f.object == orders)
        assert found.size_bytes > 0
        assert found.health < 100

    def test_optimize_plans_work_for_the_bloated_table_and_none_for_a_tidy_database(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            plan = engine.planner.plan("optimize", found, SMALL, None, False)
            assert plan
            with under_cut(engine):
                perform_all(engine, plan)
                again = engine.diagnostics.diagnose(SMALL)
                left = engine.planner.plan("optimize", again, SMALL, None, False)
        assert [action.kind for action in left] == []
        assert again.size_bytes < found.size_bytes

    def test_a_sound_database_needs_no_repair_and_rebuild_does_everything(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            # An engine whose check would harm a sick server plans the check itself.
            assert all("check" in action.kind for action in engine.planner.plan("repair", found, SMALL, None, False))
            rebuild = engine.planner.plan("rebuild", found, SMALL, None, False)
        assert rebuild
        assert all(action.reason and action.lock for action in rebuild)

    def test_planning_for_one_table_leaves_the_others_alone(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            orders = engine.sessions.resolve(["orders"])[0]
            plan = engine.planner.plan("rebuild", engine.diagnostics.diagnose(SMALL, orders), SMALL, orders, False)
        assert plan
        assert all("orders" in action.object and "customers" not in action.object for action in plan)


class TestBackup:
    @pytest.mark.parametrize("which", [0, 1])
    def test_a_backup_is_read_back_and_holds_what_was_there(self, lab: Lab, which: int) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = engine.backups.back_up(engine.backups.methods[which], lab.folder, "shop", PLAIN)
            now = engine.verifier.fingerprint(None)
        assert backup.verified
        assert backup.path.stat().st_size == backup.bytes > 0
        archive.verify(Archive(backup.path, backup.bytes, backup.sha256))
        assert {name: now[name] for name in backup.snapshot} == dict(backup.snapshot)
        assert [path.name for path in lab.folder.iterdir()] == [backup.path.name]

    def test_a_flipped_byte_and_a_missing_end_are_noticed(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = backed_up(engine, lab)
        whole = backup.path.read_bytes()
        middle = len(whole) // 2
        for damaged in (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], whole[:-20]):
            backup.path.write_bytes(damaged)
            with pytest.raises(ArchiveError):
                archive.verify(Archive(backup.path, backup.bytes, backup.sha256))

    def test_a_disk_that_forgets_what_was_written_gives_no_backup(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.fill()
        write = archive.write

        def forgetful(*args: object, **more: object) -> Archive:
            written = write(*args, **more)  # type: ignore[arg-type]
            with open(written.path, "r+b") as file:
                file.truncate(written.bytes - 10)
            return written

        monkeypatch.setattr(archive, "write", forgetful)
        with lab.engine() as engine, pytest.raises(EngineError):
            backed_up(engine, lab)
        assert list(lab.folder.iterdir()) == []

    def test_a_folder_that_takes_no_files_is_a_shortage(self, lab: Lab) -> None:
        lab.fill()
        folder = lab.folder / "a file"
        folder.write_text("not a folder")
        with lab.engine() as engine, pytest.raises(ResourceShortage):
            engine.backups.back_up(engine.backups.methods[0], folder, "shop", PLAIN)
        assert folder.read_text() == "not a folder"

    def test_a_full_disk_is_a_shortage_and_leaves_no_part_of_a_file(self, lab: Lab, tmp_path: Path) -> None:
        lab.fill()
        with small_disk(tmp_path) as folder:
            with lab.engine() as engine, pytest.raises(ResourceShortage):
                backed_up_to(engine, folder)
            assert list(folder.iterdir()) == []


def backed_up_to(engine: Engine, folder: Path) -> Backup:
    return engine.backups.back_up(engine.backups.methods[0], folder, "shop", PLAIN)


@contextmanager
def small_disk(folder: Path, size: str = "16k") -> Iterator[Path]:
    place = folder / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this account cannot mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


class TestCut:
    def test_a_reconnecting_application_gets_nothing_in(self, lab: Lab) -> None:
        lab.fill()
        stop, written, refused = threading.Event(), [0], [0]

        def storm() -> None:
            number = 100_000
            while not stop.is_set():
                number += 1
                try:
                    with lab.application() as client:
                        client.execute(NEW_ORDER.format(number=number))
                    written[0] += 1
                except Exception:  # the driver's own, which differs by product
                    refused[0] += 1
                    time.sleep(0.001)

        client = threading.Thread(target=storm)
        client.start()
        try:
            while written[0] < 3:
                time.sleep(0.01)
            with lab.engine() as engine, under_cut(engine) as gate:
                assert engine.gate.differences(gate) != []
                first, before = count_orders(engine), refused[0]
                while refused[0] < before + 3:
                    time.sleep(0.01)
                assert count_orders(engine) == first
            seen, until = written[0], time.monotonic() + 10
            while written[0] == seen and time.monotonic() < until:
                time.sleep(0.01)
            assert written[0] > seen
        finally:
            stop.set()
            client.join()

    def test_a_session_that_was_there_before_cannot_go_on(self, lab: Lab) -> None:
        lab.fill()
        with lab.application() as client:
            client.execute("SELECT count(*) FROM orders")
            with lab.engine() as engine, under_cut(engine), pytest.raises(Exception):  # noqa: B017, PT011
                client.execute("SELECT count(*) FROM orders")

    def test_everything_is_exactly_as_before_after_the_last_stage(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            engine.lock.fence()
            gate = engine.gate.read_state()
            assert engine.gate.differences(gate) == []
            engine.gate.cut(gate, MARKER)
            engine.gate.cut(gate, MARKER)
            for share in (0.1, 0.5, None, None):
                engine.gate.open(gate, share)
            assert engine.gate.differences(gate) == []
            assert engine.gate.read_state() == gate
        with lab.application() as client:
            client.execute(NEW_ORDER.format(number=100_001))

    def test_after_a_crash_the_next_claim_finds_the_state_before_and_releases(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine(token=1) as crashed, lab.engine(token=2) as engine:
            crashed.lock.fence()
            gate = crashed.gate.read_state()
            crashed.gate.cut(gate, MARKER)
            engine.lock.fence()
            assert engine.gate.read_state() == gate
            engine.gate.cut(gate, MARKER)
            assert count_orders(engine) == KEPT
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
        with lab.application() as client:
            assert client.execute("SELECT count(*) FROM orders") is not None


class TestFingerprint:
    def test_rebuilding_keeps_every_row_and_every_definition(self, lab: Lab) -> None:
        names = lab.difficult()
        with lab.engine() as engine, under_cut(engine):
            before, catalog = engine.verifier.fingerprint(None), engine.verifier.definitions()
            assert set(names) <= set(before)
            assert all(found.readable for found in before.values())
            perform_all(engine, engine.planner.plan("rebuild", engine.diagnostics.diagnose(SMALL), SMALL, None, False))
            assert engine.verifier.fingerprint(None) == before
            assert engine.verifier.definitions() == catalog
            assert [check for check in engine.verifier.check(None) if not check.passed] == []

    def test_one_changed_cell_is_seen(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            orders = engine.sessions.resolve(["orders"])[0]
            before = engine.verifier.fingerprint(orders)
            number = int(str(engine.benchmark.query("SELECT min(id) FROM orders")[0][0]))
            lab.sql(f"UPDATE orders SET note = 'another' WHERE id = {number}")
            after = engine.verifier.fingerprint(orders)
        assert before[orders[0]].rows == after[orders[0]].rows == KEPT
        assert before[orders[0]].digest != after[orders[0]].digest

    def test_the_order_of_the_rows_does_not_matter(self, lab: Lab) -> None:
        lab.fill()
        # With a key: numbers that a product gives to rows by itself are part of what must stay.
        for name, order in (("straight", "id"), ("shuffled", "note DESC, id")):
            lab.sql(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, customer_id INTEGER, note VARCHAR(500))")
            lab.sql(f"INSERT INTO {name} SELECT id, customer_id, note FROM orders ORDER BY {order}")
        with lab.engine() as engine:
            found = engine.verifier.fingerprint(engine.sessions.resolve(["straight", "shuffled"])[0])
        first, second = found.values()
        assert first == second
        assert first.rows == KEPT

    def test_a_changed_definition_is_seen(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            before = engine.verifier.definitions()
            lab.sql("CREATE INDEX orders_note ON orders (customer_id, status)")
            assert engine.verifier.definitions() != before


class TestRollback:
    def test_rows_committed_after_the_backup_survive(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = backed_up(engine, lab)
            with lab.application() as client:
                client.execute(NEW_ORDER.format(number=100_001))
            with under_cut(engine) as gate:
                baseline, image = imaged(engine, lab, backup)
                spoil(engine, lab, "DELETE FROM orders WHERE id < 500")
                assert engine.verifier.fingerprint(None) != baseline
                side = engine.rollback.restore_beside(image, backup, PLAIN)
                assert engine.verifier.fingerprint(None, side) == baseline
                broken = engine.rollback.swap(side, gate, MARKER)
                assert engine.rollback.swap(side, gate, MARKER) == broken
                assert engine.verifier.fingerprint(None) == baseline
                assert broken
            assert engine.gate.differences(gate) == []
            engine.rollback.clean()
        with lab.application() as client:
            assert list(client.execute("SELECT note FROM orders WHERE id = 100001")) == [("after the backup",)]

    def test_a_difficult_schema_comes_back_as_it_was(self, lab: Lab) -> None:
        lab.difficult()
        with lab.engine() as engine:
            backup = backed_up(engine, lab)
            with under_cut(engine) as gate:
                baseline, image = imaged(engine, lab, backup)
                catalog = engine.verifier.definitions()
                side = engine.rollback.restore_beside(image, backup, PLAIN)
                assert engine.verifier.fingerprint(None, side) == baseline
                # Some products can give views, routines and the like their place only after the swap.
                assert engine.verifier.definitions(side).items() <= catalog.items()
                engine.rollback.swap(side, gate, MARKER)
                assert engine.verifier.fingerprint(None) == baseline
                assert engine.verifier.definitions() == catalog
            engine.rollback.clean()
            assert engine.gate.differences(gate) == []


class TestRepair:
    def test_a_damaged_index_is_made_again_without_losing_a_row(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            before = engine.verifier.fingerprint(None)
        lab.damage_index()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            with under_cut(engine):
                plan = engine.planner.plan("repair", found, SMALL, None, False)
                assert plan or engine.planner.plan("rebuild", found, SMALL, None, False)
                assert perform_all(engine, plan or engine.planner.plan("rebuild", found, SMALL, None, False)) == []
                assert engine.verifier.fingerprint(None) == before
                assert [check for check in engine.verifier.check(None) if not check.passed] == []

    def test_rows_that_cannot_be_read_are_not_given_up_without_leave(self, lab: Lab) -> None:
        lab.fill()
        orders = lab.damage_table()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            with under_cut(engine):
                before = engine.verifier.fingerprint([orders])
                plan = engine.planner.plan("repair", found, SMALL, None, False)
                try:
                    assert perform_all(engine, plan) == []
                except Damaged:
                    pass
                assert engine.verifier.fingerprint([orders]) == before

    def test_with_leave_every_lost_row_is_counted(self, lab: Lab) -> None:
        lab.fill()
        orders = lab.damage_table()
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(SMALL)
            with under_cut(engine):
                losses = perform_all(engine, engine.planner.plan("repair", found, SMALL, None, True), True)
                after = engine.verifier.fingerprint([orders])[orders]
                assert [check for check in engine.verifier.check(None) if not check.passed] == []
        assert after.readable
        assert after.rows is not None
        assert after.rows > KEPT / 2
        assert losses or after.rows == KEPT
        assert all(loss.object == orders and loss.detail for loss in losses)
        if all(loss.rows is not None for loss in losses):
            assert after.rows + sum(loss.rows or 0 for loss in losses) == KEPT


class TestBenchmark:
    def test_the_same_work_costs_the_same_twice_and_the_list_stays(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine, under_cut(engine):
            queries = engine.benchmark.queries(None)
            assert queries
            assert queries == engine.benchmark.queries(None)
            for query in queries:
                first, second = engine.benchmark.measure(query, 3), engine.benchmark.measure(query, 3)
                assert first.error is None
                assert len(first.times_ms) == 3
                assert (first.cost, first.cost_unit) == (second.cost, second.cost_unit)

    def test_an_error_is_part_of_the_sample(self, lab: Lab) -> None:
        with lab.engine() as engine:
            sample = engine.benchmark.measure("SELECT * FROM no_such_table", 2)
        assert sample.error
        assert sample.times_ms == ()

    @pytest.mark.parametrize("statement", ["DELETE FROM orders", "DROP TABLE orders", "CREATE TABLE new (a INTEGER)"])
    def test_a_functional_check_cannot_write(self, lab: Lab, statement: str) -> None:
        lab.fill()
        with lab.engine() as engine:
            with pytest.raises(EngineError):
                engine.benchmark.query(statement)
            assert count_orders(engine) == KEPT

    def test_a_statement_behind_a_semicolon_does_not_leave_the_transaction_that_cannot_write(self, lab: Lab) -> None:
        """Who does not know each product's quoting may take the semicolon for a part of a text or a comment."""
        lab.fill()
        with lab.engine() as engine:
            for statement in (
                "SELECT 1; COMMIT; DROP TABLE orders",
                r"SELECT E'\''; COMMIT; DROP TABLE orders; --'",
                "SELECT 1 AS a$b$; COMMIT; DROP TABLE orders; SELECT 1 AS a$b$",
                "SELECT 1 --\r; COMMIT; DROP TABLE orders",
                "/* /* */ ' */ SELECT 1; COMMIT; DROP TABLE orders; --'",
            ):
                with suppress(EngineError):
                    engine.benchmark.query(statement)
                engine.benchmark.measure(statement, 1)
                assert count_orders(engine) == KEPT, statement

    def test_a_short_load_test_counts_its_requests(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine, under_cut(engine):
            load = engine.benchmark.load_test(["SELECT count(*) FROM customers"], 0.3, 2)
        assert load.requests > 0
        assert load.errors == 0

    def test_a_load_test_goes_on_behind_a_question_that_fails(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine, under_cut(engine):
            load = engine.benchmark.load_test(["SELECT count(*) FROM customers", "SELECT nothing FROM customers"], 1, 2)
        assert load.errors > 0
        assert load.requests > load.errors
        assert load.p50_ms is not None


class TestInterrupt:
    def test_work_ends_within_five_seconds_and_nothing_begins_until_it_is_cleared(self, lab: Lab) -> None:
        lab.fill()
        ended: list[BaseException] = []
        with lab.engine() as engine:

            def work() -> None:
                try:
                    engine.benchmark.query(
                        "SELECT count(*) FROM orders a, orders b, orders c WHERE a.id + b.id + c.id = 1"
                    )
                except BaseException as error:
                    ended.append(error)

            worker = threading.Thread(target=work)
            worker.start()
            time.sleep(0.5)
            assert worker.is_alive()
            begun = time.monotonic()
            engine.interrupt()
            worker.join(10)
            assert time.monotonic() - begun < 5
            assert [type(error) for error in ended] == [Interrupted]
            with pytest.raises(Interrupted):
                engine.verifier.fingerprint(None)
            engine.clear_interrupt()
            assert count_orders(engine) == KEPT


class TestAfterwards:
    def test_nothing_of_ours_is_left(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            catalog = engine.verifier.definitions()
            backup = backed_up(engine, lab)
            with under_cut(engine) as gate:
                _, image = imaged(engine, lab, backup)
                side = engine.rollback.restore_beside(image, backup, PLAIN)
                engine.rollback.swap(side, gate, MARKER)
            assert engine.rollback.leftovers() != []
            assert engine.rollback.clean() != []
            assert engine.rollback.leftovers() == []
            assert engine.rollback.clean() == []
            assert engine.verifier.definitions() == catalog
            assert engine.gate.differences(gate) == []
        # An image that is a dump belongs to the backup.
        assert set(lab.folder.iterdir()) <= {backup.path, image.path}

    def test_what_is_to_be_kept_stays(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = backed_up(engine, lab)
            with under_cut(engine) as gate:
                _, image = imaged(engine, lab, backup)
                broken = engine.rollback.swap(engine.rollback.restore_beside(image, backup, PLAIN), gate, MARKER)
            engine.rollback.clean(keep=[broken])
            assert any(broken in left for left in engine.rollback.leftovers())
            engine.rollback.clean()
            assert engine.rollback.leftovers() == []


def test_an_administrator_lacks_nothing_and_a_stranger_is_told_what_to_ask_for(lab: Lab) -> None:
    with lab.engine() as engine:
        assert [grant.statement for grant in engine.privileges.grants() if not grant.given] == []
        asked = engine.privileges.grants("stranger")
    assert asked
    assert all(grant.purpose for grant in asked)
    assert not asked[0].given
    assert "stranger" in asked[0].statement
