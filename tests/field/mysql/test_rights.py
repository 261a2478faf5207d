"""What a run with a rollback will need is named at the diagnosis, by what this server has now."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import MySQLdb
import pytest

from maintenance.engines.errors import EngineError
from tests.engines.conftest import short_folder
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.lab_mysql import MySQLLab

CONSOLE = "console@127.0.0.1"


def with_every_right_but(lab: MariaDBLab, *missing: str) -> None:
    """The account `console` with what `grants` prints, without these."""
    with lab.engine() as administrator:
        for grant in administrator.privileges.grants(CONSOLE):
            if grant.statement.startswith("CREATE USER"):
                lab.sql(f"{grant.statement} IDENTIFIED BY 'emergency-only'")
            elif not any(grant.statement.startswith(f"GRANT {right} ON *.*") for right in missing):
                lab.sql(grant.statement)


def missing(lab: MariaDBLab) -> list[str]:
    with lab.engine() as engine:
        return [grant.statement.split(" ON ")[0] for grant in engine.privileges.grants() if not grant.given]


@pytest.fixture
def logged() -> Iterator[MariaDBLab]:
    """A server that writes its changes to the binary log."""
    folder = short_folder()
    try:
        with MariaDBLab.opened(folder, {"log-bin": "log"}) as opened:
            yield opened.fresh()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_trigger_and_the_binary_log_need_a_right_of_their_own(logged: MariaDBLab) -> None:
    logged.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    with_every_right_but(logged)
    logged.url = logged.url.set(username="console")
    assert missing(logged) == []
    logged.sql("CREATE TRIGGER sets BEFORE INSERT ON t FOR EACH ROW SET NEW.id = NEW.id + 1")
    assert missing(logged) == ["GRANT SUPER"]
    logged.sql("SET GLOBAL log_bin_trust_function_creators = ON")
    assert missing(logged) == []


@pytest.mark.mysql
def test_an_account_that_only_an_equal_may_alter_is_named(mysql_server: MySQLLab) -> None:
    lab = mysql_server.fresh()
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    lab.sql("CREATE USER chief IDENTIFIED BY 'chief'")
    try:
        lab.sql("GRANT SYSTEM_USER ON *.* TO chief")
        lab.sql(f"GRANT ALL ON {lab.database}.* TO chief")
        with_every_right_but(lab, "SYSTEM_USER")
        lab.url = lab.url.set(username="console")
        with lab.engine() as engine:
            [grant] = [grant for grant in engine.privileges.grants() if not grant.given]
            assert grant.statement.startswith("GRANT SYSTEM_USER ON *.*")
            assert "chief" in str(grant.purpose)
            gate = engine.gate.read_state()
            with pytest.raises(EngineError, match="chief"):
                engine.gate.cut(gate, engine.tag.mark)
            lab.sql(grant.statement)
            engine.gate.cut(gate, engine.tag.mark)
            with pytest.raises(MySQLdb.Error):
                MySQLdb.connect(host="127.0.0.1", port=lab.server.port, user="chief", passwd="chief")
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
    finally:
        lab.sql("DROP USER IF EXISTS chief, console@127.0.0.1")
