"""Values come through as they are, bit by bit."""

from __future__ import annotations

import pytest

from maintenance.engines.errors import Unable
from maintenance.engines.mysql import Family
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import action
from tests.field.mysql.runs import maintain, make


def test_a_fingerprint_sees_what_the_server_does_not_print(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.sql("CREATE TABLE m (id INT PRIMARY KEY, f FLOAT, d DOUBLE)")
    lab.sql("INSERT INTO m VALUES (1, 0.123456789, 0)")
    seen = set()
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        for change in ("f = 0.123456789", "f = 0.123457", "f = 0.1234568", "d = 1e-17"):
            lab.sql(f"UPDATE m SET {change}")
            seen.add(engine.verifier.fingerprint(["m"])["m"])
    assert len(seen) == 4


@pytest.mark.parametrize("storage", ["MyISAM", "Aria"])
def test_a_rebuild_leaves_stored_columns_as_they_are(lab: MariaDBLab, storage: str) -> None:
    lab.sql(
        "CREATE TABLE s (id INT PRIMARY KEY, at TIMESTAMP, day VARCHAR(30) AS (CAST(at AS CHAR)) STORED)"
        f" ENGINE={storage}"
    )
    connection = lab.server.connect(lab.database)
    cursor = connection.cursor()
    cursor.execute("SET time_zone = '+09:00'")
    cursor.execute("INSERT INTO s (id, at) VALUES (1, '2026-03-01 01:00:00')")
    connection.close()  # type: ignore[no-untyped-call]
    before = lab.sql("SELECT day FROM s")
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        engine.actions.perform(action("s", "rebuild"), False)
    assert lab.sql("SELECT day FROM s") == before == [("2026-03-01 01:00:00",)]


NOT_CARRIED = {
    "a float, and a sign of zero": (
        "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, f FLOAT, d DOUBLE, x INT DEFAULT 3)",
        "INSERT INTO t (id, f, d) VALUES (1, 0.123456789, -0e0), (2, -0e0, 1e-310), (3, 16777217, NULL), (9, 1e-40, 1)",
        "DELETE FROM t WHERE id = 9",
    ),
    "a sign of zero in a double": (
        "CREATE TABLE t (id INT PRIMARY KEY, d DOUBLE)",
        "INSERT INTO t VALUES (1, -0e0), (2, 0.1e0 + 0.2e0), (3, 1.7976931348623157e308), (4, 5e-324)",
    ),
    "a float in MyISAM with a stored column": (
        "CREATE TABLE t (f FLOAT, g VARCHAR(40) AS (CONCAT(f, 'x')) STORED, v INT AS (f + 1) VIRTUAL) ENGINE=MyISAM",
        "INSERT INTO t (f) VALUES (0.123456789), (0.123456789), (NULL)",
    ),
    "a float in parts with a parent": (
        "CREATE TABLE parent (id INT PRIMARY KEY)",
        "INSERT INTO parent VALUES (1)",
        "CREATE TABLE t (id INT PRIMARY KEY, p INT, f FLOAT, CONSTRAINT k FOREIGN KEY (p) REFERENCES parent (id))",
        "INSERT INTO t VALUES (1, 1, 1.23456789e-5)",
        "CREATE TABLE u (id INT PRIMARY KEY, f FLOAT(7, 3)) PARTITION BY HASH (id) PARTITIONS 3",
        "INSERT INTO u VALUES (1, 1234.5678), (2, 3)",
    ),
    "letters of cp932 alone": (
        "CREATE TABLE t (id INT PRIMARY KEY, s VARCHAR(20) CHARACTER SET cp932)",
        "INSERT INTO t VALUES (1, x'fa54'), (2, x'eef9'), (3, x'815c8160817c')",
    ),
    "a blob that is longer as text": (
        "CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)",
        "INSERT INTO t VALUES (1, REPEAT(x'00ff', 5000000)), (2, '')",
    ),
    "an almost full packet of letters": (
        "CREATE TABLE t (id INT PRIMARY KEY, b LONGTEXT) CHARACTER SET latin1",
        "INSERT INTO t VALUES (1, REPEAT(x'fc', 5000000)), (2, REPEAT(\"'\", 9000000))",
    ),
    "a day in another time zone": (
        "SET time_zone = '+09:00'",
        "CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP NULL, day VARCHAR(30) AS (CAST(at AS CHAR)) STORED)",
        "INSERT INTO t (id, at) VALUES (1, '2026-03-01 01:00:00')",
    ),
}


@pytest.mark.parametrize("made", NOT_CARRIED.values(), ids=NOT_CARRIED)
def test_what_a_dump_does_not_carry_comes_back_as_it_was(family_lab: MariaDBLab, made: tuple[str, ...]) -> None:
    lab = family_lab
    zone = lab.sql("SELECT @@GLOBAL.time_zone")[0][0]
    lab.sql("SET GLOBAL time_zone = '+09:00'")
    try:
        make(lab, made)
        tables = [str(row[0]) for row in lab.sql("SHOW TABLES")]
        before = [(lab.sql(f"SHOW CREATE TABLE {t}"), lab.sql(f"CHECKSUM TABLE {t} EXTENDED")) for t in tables]
        with lab.engine() as engine:
            assert isinstance(engine, Family)
            ran = maintain(engine, lab, "rebuild", roll_back=True)
        assert ran.refused is None
        assert ran.after == ran.before
        after = [(lab.sql(f"SHOW CREATE TABLE {t}"), lab.sql(f"CHECKSUM TABLE {t} EXTENDED")) for t in tables]
    finally:
        lab.sql(f"SET GLOBAL time_zone = '{zone}'")
    assert after == before


def test_a_kept_history_of_floats_comes_back(lab: MariaDBLab) -> None:
    make(
        lab,
        (
            "CREATE TABLE t (id INT PRIMARY KEY, f FLOAT) WITH SYSTEM VERSIONING",
            "INSERT INTO t VALUES (1, 0.123456789), (2, 1)",
            "UPDATE t SET f = 0.987654321",
            "DELETE FROM t WHERE id = 2",
        ),
    )
    asked = "SELECT *, f * 1e0, row_start, row_end FROM t FOR SYSTEM_TIME ALL ORDER BY 1, 4"
    before = lab.sql(asked)
    assert len(before) == 4
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        assert maintain(engine, lab, "rebuild", roll_back=True).refused is None
    assert lab.sql(asked) == before


def test_what_no_rollback_could_bring_back_is_refused_with_nothing_changed(family_lab: MariaDBLab) -> None:
    """Stored columns that were computed in two time zones."""
    lab = family_lab
    made = NOT_CARRIED["a day in another time zone"]
    make(lab, (*made, "SET time_zone = '+05:00'", "INSERT INTO t (id, at) VALUES (2, '2026-03-01 01:00:00')"))
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        with pytest.raises(Unable, match="nobody knows"):
            maintain(engine, lab, "rebuild")
        engine.gate.open(engine.gate.read_state(), None)
        engine.rollback.clean()
        assert engine.rollback.leftovers() == []
