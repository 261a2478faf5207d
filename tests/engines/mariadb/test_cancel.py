"""Whatever is under way ends on the server within five seconds; and no work keeps the rows it reads."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest

from maintenance.engines.archive import Seal
from maintenance.engines.errors import Interrupted
from maintenance.engines.mysql import Family
from maintenance.engines.values import Limits
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import SMALL, action, backed_up, background

PLAIN = Seal()
Work = Callable[[Family, MariaDBLab], object]


def restored(engine: Family, lab: MariaDBLab) -> object:
    image = engine.backups.image(lab.backup, lab.baseline, lab.folder, "image", PLAIN)  # type: ignore[attr-defined]
    return engine.rollback.restore_beside(image, lab.backup, PLAIN)  # type: ignore[attr-defined]


LONG_WORK: dict[str, Work] = {
    "fingerprint": lambda engine, lab: engine.verifier.fingerprint(None),
    "check": lambda engine, lab: engine.verifier.check(None),
    "rebuild": lambda engine, lab: engine.actions.perform(action("orders", "rebuild"), False),
    "analyze": lambda engine, lab: engine.actions.perform(action("orders", "analyze"), False),
    "repair": lambda engine, lab: engine.actions.perform(action("orders", "check_and_repair"), False),
    "usual backup": lambda engine, lab: backed_up(engine, lab, 0),
    "alternate backup": lambda engine, lab: backed_up(engine, lab, 1),
    "restore": restored,
    "benchmark": lambda engine, lab: engine.benchmark.measure(
        "SELECT COUNT(*) FROM orders a JOIN orders b USING (status)", 3
    ),
    "diagnosis": lambda engine, lab: engine.diagnostics.diagnose(SMALL),
}


@pytest.mark.every(3)
@pytest.mark.parametrize("work", LONG_WORK)
def test_it_ends_within_five_seconds_and_nothing_of_ours_goes_on(family_lab: MariaDBLab, work: str) -> None:
    lab = family_lab
    lab.fill()
    with lab.engine(limits=Limits(jobs=2, lock_seconds=5)) as engine:
        assert isinstance(engine, Family)
        if work == "restore":
            lab.backup, lab.baseline = backed_up(engine, lab), engine.verifier.fingerprint(None)  # type: ignore[attr-defined]
        ended: list[BaseException] = []
        rounds = [0]

        def again_and_again() -> None:
            try:
                while True:
                    LONG_WORK[work](engine, lab)
                    rounds[0] += 1
            except BaseException as error:
                ended.append(error)

        thread = background(again_and_again)
        time.sleep(0.7)
        begun = time.monotonic()
        engine.interrupt()
        thread.join(10)
        assert time.monotonic() - begun < 5
        assert [type(error) for error in ended] == [Interrupted]
        while going_on(lab):
            assert time.monotonic() - begun < 5
            time.sleep(0.05)
        engine.clear_interrupt()
        assert engine.verifier.fingerprint(["orders"])["orders"].rows == 8000
        engine.rollback.clean()


def going_on(lab: MariaDBLab) -> list[tuple[object, ...]]:
    return [row for row in lab.sql("SHOW FULL PROCESSLIST") if row[1] == "dbmaint" and row[4] != "Sleep"]


def test_a_benchmark_query_with_many_rows_does_not_fill_the_memory(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.fill()
    with lab.engine() as engine:
        engine.benchmark.measure("SELECT 1", 1)
        tracemalloc.start()
        try:
            sample = engine.benchmark.measure(
                "SELECT a.note, b.note FROM orders a, orders b WHERE b.id < a.id AND a.id < 300", 1
            )
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert sample.error is None
    assert sample.rows is not None
    assert sample.rows > 5000
    assert peak < 3_000_000
