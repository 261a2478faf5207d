"""The matrix of deaths hears each effect at the doors to the outside, also of code that is written later."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.points import effect_of

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("statement", "effect"),
    [
        ("ALTER DATABASE shop ALLOW_CONNECTIONS false", "ALTER DATABASE"),
        ("  comment on database shop is 'x' /* dbmaint:7:1 */", "COMMENT ON"),
        ("COMMIT", "COMMIT"),
        ("KILL 17", "KILL"),
        ("DO $s1a2b$ BEGIN END $s1a2b$", "DO"),
        ("SELECT pg_terminate_backend(12)", "SELECT pg_terminate_backend"),
        ("SELECT GET_LOCK('dbmaint', 0)", "SELECT get_lock"),
        ("SET GLOBAL max_connections = 5", "SET GLOBAL"),
        ("PRAGMA journal_mode = WAL", "PRAGMA journal_mode"),
        ("SELECT count(*) FROM orders", None),
        ("SET SESSION sql_log_bin = 0", None),
        ("PRAGMA integrity_check", None),
        ("SHOW PROCESSLIST", None),
        ("SHOW GLOBAL STATUS", None),
        ("", None),
    ],
)
def test_an_effect_is_told_from_a_question(statement: str, effect: str | None) -> None:
    assert effect_of(statement) == effect


HEARS = """
import os, sqlite3, subprocess, sys
from sqlalchemy import create_engine
from chaos.points import Doors
passed = []
Doors(passed.append, [sys.argv[1]]).hear()
os.chdir(sys.argv[1])
with open("backup-17.part", "w") as file:
    file.write("x")
os.replace("backup-17.part", "backup-17")
os.remove("backup-17")
open("/dev/null", "w").close()
subprocess.run(["setpriv", "--pdeathsig", "KILL", "--", "true"])
with sqlite3.connect("shop.db", isolation_level=None) as target:
    target.execute("CREATE TABLE orders (id INTEGER)")
    target.execute("SELECT count(*) FROM orders").fetchone()
with sqlite3.connect("control.sqlite3") as control:
    control.execute("CREATE TABLE step (id INTEGER)")
    control.execute("INSERT INTO step VALUES (1)")
    control.commit()
with create_engine("sqlite://", isolation_level="AUTOCOMMIT").connect() as server:
    server.exec_driver_sql("DROP TABLE IF EXISTS orders")
print("\\n".join(passed))
"""


def test_files_programs_and_statements_are_heard(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEARS, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "write backup-N.part",
        "rename backup-N",
        "remove backup-N",
        "program true",
        "sqlite CREATE TABLE",
        "journal COMMIT",
        "statement DROP TABLE",
        "sqlite DROP TABLE",
        "statement DROP TABLE done",
    ]


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


DOORS = {
    "maintenance/engines/mysql/address.py: MySQLdb.connect",
    "maintenance/engines/postgresql/connection.py: psycopg2.connect",
}
"""Where SQLAlchemy's connections come from: their statements are heard."""


@pytest.mark.long
def test_no_engine_reaches_a_database_past_the_doors() -> None:
    """A driver that an engine opens by itself would act unheard."""
    unheard = {
        f"{path.relative_to(PROJECT)}: {call}"
        for path in (PROJECT / "maintenance").rglob("*.py")
        for call in calls(path)
        if call in ("psycopg2.connect", "MySQLdb.connect", "os.posix_spawn", "os.system", "os.execv", "ctypes.CDLL")
    }
    assert unheard == DOORS
