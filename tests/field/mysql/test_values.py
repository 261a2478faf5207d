"""Values come through as they are, bit by bit."""

from __future__ import annotations

import pytest

from maintenance.engines.mysql import Family
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import action


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
