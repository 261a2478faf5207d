"""Events sleep through the outage and mean the same afterwards, whatever session they were made in."""

from __future__ import annotations

from maintenance.engines.mysql import Family
from tests.engines.lab_mariadb import MariaDBLab

MADE_IN = (
    "SELECT event_name, status, definer, sql_mode, time_zone, character_set_client, collation_connection,"
    " database_collation FROM information_schema.events WHERE event_schema = DATABASE() ORDER BY 1"
)


def test_an_event_keeps_character_set_collation_and_time_zone(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.sql("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20))")
    connection = lab.server.connect(lab.database)
    cursor = connection.cursor()
    for number, (charset, collation, zone) in enumerate(
        (("latin1", "latin1_german1_ci", "+05:00"), ("utf8mb4", "utf8mb4_bin", "-03:30"))
    ):
        cursor.execute(f"SET NAMES {charset} COLLATE {collation}")
        cursor.execute(f"SET time_zone = '{zone}'")
        cursor.execute(f"CREATE EVENT e{number} ON SCHEDULE EVERY 1 DAY DO INSERT INTO t (v) VALUES ('a' = 'A')")
    connection.close()  # type: ignore[no-untyped-call]
    before = lab.sql(MADE_IN)
    shown = [lab.sql(f"SHOW CREATE EVENT e{number}") for number in range(2)]
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        gate = engine.gate.read_state()
        engine.gate.cut(gate, engine.tag.mark)
        assert {str(row[1]) for row in lab.sql(MADE_IN)} == {"DISABLED"}
        engine.gate.open(gate, None)
        assert engine.gate.differences(gate) == []
    assert lab.sql(MADE_IN) == before
    assert [lab.sql(f"SHOW CREATE EVENT e{number}") for number in range(2)] == shown


def test_an_event_whose_time_is_over_is_no_difference(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    for name, keeping in (("gone", "NOT PRESERVE"), ("kept", "PRESERVE")):
        lab.sql(
            f"CREATE EVENT {name} ON SCHEDULE EVERY 1 DAY ENDS CURRENT_TIMESTAMP + INTERVAL 1 SECOND"
            f" ON COMPLETION {keeping} DO INSERT INTO t VALUES (1)"
        )
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        gate = engine.gate.read_state()
        engine.gate.cut(gate, engine.tag.mark)
        lab.sql("DO SLEEP(2)")
        lab.sql("DROP EVENT gone")
        engine.gate.open(gate, None)
        assert engine.gate.differences(gate) == []
