"""Salvage on MySQL, which ends when it reads a bad page: nothing but the rows of bad pages may be lost, nor read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from maintenance.engines.errors import Damaged
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import action, damaged_leaves, engine_of, index_number

pytestmark = pytest.mark.mysql
PADDED = "pad CHAR(200) NOT NULL DEFAULT 'x', n INT, KEY by_n (n)"


@dataclass(frozen=True)
class Case:
    """A table of `rows` rows with these keys; `bad` chooses leaves by their place; `beside` rows are lost with them."""

    key: str
    value: str
    rows: int
    bad: Callable[[Sequence[int]], Sequence[int]]
    beside: int = 0
    how: str = ""


CASES = {
    "rightmost": Case("INT", "seq", 5000, lambda leaves: leaves[-1:]),
    "two_holes": Case("INT", "seq", 9000, lambda leaves: [*leaves[20:22], leaves[50]]),
    # One row can only be found by way of the bad page before it: no leaves to its left let a search begin elsewhere.
    "leftmost": Case("INT", "seq", 5000, lambda leaves: leaves[:1], beside=1),
    "of_few_leaves": Case("INT", "seq", 400, lambda leaves: leaves[2:3], beside=1),
    "negative": Case("BIGINT", "CAST(seq AS SIGNED) - 2500", 5000, lambda leaves: leaves[30:31]),
    "beyond_signed": Case(
        "BIGINT UNSIGNED", "CAST(9223372036854770000 AS UNSIGNED) + 3 * seq", 9000, lambda leaves: leaves[60:61]
    ),
    "redundant": Case("INT", "seq", 5000, lambda leaves: leaves[30:32], how="ROW_FORMAT=REDUNDANT"),
    "larger": Case("INT UNSIGNED", "seq", 40_000, lambda leaves: [leaves[300]]),
}


@pytest.fixture
def lab(mysql_server: MariaDBLab) -> MariaDBLab:
    return mysql_server.fresh()


def test_every_row_but_those_of_bad_pages_is_saved_and_the_server_lives(lab: MariaDBLab) -> None:
    for name, case in CASES.items():
        lab.sql(f"CREATE TABLE {name} (id {case.key} PRIMARY KEY, {PADDED}) {case.how}")
        lab.sql(f"INSERT INTO {name} (id, n) SELECT {case.value}, seq % 7 FROM {lab.numbers(case.rows)}")
    indexes = {name: index_number(lab, name, "PRIMARY") for name in CASES}
    lab._wait_for_purge()
    lab.server.stop()
    gone = {name: damaged_leaves(lab, name, indexes[name], case.bad) + case.beside for name, case in CASES.items()}
    lab.server.start()
    process = lab.server.process
    with engine_of(lab) as engine:
        for name, case in CASES.items():
            with pytest.raises(Damaged, match="allow the loss of data"):
                engine.actions.perform(action(name, "check_and_repair"), False)
            done = engine.actions.perform(action(name, "check_and_repair"), True)
            assert (name, [loss.rows for loss in done.losses]) == (name, [gone[name]])
            assert done.losses[0].pages
            assert lab.sql(f"SELECT COUNT(*), COUNT(DISTINCT id) FROM {name}") == [(case.rows - gone[name],) * 2]
            assert [check for check in engine.verifier.check([name]) if not check.passed] == []
        engine.rollback.clean()
        assert engine.rollback.leftovers() == []
    assert lab.server.process is process
    assert process is not None
    assert process.poll() is None


def test_a_table_without_a_number_for_its_key_is_left_to_the_backup(lab: MariaDBLab) -> None:
    lab.sql(f"CREATE TABLE words (id VARCHAR(20) PRIMARY KEY, {PADDED})")
    lab.sql(f"INSERT INTO words (id, n) SELECT CONCAT('w', seq), 1 FROM {lab.numbers(3000)}")
    index = index_number(lab, "words", "PRIMARY")
    lab._wait_for_purge()
    lab.server.stop()
    damaged_leaves(lab, "words", index, lambda leaves: leaves[10:11])
    lab.server.start()
    with engine_of(lab) as engine:
        with pytest.raises(Damaged, match=r"not of whole numbers alone\. Restore .* innodb_force_recovery=1"):
            engine.actions.perform(action("words", "check_and_repair"), True)
        with pytest.raises(Damaged, match="reading a bad page would end the server"):
            engine.actions.perform(action("words", "rebuild"), True)
        engine.rollback.clean()
        assert engine.rollback.leftovers() == []


PAIRS = {
    "wide": ("a INT, b INT", "seq % 40 - 20, seq", lambda leaves: [leaves[0], *leaves[30:32], leaves[33], leaves[-2]]),
    "narrow": ("a BIGINT UNSIGNED, b SMALLINT", "seq DIV 8", lambda leaves: [*leaves[20:22], leaves[70]]),
    "alike": ("a TINYINT, b INT", "1, 3 * seq", lambda leaves: [leaves[40], leaves[42]]),
}


def test_keys_of_several_numbers_are_gone_around_too(lab: MariaDBLab) -> None:
    for name, (key, values, _) in PAIRS.items():
        values = f"{values}, seq % 8 - 4" if name == "narrow" else values
        lab.sql(f"CREATE TABLE {name} ({key}, {PADDED}, PRIMARY KEY (a, b))")
        lab.sql(f"INSERT INTO {name} (a, b, n) SELECT {values}, seq % 7 FROM {lab.numbers(6000)}")
        lab.sql(f"ALTER TABLE {name} FORCE")
    indexes = {name: index_number(lab, name, "PRIMARY") for name in PAIRS}
    lab._wait_for_purge()
    lab.server.stop()
    gone = {name: damaged_leaves(lab, name, indexes[name], bad) for name, (_, _, bad) in PAIRS.items()}
    lab.server.start()
    process = lab.server.process
    with engine_of(lab) as engine:
        for name in PAIRS:
            done = engine.actions.perform(action(name, "check_and_repair"), True)
            lost = done.losses[0].rows
            assert lost is not None
            # Beside each hole one row may go with it that is the first of its page.
            assert gone[name] <= lost <= gone[name] + 4, name
            assert lab.sql(f"SELECT COUNT(*) FROM {name}") == [(6000 - lost,)]
            assert [check for check in engine.verifier.check([name]) if not check.passed] == []
        engine.rollback.clean()
    assert lab.server.process is process
    assert process is not None
    assert process.poll() is None
