"""One MariaDB server for all of these tests, a fresh schema a test; MySQL's too where both promise the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.engines.conftest import short_folder
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.lab_mysql import MySQLLab


@pytest.fixture(scope="session")
def server() -> Iterator[MariaDBLab]:
    folder = short_folder()
    try:
        with MariaDBLab.opened(folder) as opened:
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(server: MariaDBLab) -> Iterator[MariaDBLab]:
    made = server.fresh()
    yield made
    # What a failed test left locked must not disturb the next one.
    made.sql(f"ALTER USER '{made.account}'@'127.0.0.1' ACCOUNT UNLOCK")


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[MySQLLab]:
    folder = short_folder()
    try:
        with MySQLLab.opened(folder) as opened:
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.mysql)])
def family_lab(request: pytest.FixtureRequest) -> MariaDBLab:
    """A fresh schema on each product of the family."""
    opened: MariaDBLab = request.getfixturevalue("server" if request.param == "mariadb" else "mysql_server")
    return opened.fresh()
