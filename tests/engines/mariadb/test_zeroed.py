"""A page of zeros is a good page to the tools; amid a table it is damage, and on MySQL reading it is the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from maintenance.engines.errors import Damaged
from maintenance.engines.mysql.repair import innodb_pages, innodb_zeroed_pages
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


def test_only_what_the_last_checkpoint_proves_is_told(lab: MariaDBLab) -> None:
    lab.fill()
    file, chosen = zero(lab, "orders", "PRIMARY", lambda leaves: leaves[20:24])
    with engine_of(lab) as engine, engine.session("looking") as session:
        written = innodb_zeroed_pages.checkpoint(session)
        assert written is not None
        # Of a run of them the map tells also those that no page names any more.
        assert sorted(innodb_zeroed_pages.zeroed(file, written)) == sorted(chosen)
        assert innodb_zeroed_pages.zeroed(file, 1) == {}
        lab.sql("SET GLOBAL innodb_immediate_scrub_data_uncompressed = ON")
        try:
            assert innodb_zeroed_pages.checkpoint(session) is None
        finally:
            lab.sql("SET GLOBAL innodb_immediate_scrub_data_uncompressed = OFF")


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
    with engine_of(lab) as engine, engine.session("looking") as session:
        for _ in range(5):
            for file in folder.glob("*.ibd"):
                written = innodb_zeroed_pages.checkpoint(session)
                assert innodb_pages._zeroed_twice(file, written) == {}, file.name
        lab._wait_for_purge()
        lab.sql("FLUSH TABLES plain, old FOR EXPORT")
        assert any(not any(block) for block in _blocks(folder / "plain.ibd")), "there are zero pages"


def _blocks(file: Path) -> list[bytes]:
    data = file.read_bytes()
    return [data[start : start + PAGE] for start in range(0, len(data), PAGE)]
