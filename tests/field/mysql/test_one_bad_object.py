"""One object that cannot be worked on is named before the outage and left as it is; the rest is done."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from maintenance.engines.archive import Seal
from maintenance.engines.errors import Unable
from maintenance.engines.mysql import Family
from maintenance.engines.values import Thresholds
from tests.engines.lab_mariadb import MariaDBLab
from tests.field.mysql.runs import maintain, make


def findings(lab: MariaDBLab) -> dict[str, str]:
    with lab.engine() as engine:
        return {one.code: one.object for one in engine.diagnostics.diagnose(Thresholds()).findings}


@pytest.mark.parametrize("gone", ["the table", "the definer"])
def test_a_broken_view_is_left_as_it_is(family_lab: MariaDBLab, gone: str) -> None:
    lab = family_lab
    lab.fill()
    lab.sql("CREATE TABLE below (id INT PRIMARY KEY)")
    lab.sql(f"CREATE USER who_{lab.database}@localhost")
    lab.sql(f"GRANT ALL ON {lab.database}.* TO who_{lab.database}@localhost")
    lab.sql(f"CREATE DEFINER = who_{lab.database}@localhost VIEW broken AS SELECT id FROM below")
    lab.sql("CREATE VIEW over_it AS SELECT id FROM broken")
    lab.sql("CREATE VIEW sound AS SELECT id FROM customers")
    if gone == "the table":
        lab.sql("DROP TABLE below")
    lab.sql(f"DROP USER who_{lab.database}@localhost")
    before = [lab.sql(f"SHOW CREATE VIEW {name}") for name in ("broken", "over_it", "sound")]
    if gone == "the table":
        assert "broken_view" in findings(lab)
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        ran = maintain(engine, lab, "rebuild", roll_back=True)
    assert ran.refused is None
    assert ran.after == ran.before
    assert [lab.sql(f"SHOW CREATE VIEW {name}") for name in ("broken", "over_it", "sound")] == before


@pytest.fixture
def lost_remote(lab: MariaDBLab) -> Iterator[MariaDBLab]:
    """Tables here and in another schema that show one of a server which has it no more."""
    lab.sql("INSTALL SONAME 'ha_federatedx'")
    url = f"mysql://{lab.server.administrator}:{lab.server.password}@127.0.0.1:{lab.server.port}/{lab.database}/origin"
    away = f"away_{lab.database}"
    lab.sql(f"CREATE DATABASE {away}")
    lab.sql("CREATE TABLE origin (id INT PRIMARY KEY, v FLOAT)")
    for schema in (lab.database, away):
        lab.sql(f"CREATE TABLE {schema}.shown (id INT PRIMARY KEY, v FLOAT) ENGINE=FEDERATED CONNECTION='{url}'")
        lab.sql(f"CREATE VIEW {schema}.over_it AS SELECT id FROM {schema}.shown")
    lab.sql("DROP TABLE origin")
    lab.sql("FLUSH TABLES")
    yield lab
    lab.sql(f"DROP DATABASE {away}")
    lab.sql("DROP TABLE shown")
    lab.sql("FLUSH TABLES")
    lab.sql("UNINSTALL SONAME 'ha_federatedx'")


def test_a_table_of_a_lost_server_is_left_as_it_is(lost_remote: MariaDBLab) -> None:
    lab = lost_remote
    lab.fill()
    before = lab.sql("SHOW CREATE TABLE shown")
    assert findings(lab)["remote_table"] == "shown"
    with lab.engine() as engine:
        assert isinstance(engine, Family)
        ran = maintain(engine, lab, "rebuild", roll_back=True)
    assert ran.refused is None
    assert ran.after == ran.before
    assert set(ran.after) == {"customers", "orders"}
    assert lab.sql("SHOW CREATE TABLE shown") == before


def test_a_history_by_numbers_of_transactions_is_refused_before_the_outage(lab: MariaDBLab) -> None:
    lab.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, a BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, b BIGINT UNSIGNED"
        " GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (a, b)) WITH SYSTEM VERSIONING"
    )
    assert findings(lab)["history_by_transaction"] == "t"
    with lab.engine() as engine:
        for method in engine.backups.methods:
            with pytest.raises(Unable, match="numbers of transactions"):
                engine.backups.back_up(method, lab.folder, "shop", Seal())


def test_a_prepared_transaction_is_told_and_is_nobodys_session(family_lab: MariaDBLab) -> None:
    lab = family_lab
    make(lab, ("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE u (id INT PRIMARY KEY)"))
    make(lab, ("XA START 'far'", "INSERT INTO t VALUES (1)", "XA END 'far'", "XA PREPARE 'far'"))
    time.sleep(0.2)
    try:
        with lab.engine() as engine:
            found = engine.diagnostics.diagnose(Thresholds()).findings
        assert "prepared_transaction" in {one.code for one in found}
        assert not [one for one in found if "Session 0" in str(one.evidence)]
    finally:
        lab.sql("XA ROLLBACK 'far'")
