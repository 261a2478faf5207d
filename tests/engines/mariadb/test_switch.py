"""The event that opens a schema by itself, where something keeps it from finishing."""

from __future__ import annotations

import time

from maintenance.engines.mysql.gate_mirror import mirror_schema
from maintenance.engines.mysql.names import full
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import engine_of


def unlocked(lab: MariaDBLab) -> bool:
    try:
        lab.app_connection().close()  # type: ignore[no-untyped-call]
    except Exception:
        return False
    return True


def test_who_comes_back_while_it_opens_learns_so_and_does_not_wait_for_ever(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    lab.sql("SET GLOBAL event_scheduler = ON")
    with engine_of(lab) as engine:
        engine.lock.fence()
        gate = engine.gate.read_state()
        engine.gate.cut(gate, {"run": 5, "target": 7})
        engine.switch.arm(gate, 5)
        assert engine.gate.is_cut()
        with lab._root() as reader:
            # As a dump of the whole server would: it keeps every table that it has read from being dropped.
            cursor = reader.cursor()
            cursor.execute("BEGIN")
            cursor.execute(f"SELECT * FROM {full(mirror_schema(engine.server), 'gate')}")
            until = time.monotonic() + 60
            while not unlocked(lab):
                assert time.monotonic() < until
                time.sleep(0.1)
            begun = time.monotonic()
            engine.switch.disarm()
            assert time.monotonic() - begun < 12
            assert not engine.gate.is_cut(), "applications are in again, though the mirror could not be dropped"
            cursor.execute("ROLLBACK")
        engine.gate.cut(gate, {"run": 5, "target": 7})
        assert engine.gate.is_cut()
        assert not unlocked(lab)
        engine.gate.open(gate, None)
        assert engine.gate.differences(gate) == []
        assert engine.rollback.leftovers() == []
