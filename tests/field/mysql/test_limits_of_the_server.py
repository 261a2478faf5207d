"""Limits that the server sets for everybody do not reach our sessions, nor those of the native tools."""

from __future__ import annotations

import pytest

from maintenance.engines.archive import Seal
from maintenance.engines.mysql import Family
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.lab_mysql import MySQLLab
from tests.field.mysql.runs import maintain


def test_a_limit_of_time_for_statements_of_mariadb(lab: MariaDBLab) -> None:
    lab.fill()
    lab.sql("SET GLOBAL max_statement_time = 0.001")
    try:
        with lab.engine() as engine:
            assert isinstance(engine, Family)
            ran = maintain(engine, lab, "rebuild", roll_back=True)
    finally:
        lab.sql("SET SESSION max_statement_time = 0, GLOBAL max_statement_time = 0")
    assert ran.refused is None
    assert ran.after == ran.before


@pytest.mark.mysql
def test_a_limit_of_time_for_statements_of_mysql(mysql_server: MySQLLab) -> None:
    lab = mysql_server.fresh()
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200))")
    lab.sql(f"INSERT INTO t SELECT seq, REPEAT('x', 200) FROM {lab.numbers(200_000)}")
    lab.sql("SET GLOBAL max_execution_time = 1")
    try:
        with lab.engine() as engine:
            backup = engine.backups.back_up(engine.backups.methods[0], lab.folder, "shop", Seal())
    finally:
        lab.sql("SET GLOBAL max_execution_time = 0")
    assert backup.snapshot["t"].rows == 200_000
