"""What a MariaDB or MySQL server, or who owns a schema on it, could do to the console; none of it comes about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from maintenance.engines import open_engine, programs
from maintenance.engines.errors import EngineError, Unable
from maintenance.engines.mysql import MariaDB, MySQL
from maintenance.engines.mysql.backup import client_program, dump_program
from maintenance.engines.mysql.physical import MARIABACKUP
from maintenance.engines.values import Limits, Tag
from tests.security.rogue_mysql import Rogue, asks_for_file, asks_for_password, listening

PASSWORD = "the-word-of-the-console"
CANARY = b"-- the console's own key --"
FULL_ADDRESS = URL.create("mysql", "dbmaint", PASSWORD, "127.0.0.1", database="shop")


def engine(rogue: Rogue, **query: str) -> MariaDB:
    return MariaDB(FULL_ADDRESS.set(port=rogue.port, query=query), Tag(1, 1), Limits())


def diagnoses(made: MariaDB) -> None:
    made.sessions.facts()


def dumps(made: MariaDB) -> None:
    tool = dump_program(made)
    programs.run([tool, *made.address(tool), "shop"], secrets=made.secrets())


def loads(made: MariaDB) -> None:
    tool = client_program(made)
    programs.run([tool, *made.address(tool), "--execute=SELECT 1"], secrets=made.secrets())


def copies_files(made: MariaDB) -> None:
    programs.run([MARIABACKUP, *made.address(MARIABACKUP), "--backup", "--target-dir=/nowhere"], secrets=made.secrets())


@pytest.fixture(params=[diagnoses, dumps, loads, copies_files])
def work(request: pytest.FixtureRequest) -> Callable[[MariaDB], None]:
    """Every way in which we go to a server."""
    return request.param  # type: ignore[no-any-return]


class TestARogueServer:
    @pytest.mark.parametrize("plugin", ["mysql_clear_password", "dialog", "mysql_old_password", "authentication_pam"])
    def test_is_not_told_the_password(self, plugin: str, work: Callable[[MariaDB], None]) -> None:
        with listening(asks_for_password(plugin)) as rogue:
            with pytest.raises((EngineError, programs.CommandFailed)):
                work(engine(rogue))
            assert rogue.received
            assert PASSWORD.encode() not in rogue.everything

    @pytest.mark.parametrize("product", [MariaDB, MySQL])
    @pytest.mark.parametrize("plugin", ["caching_sha2_password", "sha256_password"])
    def test_is_not_even_told_it_sealed_when_a_network_lies_before_it(
        self, plugin: str, product: type[MariaDB], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("maintenance.engines.mysql.address.LOOPBACK", frozenset())
        with listening(asks_for_password(plugin)) as rogue:
            made = product(FULL_ADDRESS.set(port=rogue.port), Tag(1, 1), Limits())
            with pytest.raises(EngineError, match="ssl_mode=VERIFY_IDENTITY"):
                made.sessions.facts()
            assert len(rogue.received) == 1

    def test_is_sent_no_file(self, work: Callable[[MariaDB], None], tmp_path: Path) -> None:
        secret = tmp_path / "secret.key"
        secret.write_bytes(CANARY)
        with listening(asks_for_file(str(secret))) as rogue:
            with pytest.raises((EngineError, programs.CommandFailed)):
                work(engine(rogue))
            assert len(rogue.received) > 1
            assert CANARY not in rogue.everything

    @pytest.mark.parametrize("mode", ["REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"])
    def test_that_offers_no_tls_is_asked_nothing_where_tls_is_demanded(self, mode: str, tmp_path: Path) -> None:
        with listening(asks_for_file(str(tmp_path))) as rogue:
            with pytest.raises(EngineError):
                engine(rogue, ssl_mode=mode).facts()
            assert b"SELECT" not in rogue.everything


class TestTheAddress:
    @pytest.mark.parametrize(
        "parameter",
        [
            "local_infile=1",
            "init_command=GRANT ALL ON *.* TO evil@'%'",
            "client_flag=65536",
            "read_default_file=/etc/mysql/evil.cnf",
            "read_default_group=evil",
            "auth_plugin=mysql_clear_password",
            "default_auth=dialog",
            "plugin_dir=/tmp",
            "conv=x",
            "cursorclass=x",
            "sql_mode=ANSI",
            "use_unicode=0",
            "compress=1",
            "multi_statements=1",
            "local_infile_dir=/",
            "passwd=x",
            "host=elsewhere",
            "port=1",
            "ssl_mode=NONE",
        ],
    )
    @pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
    def test_refuses_by_name_what_is_no_tls_timeout_or_character_set(self, scheme: str, parameter: str) -> None:
        with listening(asks_for_file("/etc/hostname")) as rogue:
            name, _, value = parameter.partition("=")
            url = FULL_ADDRESS.set(drivername=scheme, port=rogue.port, query={name: value})
            with pytest.raises(Unable, match=name):
                open_engine(url, Tag(1, 1), Limits()).sessions.facts()
            assert rogue.received == []

    def test_keeps_option_files_and_login_files_from_the_programs(self, tmp_path: Path) -> None:
        made = MariaDB(FULL_ADDRESS, Tag(1, 1), Limits())
        assert made.address("mariadb")[0] == made.address("mariadb-dump")[0] == "--no-defaults"
        assert made.secrets()["MYSQL_TEST_LOGIN_FILE"] == "/dev/null"
        assert "--local-infile=0" in made.address("mariadb")
