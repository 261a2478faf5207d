"""Looking never repairs: MariaDB mends a MyISAM or Aria table marked crashed when anything opens it, and drops rows."""

from __future__ import annotations

import pytest

from maintenance.engines.archive import Seal
from maintenance.engines.mysql import Family
from maintenance.engines.values import MaintenanceType
from tests.engines.lab_mariadb import MariaDBLab

from .runs import bytes_of, crashed, maintain

KINDS: tuple[MaintenanceType, ...] = ("repair", "optimize", "rebuild")


@pytest.mark.parametrize("storage", ["MyISAM", "Aria"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_schemas_are_byte_for_byte_as_before(lab: MariaDBLab, kind: MaintenanceType, storage: str) -> None:
    other = f"next_to_{lab.database}"
    lab.sql(f"CREATE DATABASE {other}")
    try:
        lab.fill()
        crashed(lab, other, "old_log", storage)
        lab.sql(f"CREATE TABLE {other}.child (id INT PRIMARY KEY, c INT)")
        lab.sql(f"ALTER TABLE {other}.child ADD FOREIGN KEY (c) REFERENCES {lab.database}.customers (id)")
        before = bytes_of(lab, other)
        with lab.engine() as engine:
            assert isinstance(engine, Family)
            for method in engine.backups.methods:
                engine.backups.back_up(method, lab.folder, method, Seal())
            ran = maintain(engine, lab, kind, roll_back=True)
        assert ran.refused is None
        assert {name: bytes_of(lab, other)[name] for name in before if "old_log" in name} == {
            name: before[name] for name in before if "old_log" in name
        }
    finally:
        lab.sql(f"DROP DATABASE {other}")


@pytest.mark.parametrize("storage", ["MyISAM", "Aria"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_crashed_table_of_the_schema_is_refused_or_its_loss_is_told(
    lab: MariaDBLab, kind: MaintenanceType, storage: str
) -> None:
    lab.sql("CREATE TABLE whole (id INT PRIMARY KEY)")
    lab.sql("INSERT INTO whole VALUES (1), (2)")
    crashed(lab, lab.database, "old_log", storage)
    before = {name: digest for name, digest in bytes_of(lab, lab.database).items() if name.endswith((".MYD", ".MAD"))}
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        ran = maintain(engine, lab, kind)
    after = {name: bytes_of(lab, lab.database)[name] for name in before}
    assert after == before
    assert ran.before["old_log"].rows is None
    assert ran.after["whole"].rows == 2
    if kind == "optimize":
        assert ran.refused is None
    else:
        assert "rows" in str(ran.refused)


@pytest.mark.parametrize("storage", ["MyISAM", "Aria"])
def test_with_leave_for_loss_it_is_repaired_and_every_lost_row_is_told(lab: MariaDBLab, storage: str) -> None:
    crashed(lab, lab.database, "old_log", storage)
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        ran = maintain(engine, lab, "repair", allow_data_loss=True)
    assert ran.refused is None
    left = int(str(lab.sql("SELECT COUNT(*) FROM old_log")[0][0]))
    assert left < 5000
    assert [loss.rows for loss in ran.losses] in ([5000 - left], [None])
    assert ran.after["old_log"].rows == left
