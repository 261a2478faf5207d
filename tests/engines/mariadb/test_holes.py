"""Salvage on MariaDB around several holes: only the rows of unreadable pages may go, whatever the key is."""

from __future__ import annotations

from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import action, damaged_leaves, engine_of, index_number

ROWS = 5500
KEYS = {
    "numbers": ("id INT PRIMARY KEY", "id", "7 * seq"),
    "words": ("id VARCHAR(30) COLLATE utf8mb4_german2_ci PRIMARY KEY", "id", "CONCAT('Wört ', seq, ' %''')"),
    "pairs": ("a INT, b VARCHAR(20), PRIMARY KEY (a, b)", "a, b", "seq % 40, CONCAT('b', seq)"),
    "moments": (
        "at DATETIME(3), n BINARY(4), PRIMARY KEY (at, n)",
        "at, n",
        "'2026-01-01' + INTERVAL seq % 900 SECOND, UNHEX(LPAD(HEX(seq), 8, '0'))",
    ),
}


def test_what_lies_between_two_holes_is_saved_whatever_the_key_is(lab: MariaDBLab) -> None:
    for name, (key, columns, values) in KEYS.items():
        lab.sql(f"CREATE TABLE {name} ({key}, pad CHAR(200) NOT NULL DEFAULT 'x', c INT, KEY by_c (c))")
        lab.sql(f"INSERT INTO {name} ({columns}, c) SELECT {values}, seq % 7 FROM {lab.numbers(ROWS)}")
        lab.sql(f"ALTER TABLE {name} FORCE")
    indexes = {name: index_number(lab, name, "PRIMARY") for name in KEYS}
    lab._wait_for_purge()
    lab.server.stop()
    gone = {
        name: damaged_leaves(lab, name, number, lambda leaves: [leaves[0], *leaves[30:32], leaves[33], leaves[70]])
        for name, number in indexes.items()
    }
    lab.server.start()
    with engine_of(lab) as engine:
        for name in KEYS:
            done = engine.actions.perform(action(name, "check_and_repair"), True)
            assert (name, [loss.rows for loss in done.losses]) == (name, [gone[name]])
            assert lab.sql(f"SELECT COUNT(*) FROM {name}") == [(ROWS - gone[name],)]
            assert [check for check in engine.verifier.check([name]) if not check.passed] == []
        engine.rollback.clean()
        assert engine.rollback.leftovers() == []
