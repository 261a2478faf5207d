"""What a MariaDB or MySQL server, or who owns a schema on it, could do to the console; none of it comes about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import MySQLdb
import pytest
from sqlalchemy import URL

from maintenance.engines import open_engine, programs
from maintenance.engines.errors import EngineError, Unable
from maintenance.engines.marks import Signer
from maintenance.engines.mysql import Family, MariaDB, MySQL
from maintenance.engines.mysql.dump_file import client_program, dump_program
from maintenance.engines.mysql.gate_mirror import mirror_schema
from maintenance.engines.mysql.physical import MARIABACKUP
from maintenance.engines.mysql.repair.quarantine import SAVED, create_missing, old_schema, saved_definitions
from maintenance.engines.values import Limits, Tag
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.conftest import family_lab, mysql_server, server
from tests.security.rogue_mysql import Rogue, asks_for_file, asks_for_password, listening

__all__ = ["family_lab", "mysql_server", "server"]

PASSWORD = "the-word-of-the-console"
CANARY = b"-- the console's own key --"
FULL_ADDRESS = URL.create("mysql", "dbmaint", PASSWORD, "127.0.0.1", database="shop")


def engine(rogue: Rogue, **query: str) -> MariaDB:
    return MariaDB(FULL_ADDRESS.set(port=rogue.port, query=query), Tag(1, 1), Limits())


def diagnoses(made: MariaDB) -> None:
    made.sessions.facts()


def dumps(made: MariaDB) -> None:
    tool = dump_program(made.server)
    programs.run([tool, *made.server.address(tool), "shop"], secrets=made.server.secrets())


def loads(made: MariaDB) -> None:
    tool = client_program(made.server)
    programs.run([tool, *made.server.address(tool), "--execute=SELECT 1"], secrets=made.server.secrets())


def copies_files(made: MariaDB) -> None:
    programs.run(
        [MARIABACKUP, *made.server.address(MARIABACKUP), "--backup", "--target-dir=/nowhere"],
        secrets=made.server.secrets(),
    )


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
                engine(rogue, ssl_mode=mode).sessions.facts()
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
            product = MariaDB if scheme == "mariadb" else MySQL
            with pytest.raises(Unable, match=name):
                product(url, Tag(1, 1), Limits()).sessions.facts()
            assert rogue.received == []

    def test_keeps_option_files_and_login_files_from_the_programs(self, tmp_path: Path) -> None:
        made = MariaDB(FULL_ADDRESS, Tag(1, 1), Limits())
        assert made.server.address("mariadb")[0] == made.server.address("mariadb-dump")[0] == "--no-defaults"
        assert made.server.secrets()["MYSQL_TEST_LOGIN_FILE"] == "/dev/null"
        assert "--local-infile=0" in made.server.address("mariadb")


KEY = Signer(b"the key that no server knows")


@contextmanager
def console(lab: MariaDBLab, token: int = 1, target: int = 7) -> Iterator[Family]:
    made = open_engine(lab.url, Tag(target, token, "", KEY), Limits(jobs=1, lock_seconds=5, cut_seconds=5))
    assert isinstance(made, Family)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def neighbour(family_lab: MariaDBLab) -> Iterator[Neighbour]:
    """An account without any right on the target that may make schemas like ours."""
    lab = family_lab
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    lab.sql("INSERT INTO t VALUES (1)")
    name = f"near_{lab.database}"
    lab.sql(f"CREATE USER {name}@127.0.0.1 IDENTIFIED BY 'app-secret'")
    lab.sql(f"GRANT ALL ON `dbm\\_%`.* TO {name}@127.0.0.1")
    connection = MySQLdb.connect(
        host="127.0.0.1", port=lab.server.port, user=name, passwd="app-secret", autocommit=True
    )
    yield Neighbour(lab, name, connection)
    connection.close()  # type: ignore[no-untyped-call]
    lab.sql(f"DROP USER {name}@127.0.0.1")


@dataclass
class Neighbour:
    lab: MariaDBLab
    name: str
    connection: MySQLdb.Connection

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        cursor = self.connection.cursor()
        cursor.execute(statement, values)
        return list(cursor.fetchall())


class TestAMarkThatAnotherPutThere:
    def test_opens_no_account(self, neighbour: Neighbour) -> None:
        lab = neighbour.lab
        retired = f"retired_{lab.database}"
        lab.sql(f"CREATE USER {retired}@127.0.0.1 IDENTIFIED BY 'app-secret' ACCOUNT LOCK")
        try:
            for key in (b"", b"a guess"):
                with console(lab) as made:
                    self.plant(neighbour, made, retired, Signer(key))
                    gate = made.gate.read_state()
                    assert [one["user"] for one in gate["accounts"]] != [retired]  # type: ignore[attr-defined]
                    assert not made.gate.is_cut()
                    assert made.lock.held_by_other_installation() is None
                    made.lock.fence()
                    made.gate.cut(gate, made.tag.mark)
                    assert made.gate.read_state() == gate
                    made.gate.open(gate, None)
                    assert made.gate.differences(gate) == []
                with pytest.raises(MySQLdb.Error):
                    MySQLdb.connect(host="127.0.0.1", port=lab.server.port, user=retired, passwd="app-secret")
        finally:
            lab.sql(f"DROP USER {retired}@127.0.0.1")

    def plant(self, neighbour: Neighbour, made: Family, user: str, signer: Signer) -> None:
        schema = mirror_schema(made.server)
        gate = {
            "schema": made.server.schema,
            "max_connections": 80,
            "events": [],
            "accounts": [
                {"user": user, "host": "127.0.0.1", "locked": False, "max_user_connections": 0, "definition": ""}
            ],
        }
        marker = {"target": 7, "site": "" if signer.key else "zz"}
        neighbour.sql(f"DROP DATABASE IF EXISTS {schema}")
        neighbour.sql(f"CREATE DATABASE {schema}")
        neighbour.sql(f"CREATE TABLE {schema}.gate (id INT PRIMARY KEY, gate LONGTEXT, marker LONGTEXT)")
        neighbour.sql(
            f"INSERT INTO {schema}.gate VALUES (1, %s, %s)",
            json.dumps(signer.signed(gate, "gate")),
            json.dumps(signer.signed(marker, "marker")),
        )

    def test_is_nothing_when_it_is_a_copy_of_a_true_one_for_another_schema(self, neighbour: Neighbour) -> None:
        lab = neighbour.lab
        with console(lab) as made:
            gate = made.gate.read_state()
            made.gate.cut(gate, made.tag.mark)
            [(true_gate, true_marker)] = lab.sql(f"SELECT gate, marker FROM {mirror_schema(made.server)}.gate")
            made.gate.open(gate, None)
        other = lab.fresh()
        with console(other) as elsewhere:
            schema = mirror_schema(elsewhere.server)
            neighbour.sql(f"CREATE DATABASE {schema}")
            neighbour.sql(f"CREATE TABLE {schema}.gate (id INT PRIMARY KEY, gate LONGTEXT, marker LONGTEXT)")
            neighbour.sql(f"INSERT INTO {schema}.gate VALUES (1, %s, %s)", true_gate, true_marker)
            assert elsewhere.gate.read_state()["schema"] == other.database
            assert not elsewhere.gate.is_cut()

    @pytest.mark.parametrize(
        "planted", ["CREATE VIEW {0}.gate AS SELECT 1 AS gate, 2 AS marker", "CREATE TABLE {0}.gate (id INT)"]
    )
    def test_is_nothing_when_it_is_no_mark(self, neighbour: Neighbour, planted: str) -> None:
        with console(neighbour.lab) as made:
            schema = mirror_schema(made.server)
            neighbour.sql(f"CREATE DATABASE {schema}")
            neighbour.sql(planted.format(schema))
            gate = made.gate.read_state()
            made.gate.cut(gate, made.tag.mark)
            assert made.gate.is_cut()
            made.gate.open(gate, None)
            assert made.gate.differences(gate) == []

    def test_makes_no_statement_of_theirs_run_as_us(self, neighbour: Neighbour) -> None:
        with console(neighbour.lab) as made:
            schema = old_schema(made.server)
            neighbour.sql(f"CREATE DATABASE {schema}")
            neighbour.sql(
                f"CREATE TABLE {schema}.{SAVED} (number INT AUTO_INCREMENT PRIMARY KEY, kind VARCHAR(20), name"
                " VARCHAR(64), body LONGTEXT, owner VARCHAR(130), UNIQUE KEY (kind, owner, name))"
            )
            body = {"kind": "view", "name": "v", "sql": f"GRANT ALL ON *.* TO {neighbour.name}@127.0.0.1"}
            neighbour.sql(
                f"INSERT INTO {schema}.{SAVED} (kind, name, body, owner) VALUES ('view', 'v', %s, '.')",
                json.dumps(Signer().signed(body, "x")),
            )
            with made.server.session("trying") as session:
                create_missing(made.server, session, saved_definitions(made.server, session, schema))
            neighbour.sql(f"DROP DATABASE {schema}")
        assert "mysql" not in str(neighbour.sql("SHOW DATABASES"))


class TestALockThatAnotherTook:
    def test_keeps_nobody_in_through_the_cut(self, neighbour: Neighbour) -> None:
        """With an empty key the names of our locks can be foretold: even then only our own account is spared."""
        lab = neighbour.lab
        with lab.engine() as made, lab.application() as inside:
            assert isinstance(made, Family)
            gate = made.gate.read_state()
            inside.execute(f"SELECT GET_LOCK('{made.server.slot_name(made.tag.token, 40)}', 0)")
            made.gate.cut(gate, made.tag.mark)
            with pytest.raises(MySQLdb.Error):
                inside.execute("INSERT INTO t VALUES (2)")
            made.gate.open(gate, None)

    def test_does_not_keep_the_maintenance_waiting(self, neighbour: Neighbour) -> None:
        with console(neighbour.lab) as made:
            neighbour.sql(f"SELECT GET_LOCK('{made.lock.hold_name}', 0)")
            assert made.lock.held_by_other_installation() is None
            made.lock.fence()

    def test_is_not_one_that_can_be_foretold(self, family_lab: MariaDBLab) -> None:
        with console(family_lab) as made, family_lab.engine() as other:
            assert isinstance(other, Family)
            assert made.server.slot_name(1, 0) != other.server.slot_name(1, 0)
            assert made.server.secret_name("switch") != other.server.secret_name("switch")


HARMFUL = (
    "SELECT 1 INTO OUTFILE '{file}'",
    "SELECT 1 INTO/**/OUTFILE '{file}'",
    "SELECT 1 INTO/* x */ /* y */DUMPFILE '{file}'",
    "SELECT 1 INTO # \n OUTFILE '{file}'",
    "SELECT 1 INTO -- \n OUTFILE '{file}'",
    "SELECT '\\'' , 1 INTO OUTFILE '{file}' -- '",
    'SELECT "a" INTO OUTFILE \'{file}\' -- "',
    "SELECT 1 into\tOutFile '{file}'",
    "SELECT 1 /*!INTO*/ /*!OUTFILE*/ '{file}'",
    "SELECT 1 /*!50000 INTO OUTFILE '{file}'*/",
    "SELECT 1 /*M!100100 INTO OUTFILE '{file}'*/",
    "SELECT 1--1 INTO OUTFILE '{file}'",
    "SELECT load_file('/etc/hostname')",
    "SELECT LOAD_FILE/**/('/etc/hostname')",
    "SELECT `load_file`('/etc/hostname')",
    "SELECT RELEASE_ALL_LOCKS()",
    "SELECT 1 /* never closed",
    "SELECT 'never closed",
    "WITH a AS (SELECT 1) SELECT * FROM a INTO @x",
)


class TestAnOperatorsQuestion:
    @pytest.mark.parametrize("question", HARMFUL)
    def test_does_no_more_than_read(self, family_lab: MariaDBLab, question: str, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        file = tmp_path / "out"
        with console(family_lab) as made:
            with pytest.raises(Unable):
                made.benchmark.query(question.replace("{file}", str(file)))
            assert made.benchmark.measure(question.replace("{file}", str(file)), 1).error
        assert not file.exists()

    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            ("SELECT 'INTO OUTFILE'", "INTO OUTFILE"),
            ("/* INTO */ SELECT 1 -- LOAD_FILE", 1),
            ("SELECT `into` FROM (SELECT 5 AS `into`) d", None),
            ("SELECT 2--1", 3),
            ("(SELECT 1)", 1),
        ],
    )
    def test_that_only_reads_is_answered(self, family_lab: MariaDBLab, question: str, answer: object) -> None:
        with console(family_lab) as made:
            if answer is None:
                with pytest.raises(Unable):  # a name like that may be quoted otherwise
                    made.benchmark.query(question)
            else:
                assert made.benchmark.query(question) == [(answer,)]

    def test_is_not_asked_by_an_account_that_may_read_files(self, family_lab: MariaDBLab) -> None:
        lab = family_lab
        lab.sql("CREATE TABLE t (id INT PRIMARY KEY, n INT, KEY t_n (n))")
        lab.sql("INSERT INTO t VALUES (1, 2)")
        account = f"{lab.server.administrator}@127.0.0.1"
        lab.sql(f"GRANT FILE ON *.* TO {account}")
        try:
            with console(lab) as made:
                with pytest.raises(Unable, match="not asked: the console's account may read files"):
                    made.benchmark.query("SELECT 1")
                assert "not asked" in str(made.benchmark.measure("SELECT id FROM t", 1).error)
                own = made.benchmark.queries(None)
                assert len(own) == 2
                assert [sample.error for sample in made.benchmark.measure_all(own, 1)] == [None, None]
                assert made.benchmark.load_test(own, 0.2, 2).errors == 0
        finally:
            lab.sql(f"REVOKE FILE ON *.* FROM {account}")
        with console(lab) as made:
            assert made.benchmark.query("SELECT 1") == [(1,)]
            assert made.benchmark.measure("SELECT id FROM t", 1).error is None

    def test_is_not_asked_by_one_that_has_the_right_by_a_role(self, family_lab: MariaDBLab) -> None:
        lab = family_lab
        account = f"{lab.server.administrator}@127.0.0.1"
        to = " FOR" if lab.server.program.startswith("maria") else ""
        lab.sql("CREATE ROLE reader")
        try:
            lab.sql("GRANT FILE ON *.* TO reader")
            lab.sql(f"GRANT reader TO {account}")
            lab.sql(f"SET DEFAULT ROLE reader{to or ' TO'} {account}")
            with console(lab) as made, pytest.raises(Unable, match="not asked"):
                made.benchmark.query("SELECT 1")
        finally:
            lab.sql("DROP ROLE reader")

    def test_never_shows_the_servers_words(self, family_lab: MariaDBLab) -> None:
        lab = family_lab
        lab.sql("CREATE TABLE people (id INT PRIMARY KEY, secret VARCHAR(40))")
        lab.sql("INSERT INTO people VALUES (1, 'the-secret-of-row-1')")
        with console(lab) as made:
            for question in (
                "SELECT EXTRACTVALUE('<a/>', CONCAT('\\\\', (SELECT secret FROM people)))",
                "SELECT ST_GeomFromText((SELECT secret FROM people))",
                "SELECT 1 FROM people WHERE secret REGEXP CONCAT('(', secret)",
            ):
                told = str(made.benchmark.measure(question, 1).error)
                try:
                    made.benchmark.query(question)
                except EngineError as error:
                    told += str(error)
                    assert "error 1" in told or "error 3" in told
                assert "secret-of" not in told
            with pytest.raises(EngineError, match="error 1146"):
                made.benchmark.query("SELECT * FROM the_secret_of_a_table")

    def test_runs_no_function_of_theirs_with_our_rights(self, family_lab: MariaDBLab) -> None:
        lab = family_lab
        lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
        lab.sql("INSERT INTO t VALUES (1)")
        with lab.application() as owner:
            owner.execute(
                "CREATE FUNCTION counted() RETURNS INT DETERMINISTIC SQL SECURITY INVOKER"
                " BEGIN SET GLOBAL max_connect_errors = 77; RETURN 1; END"
            )
            owner.execute("CREATE SQL SECURITY INVOKER VIEW v AS SELECT id, counted() AS n FROM t")
            owner.execute("CREATE VIEW w AS SELECT n FROM v")
            owner.execute("CREATE FUNCTION plain() RETURNS INT DETERMINISTIC SQL SECURITY DEFINER RETURN 5")
        before = lab.sql("SELECT @@GLOBAL.max_connect_errors")
        with console(lab) as made:
            for question in ("SELECT counted()", "SELECT n FROM v", "SELECT * FROM `w`", "TABLE w"):
                with pytest.raises(EngineError):
                    made.benchmark.query(question)
                assert made.benchmark.measure(question, 1).error
            assert made.benchmark.query("SELECT plain()") == [(5,)]
            assert made.benchmark.query("SELECT id AS counted FROM t") == [(1,)]
        assert lab.sql("SELECT @@GLOBAL.max_connect_errors") == before

    def test_is_answered_in_bounded_memory(self, family_lab: MariaDBLab) -> None:
        with console(family_lab) as made:
            assert len(made.benchmark.query(f"SELECT seq FROM {family_lab.numbers(5000)}")) == 1000
