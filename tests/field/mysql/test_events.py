"""Events sleep through the outage and mean the same afterwards, whatever session they were made in."""

from __future__ import annotations

import time
from collections.abc import Callable

from maintenance.engines.mysql import Family
from tests.engines.lab_mariadb import MariaDBLab
from tests.field.mysql.runs import maintain

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


def test_an_event_of_one_run_runs_once(family_lab: MariaDBLab) -> None:
    """Also where it runs between the look at it and the cut, and where the opening is done again."""
    lab = family_lab
    lab.sql("CREATE TABLE t (name VARCHAR(20))")
    lab.sql("SET GLOBAL event_scheduler = ON")
    try:
        for name, seconds in (("ran", 1), ("fell_due", 3)):
            lab.sql(
                f"CREATE EVENT {name} ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL {seconds} SECOND"
                f" ON COMPLETION PRESERVE DO INSERT INTO t VALUES ('{name}')"
            )
        with lab.engine() as engine:
            assert isinstance(engine, Family)
            gate = engine.gate.read_state()
            wait_until(lambda: lab.sql("SELECT COUNT(*) FROM t") == [(1,)])
            engine.gate.cut(gate, engine.tag.mark)
            lab.sql("DO SLEEP(3)")
            commands = engine.gate.manual_commands(gate)
            engine.gate.open(gate, None)
            wait_until(lambda: lab.sql("SELECT COUNT(*) FROM t") == [(2,)])
            engine.gate.open(gate, None)
            lab.sql("DO SLEEP(2)")
            assert engine.gate.differences(gate) == []
        assert "fell_due" in commands[0]
        assert "`ran`" not in commands[0]
    finally:
        lab.sql("SET GLOBAL event_scheduler = OFF")
    assert sorted(lab.sql("SELECT name FROM t")) == [("fell_due",), ("ran",)]


def test_names_and_texts_outside_ascii_survive_another_character_set(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET utf8mb4)")
    connection = lab.server.connect(lab.database)
    cursor = connection.cursor()
    for charset in ("latin1", "latin2"):
        cursor.execute(f"SET NAMES {charset}")
        for made in (
            f"EVENT täglich_{charset} ON SCHEDULE EVERY 1 DAY DO INSERT INTO t VALUES (1, 'Käse')",
            f"PROCEDURE füllen_{charset}() INSERT INTO t VALUES (2, 'Öl')",
            f"TRIGGER prüft_{charset} BEFORE INSERT ON t FOR EACH ROW SET NEW.v = CONCAT(NEW.v, ' ß')",
        ):
            cursor.execute(f"CREATE {made}".encode("latin1"))
    connection.close()  # type: ignore[no-untyped-call]

    def shown() -> list[object]:
        return [
            lab.sql(f"SHOW CREATE {kind} {name}_{charset}")[0][:5]
            for kind, name in (("EVENT", "täglich"), ("PROCEDURE", "füllen"), ("TRIGGER", "prüft"))
            for charset in ("latin1", "latin2")
        ]

    before = shown()
    assert "Käse" in str(before)
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        ran = maintain(engine, lab, "rebuild", roll_back=True)
    assert ran.refused is None
    assert shown() == before


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)
