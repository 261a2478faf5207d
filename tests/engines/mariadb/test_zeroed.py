"""A page of zeros is a good page to the tools; amid a table it is damage, and on MySQL reading it is the end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from maintenance.engines.errors import Damaged
from maintenance.engines.mysql.repair import innodb_zeroed_pages
from tests.engines.lab_mariadb import PAGE, MariaDBLab, _leaf_pages
from tests.engines.mariadb.world import SMALL, action, backed_up, engine_of, index_number

Choice = Callable[[Sequence[int]], Sequence[int]]


def zero(lab: MariaDBLab, table: str, index: str, choice: Choice) -> tuple[Path, list[int]]:
    """Fills these leaves with zeros while the server stands still."""
    number = index_number(lab, table, index)
    lab._wait_for_purge()
    lab.server.stop()
    file = lab.server.data / lab.database / f"{table}.ibd"
    chosen = list(choice(_leaf_pages(file, number)))
    with open(file, "r+b") as opened:
        for page in chosen:
            opened.seek(page * PAGE)
            opened.write(bytes(PAGE))
        os.fsync(opened.fileno())
    lab.server.start()
    return file, chosen


def alive(lab: MariaDBLab, process: object) -> bool:
    return lab.server.process is process and lab.server.process is not None and lab.server.process.poll() is None


def test_a_page_of_rows_that_is_all_zeros_is_found_before_anything_reads_it(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.fill()
    with engine_of(lab) as engine:
        assert [f.code for f in engine.diagnostics.diagnose(SMALL).findings if f.severity == "critical"] == []
    _, [page] = zero(lab, "orders", "PRIMARY", lambda leaves: leaves[len(leaves) // 2 :][:1])
    process = lab.server.process
    with engine_of(lab) as engine:
        [finding] = [f for f in engine.diagnostics.diagnose(SMALL).findings if f.severity == "critical"]
        assert (finding.code, finding.object) == ("damaged_page", "orders")
        assert str(finding.evidence) == f"Page {page} of orders is in use and holds nothing but zeros on disk"
        with pytest.raises(Damaged, match="orders"):
            backed_up(engine, lab)
        with pytest.raises(Damaged):
            engine.actions.perform(action("orders", "check_and_repair"), False)
        done = engine.actions.perform(action("orders", "check_and_repair"), True)
        [loss] = done.losses
        assert loss.rows is not None
        assert 0 < loss.rows < 300
        assert lab.sql("SELECT COUNT(*) FROM orders") == [(8000 - loss.rows,)]
        assert [check for check in engine.verifier.check(["orders"]) if not check.passed] == []
        engine.rollback.clean()
    assert alive(lab, process)


def test_a_page_of_an_index_that_is_all_zeros_is_told_as_the_index_and_costs_nothing(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.fill()
    with engine_of(lab) as engine:
        before = engine.verifier.fingerprint(None)
    _, [page] = zero(lab, "orders", "orders_status", lambda leaves: leaves[len(leaves) // 2 :][:1])
    process = lab.server.process
    with engine_of(lab) as engine:
        [finding] = [f for f in engine.diagnostics.diagnose(SMALL).findings if f.severity == "critical"]
        assert f"Page {page} of orders, of its index orders_status, is in use" in str(finding.evidence)
        engine.actions.perform(action("orders", "check_and_repair"), False)
        assert engine.verifier.fingerprint(None) == before
        assert [f.code for f in engine.diagnostics.diagnose(SMALL).findings if f.severity == "critical"] == []
    assert alive(lab, process)


def test_of_a_run_of_pages_those_are_told_too_that_no_page_names_any_more(lab: MariaDBLab) -> None:
    lab.fill()
    file, chosen = zero(lab, "orders", "PRIMARY", lambda leaves: leaves[20:24])
    with engine_of(lab) as engine, engine.server.session("looking") as session:
        assert sorted(innodb_zeroed_pages.proven_zero_pages(session, file)) == sorted(chosen)
        lab.sql("SET GLOBAL innodb_immediate_scrub_data_uncompressed = ON")
        try:
            assert innodb_zeroed_pages.proven_zero_pages(session, file) == {}
        finally:
            lab.sql("SET GLOBAL innodb_immediate_scrub_data_uncompressed = OFF")


def test_nothing_is_told_while_the_server_holds_a_newer_map_in_memory(lab: MariaDBLab) -> None:
    lab.fill()
    file, chosen = zero(lab, "orders", "PRIMARY", lambda leaves: leaves[20:22])
    with engine_of(lab) as engine, engine.server.session("looking") as session, writing_nothing(lab):
        lab.sql(f"INSERT INTO orders (customer_id, note) SELECT 1, REPEAT('x', 200) FROM {lab.numbers(3000)}")
        assert sorted(innodb_zeroed_pages.zero_pages(file).pages) >= sorted(chosen)
        assert innodb_zeroed_pages.proven_zero_pages(session, file) == {}
        write_all(lab)
        assert sorted(innodb_zeroed_pages.proven_zero_pages(session, file)) == sorted(chosen)


def test_a_page_that_only_freed_pages_name_is_no_damage(lab: MariaDBLab) -> None:
    """It was freed before it was ever written; those that name it were freed with it and keep their old bytes."""
    lab.fill()
    file, _ = zero(lab, "orders", "PRIMARY", lambda leaves: [])
    lab.sql("CREATE INDEX going ON orders (note)")
    number = index_number(lab, "orders", "going")
    lab._wait_for_purge()
    lab.server.stop()
    freed = _leaf_pages(file, number)
    lab.server.start()
    lab.sql("DROP INDEX going ON orders")
    lab._wait_for_purge()
    lab.server.stop()
    with open(file, "r+b") as opened:
        opened.seek(freed[2] * PAGE + 66)
        assert int.from_bytes(opened.read(8)) == number, "freed pages keep what they held"
        opened.seek(freed[3] * PAGE)
        opened.write(bytes(PAGE))
    lab.server.start()
    with engine_of(lab) as engine:
        assert [f for f in engine.diagnostics.diagnose(SMALL).findings if f.severity == "critical"] == []


def test_pages_that_come_and_go_while_others_are_written_are_no_damage(lab: MariaDBLab) -> None:
    lab.fill()
    file = lab.server.data / lab.database / "orders.ibd"
    with engine_of(lab) as engine, engine.server.session("looking") as session:
        for part in range(4):
            lab.sql("SET GLOBAL innodb_max_dirty_pages_pct = 0")
            try:
                lab.sql(
                    "INSERT INTO orders (customer_id, status) SELECT 1, CONCAT(seq % 977, '-', seq)"
                    f" FROM {lab.numbers(8000)}"
                )
                lab.sql(f"DELETE FROM orders WHERE customer_id = 1 AND id % 5 <> {part}")
                for _ in range(5):
                    assert innodb_zeroed_pages.proven_zero_pages(session, file) == {}
            finally:
                lab.sql("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT")


@contextmanager
def writing_nothing(lab: MariaDBLab) -> Iterator[None]:
    """What is changed meanwhile stays in memory."""
    lab.sql("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0")
    lab.sql("SET GLOBAL innodb_adaptive_flushing = OFF")
    try:
        yield
    finally:
        lab.sql("SET GLOBAL innodb_adaptive_flushing = DEFAULT")
        lab.sql("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT")


def write_all(lab: MariaDBLab) -> None:
    lab.sql("SET GLOBAL innodb_max_dirty_pages_pct = 0")
    until = time.monotonic() + 60
    while lab.sql("SHOW STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0][1] != "0":
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_is_free_unused_compressed_or_just_written_is_no_damage(lab: MariaDBLab) -> None:
    """Every zero page of these files is one that nothing was written to yet."""
    lab.fill()
    for name, how in (
        ("packed", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"),
        ("punched", "PAGE_COMPRESSED=1"),
        ("plain", ""),
        ("old", "ROW_FORMAT=REDUNDANT"),
    ):
        lab.sql(f"CREATE TABLE {name} (id INT PRIMARY KEY, t TEXT, KEY (t(50))) {how}")
        lab.sql(f"INSERT INTO {name} SELECT seq, REPEAT(CONCAT('x', seq), 30) FROM {lab.numbers(9000)}")
        lab.sql(f"DELETE FROM {name} WHERE id > 2000")
    folder = lab.server.data / lab.database
    with engine_of(lab) as engine, engine.server.session("looking") as session:
        for _ in range(5):
            for file in folder.glob("*.ibd"):
                assert innodb_zeroed_pages.proven_zero_pages(session, file) == {}, file.name
        lab._wait_for_purge()
        lab.sql("FLUSH TABLES plain, old FOR EXPORT")
        assert any(not any(block) for block in _blocks(folder / "plain.ibd")), "there are zero pages"


def _blocks(file: Path) -> list[bytes]:
    data = file.read_bytes()
    return [data[start : start + PAGE] for start in range(0, len(data), PAGE)]
