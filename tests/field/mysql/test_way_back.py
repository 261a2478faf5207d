"""The way back goes whatever the server demands of who makes a table now, and every object is as it was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from maintenance.engines.archive import Seal
from maintenance.engines.errors import EngineError, Unable
from maintenance.engines.mysql import Family
from maintenance.engines.values import Limits
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.lab_mysql import MySQLLab
from tests.field.mysql.runs import maintain, make


@dataclass(frozen=True)
class Case:
    """`made`: statements of one session that make it; `later`: global variables that are set when it is there."""

    name: str
    made: Sequence[str]
    later: Sequence[tuple[str, str]] = ()


WIDE = ", ".join(f"c{number} CHAR(120) CHARACTER SET latin1" for number in range(100))
MARIADB = (
    Case(
        "numbers of a sequence",
        (
            "CREATE SEQUENCE numbered START WITH 7",
            "CREATE TABLE t (id INT DEFAULT NEXTVAL(numbered) PRIMARY KEY, v INT)",
            "INSERT INTO t (v) VALUES (1), (2)",
        ),
    ),
    Case(
        "wider than allowed",
        (
            "SET SESSION innodb_strict_mode = OFF",
            f"CREATE TABLE t (id INT PRIMARY KEY, {WIDE}) ROW_FORMAT=DYNAMIC",
            "INSERT INTO t (id, c0) VALUES (1, 'x')",
        ),
    ),
    Case(
        "rows that break a check",
        (
            "CREATE TABLE t (id INT PRIMARY KEY, v INT CHECK (v > 0))",
            "SET SESSION check_constraint_checks = OFF",
            "INSERT INTO t VALUES (1, -1)",
        ),
    ),
    Case(
        "one engine for all",
        ("CREATE TABLE t (id INT PRIMARY KEY, v TEXT) ENGINE=MyISAM", "INSERT INTO t VALUES (1, 'x')"),
        (("enforce_storage_engine", "InnoDB"),),
    ),
    Case(
        "a mode without zero dates",
        (
            "SET SESSION sql_mode = ''",
            "CREATE TABLE t (id INT PRIMARY KEY, d DATE DEFAULT '0000-00-00', v DATETIME)",
            "INSERT INTO t VALUES (1, '0000-00-00', '2024-02-00')",
        ),
    ),
)


@contextmanager
def demanding(lab: MariaDBLab, variables: Sequence[tuple[str, str]]) -> Iterator[None]:
    before = [(name, lab.sql(f"SELECT @@GLOBAL.{name}")[0][0]) for name, _ in variables]
    for name, value in variables:
        lab.sql(f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        for name, earlier in before:
            lab.sql(f"SET GLOBAL {name} = {'NULL' if earlier is None else repr(earlier)}")


def seen_from_outside(lab: MariaDBLab) -> list[object]:
    shown = lab.sql("SHOW CREATE TABLE t")[0][1]
    return [shown, lab.sql("CHECKSUM TABLE t EXTENDED"), lab.sql("SELECT * FROM t ORDER BY 1")]


@pytest.mark.parametrize("case", MARIADB, ids=lambda case: case.name)
def test_what_was_made_otherwise_comes_back_as_it_was(lab: MariaDBLab, case: Case) -> None:
    make(lab, case.made)
    before = seen_from_outside(lab)
    with demanding(lab, case.later), lab.engine() as engine:
        assert isinstance(engine, Family)
        ran = maintain(engine, lab, "rebuild", roll_back=True)
    assert ran.refused is None
    assert ran.after == ran.before
    assert seen_from_outside(lab) == before


@pytest.mark.parametrize(
    ("made", "variable"),
    [
        ("CREATE TABLE t (v INT)", "innodb_force_primary_key"),
        ("CREATE TABLE t (id INT PRIMARY KEY) ROW_FORMAT=COMPRESSED", "innodb_read_only_compressed"),
    ],
)
def test_what_could_not_be_made_again_is_said_before_the_outage(lab: MariaDBLab, made: str, variable: str) -> None:
    lab.sql(made)
    with demanding(lab, [(variable, "ON")]), lab.engine() as engine:
        for method in engine.backups.methods:
            with pytest.raises(Unable, match=f"SET GLOBAL {variable} = OFF"):
                engine.backups.back_up(method, lab.folder, "shop", Seal())
    assert not lab.folder.exists() or list(lab.folder.iterdir()) == []


MYSQL = (
    Case("keys demanded", ("CREATE TABLE t (v INT)", "INSERT INTO t VALUES (1)"), (("sql_require_primary_key", "ON"),)),
    Case(
        "keys made unseen",
        ("CREATE TABLE t (v INT)", "INSERT INTO t VALUES (1)"),
        (("sql_generate_invisible_primary_key", "ON"),),
    ),
)


@pytest.mark.mysql
@pytest.mark.parametrize("case", MYSQL, ids=lambda case: case.name)
def test_what_mysql_demands_today_is_not_demanded_of_what_was_made_before(mysql_server: MySQLLab, case: Case) -> None:
    lab = mysql_server.fresh()
    make(lab, case.made)
    before = seen_from_outside(lab)
    with demanding(lab, case.later), lab.engine() as engine:
        assert isinstance(engine, Family)
        ran = maintain(engine, lab, "rebuild", roll_back=True)
    assert ran.refused is None
    assert seen_from_outside(lab) == before


def test_a_cut_that_could_do_nothing_leaves_everything_open(family_lab: MariaDBLab) -> None:
    """A server that takes no change now: nothing was touched, so nothing has to be undone, and nothing is tried."""
    lab = family_lab
    lab.fill()
    connection = lab.server.connect(lab.database)
    cursor = connection.cursor()
    is_mysql = isinstance(lab, MySQLLab)
    try:
        for statement in (
            ("SET GLOBAL super_read_only = ON",) if is_mysql else ("BACKUP STAGE START", "BACKUP STAGE BLOCK_DDL")
        ):
            cursor.execute(statement)
        with lab.engine(limits=Limits(lock_seconds=2, cut_seconds=5)) as engine:
            assert isinstance(engine, Family)
            engine.lock.fence()
            gate = engine.gate.read_state()
            with pytest.raises(EngineError):
                engine.gate.cut(gate, engine.tag.mark)
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
            assert engine.rollback.clean() == []
        lab.app_connection().close()  # type: ignore[no-untyped-call]
    finally:
        cursor.execute("SET GLOBAL read_only = OFF" if is_mysql else "BACKUP STAGE END")
        connection.close()  # type: ignore[no-untyped-call]
