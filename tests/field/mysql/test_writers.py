"""Who can write into the schema is known completely: shut out by the cut, or the work is refused before the outage."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import MySQLdb
import pytest

from demo.mariadb import ThrowawayMariaDB
from demo.ports import free_port
from maintenance.engines import open_engine
from maintenance.engines.errors import Unable
from maintenance.engines.mysql import Family
from maintenance.engines.values import Limits, Tag
from tests.engines.conftest import short_folder
from tests.engines.lab_mariadb import MariaDBLab

Prepare = Callable[[MariaDBLab, str, str], str]
"""Makes, with root's rights, a way for the account (third) by the schema (second); returns the statement it writes."""


def by_cascade(lab: MariaDBLab, other: str, user: str) -> str:
    lab.sql(f"CREATE TABLE {other}.parent (id INT PRIMARY KEY)")
    lab.sql(f"INSERT INTO {other}.parent VALUES (1)")
    lab.sql(
        "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p)"
        f" REFERENCES {other}.parent (id) ON DELETE CASCADE)"
    )
    lab.sql("INSERT INTO child VALUES (1, 1)")
    lab.sql(f"GRANT ALL ON {other}.* TO {user}")
    return f"DELETE FROM {other}.parent"


def by_a_view_on_a_view(lab: MariaDBLab, other: str, user: str) -> str:
    lab.sql(f"CREATE DATABASE {other}_b")
    lab.sql(f"CREATE VIEW {other}_b.first AS SELECT id FROM {lab.database}.t")
    lab.sql(f"CREATE VIEW {other}.second AS SELECT id FROM {other}_b.first")
    lab.sql(f"GRANT ALL ON {other}.* TO {user}")
    return f"INSERT INTO {other}.second VALUES (77)"


def by_a_name_put_together(lab: MariaDBLab, other: str, user: str) -> str:
    half = len(lab.database) // 2
    lab.sql(
        f"CREATE PROCEDURE {other}.writes() BEGIN SET @s = CONCAT('INSERT INTO ', '{lab.database[:half]}',"
        f" '{lab.database[half:]}', '.t VALUES (78)'); PREPARE p FROM @s; EXECUTE p; END"
    )
    lab.sql(f"GRANT EXECUTE ON {other}.* TO {user}")
    return f"CALL {other}.writes()"


def by_calling_what_is_put_together(lab: MariaDBLab, other: str, user: str) -> str:
    lab.sql(f"CREATE DATABASE {other}_b")
    by_a_name_put_together(lab, f"{other}_b", user)
    lab.sql(f"REVOKE EXECUTE ON {other}_b.* FROM {user}")
    lab.sql(f"CREATE PROCEDURE {other}.calls() CALL {other}_b.writes()")
    lab.sql(f"GRANT EXECUTE ON PROCEDURE {other}.calls TO {user}")
    return f"CALL {other}.calls()"


@pytest.mark.parametrize(
    "way", [by_cascade, by_a_view_on_a_view, by_a_name_put_together, by_calling_what_is_put_together]
)
def test_an_account_with_rights_elsewhere_only_is_shut_out(family_lab: MariaDBLab, way: Prepare) -> None:
    lab = family_lab
    other, user = f"away_{lab.database}", f"far_{lab.database}"
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    lab.sql(f"CREATE DATABASE {other}")
    lab.sql(f"CREATE USER {user}@127.0.0.1 IDENTIFIED BY 'app-secret'")
    try:
        statement = way(lab, other, f"{user}@127.0.0.1")
        inside = connected(lab, user)
        with lab.engine() as engine:
            assert isinstance(engine, Family)
            gate = engine.gate.read_state()
            engine.gate.cut(gate, engine.tag.mark)
            before = engine.verifier.fingerprint(None)
            with pytest.raises(MySQLdb.Error):
                inside.cursor().execute(statement)
            with pytest.raises(MySQLdb.Error):
                connected(lab, user)
            assert engine.verifier.fingerprint(None) == before
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
        connected(lab, user).cursor().execute(statement)
    finally:
        lab.sql(f"DROP USER {user}@127.0.0.1")
        lab.sql("DROP TABLE IF EXISTS child")
        for schema in (other, f"{other}_b"):
            lab.sql(f"DROP DATABASE IF EXISTS {schema}")


def test_an_administrator_who_is_in_without_a_default_schema_is_shut_out(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    user = f"boss_{lab.database}"
    lab.sql(f"CREATE USER {user}@127.0.0.1 IDENTIFIED BY 'app-secret'")
    lab.sql(f"GRANT ALL ON *.* TO {user}@127.0.0.1")
    try:
        inside = connected(lab, user)
        with lab.engine() as engine:
            assert isinstance(engine, Family)
            gate = engine.gate.read_state()
            engine.gate.cut(gate, engine.tag.mark)
            with pytest.raises(MySQLdb.Error):
                inside.cursor().execute(f"INSERT INTO {lab.database}.t VALUES (1)")
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
    finally:
        lab.sql(f"DROP USER {user}@127.0.0.1")


def test_an_account_that_differs_in_case_or_host_and_leads_elsewhere_stays_in(family_lab: MariaDBLab) -> None:
    lab = family_lab
    other = f"away_{lab.database}"
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    lab.sql(f"CREATE DATABASE {other}")
    lab.sql(f"CREATE DATABASE {lab.database.upper()}")
    bystanders = [(lab.account.upper(), "127.0.0.1"), (f"up_{lab.database}", "127.0.0.1"), (f"two_{lab.database}", "%")]
    try:
        for user, host in bystanders:
            lab.sql(f"CREATE USER '{user}'@'{host}' IDENTIFIED BY 'app-secret'")
            lab.sql(f"GRANT ALL ON {other}.* TO '{user}'@'{host}'")
        lab.sql(f"GRANT ALL ON {lab.database.upper()}.* TO up_{lab.database}@127.0.0.1")
        lab.sql(f"CREATE USER two_{lab.database}@'10.%' IDENTIFIED BY 'app-secret'")
        lab.sql(f"GRANT ALL ON {lab.database}.* TO two_{lab.database}@'10.%'")
        sessions = [connected(lab, user) for user, _ in bystanders]
        application = lab.app_connection()
        with lab.engine() as engine:
            assert isinstance(engine, Family)
            gate = engine.gate.read_state()
            engine.gate.cut(gate, engine.tag.mark)
            for session in sessions:
                session.cursor().execute("SELECT 1")
            with pytest.raises(MySQLdb.Error):
                application.cursor().execute("SELECT 1")
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
    finally:
        for user, host in [*bystanders, (f"two_{lab.database}", "10.%")]:
            lab.sql(f"DROP USER IF EXISTS '{user}'@'{host}'")
        lab.sql(f"DROP DATABASE {other}")
        lab.sql(f"DROP DATABASE {lab.database.upper()}")


def connected(lab: MariaDBLab, user: str) -> MySQLdb.Connection:
    return MySQLdb.connect(host="127.0.0.1", port=lab.server.port, user=user, passwd="app-secret", autocommit=True)


PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")


class GaleraNode(ThrowawayMariaDB):
    """Answers before it may be used."""

    def _make_administrator(self) -> None:
        until = time.monotonic() + 60
        while "wsrep-on" in self.options and time.monotonic() < until:
            connection = self.connect()
            cursor = connection.cursor()
            cursor.execute("SHOW GLOBAL STATUS LIKE 'wsrep_ready'")
            ready = cursor.fetchall()
            connection.close()  # type: ignore[no-untyped-call]
            if ready and ready[0][1] == "ON":
                break
            time.sleep(0.2)
        super()._make_administrator()


@pytest.fixture
def cluster() -> Iterator[tuple[ThrowawayMariaDB, ThrowawayMariaDB]]:
    """Two nodes of a Galera cluster, as Debian's packages make them."""
    if not PROVIDER.exists():
        pytest.skip("galera-4 is not installed")
    folder = short_folder()
    ports = [free_port() for _ in range(2)]
    nodes: list[GaleraNode] = []
    try:
        for number, port in enumerate(ports):
            first = "gcomm://" if number == 0 else f"gcomm://127.0.0.1:{ports[0]}"
            node = GaleraNode(folder / f"node{number}", {"innodb-autoinc-lock-mode": "2", "binlog-format": "ROW"})
            nodes.append(node)
            node.start()
            node.stop()
            node.options = {
                **node.options,
                "wsrep-on": "ON",
                "wsrep-provider": str(PROVIDER),
                "wsrep-cluster-address": first,
                "wsrep-sst-method": "rsync",
                "wsrep-node-address": "127.0.0.1",
                "wsrep-sst-receive-address": f"127.0.0.1:{free_port()}",
                "wsrep-provider-options": (
                    f"base_port={port};gmcast.listen_addr=tcp://127.0.0.1:{port};ist.recv_addr=127.0.0.1:{free_port()}"
                ),
            }
            node.start()
        yield nodes[0], nodes[1]
    finally:
        for node in nodes:
            node.remove()
        subprocess.run(["rm", "-rf", str(folder)], check=False)


def test_a_galera_cluster_is_refused_before_the_outage(cluster: tuple[ThrowawayMariaDB, ThrowawayMariaDB]) -> None:
    first, second = cluster
    run(first, "CREATE DATABASE shop")
    run(first, "CREATE TABLE shop.t (id INT PRIMARY KEY)")
    for node in cluster:
        with opened(node) as engine:
            refusal = engine.sessions.facts().refusal
            assert refusal is not None
            assert "2 nodes of a Galera cluster" in refusal
            with pytest.raises(Unable, match="Galera"):
                engine.lock.fence()
    run(second, "INSERT INTO shop.t VALUES (1)")
    second.stop()
    with opened(first) as engine:
        assert engine.sessions.facts().refusal is None
        engine.lock.fence()
        gate = engine.gate.read_state()
        engine.gate.cut(gate, engine.tag.mark)
        assert engine.verifier.fingerprint(None)["t"].rows == 1
        engine.gate.open(gate, None)
        assert engine.gate.differences(gate) == []


def run(node: ThrowawayMariaDB, statement: str) -> None:
    connection = node.connect()
    connection.cursor().execute(statement)
    connection.close()  # type: ignore[no-untyped-call]


@contextmanager
def opened(node: ThrowawayMariaDB) -> Iterator[Family]:
    made = open_engine(node.url("shop"), Tag(7, 1), Limits(jobs=1, lock_seconds=5, cut_seconds=10))
    assert isinstance(made, Family)
    try:
        yield made
    finally:
        made.close()
