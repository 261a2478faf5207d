"""Every way into a schema is shut, and opened again exactly as it was; the same for MariaDB and MySQL."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import MySQLdb
import pytest

from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import MARKER


def test_all_are_shut_out_and_all_is_as_before_to_the_byte(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.fill()
    ways = ways_in(lab)
    for statement in ways.statements:
        lab.sql(statement)
    for user, host in lab.sql("SELECT user, host FROM mysql.user WHERE plugin = '' AND host <> ''"):
        # MariaDB spells out the entry of an account of its installation at the first change.
        lab.sql(f"ALTER USER '{user}'@'{host}' ACCOUNT UNLOCK")
    try:
        before = accounts_to_the_byte(lab)
        with lab.engine() as engine:
            gate = engine.gate.read_state()
            for user in ways.users:
                connected(lab, user).close()  # type: ignore[no-untyped-call]
            engine.gate.cut(gate, MARKER)
            for user in ways.users:
                with pytest.raises(MySQLdb.Error):
                    connected(lab, user)
            connected(lab, ways.bystander).close()  # type: ignore[no-untyped-call]
            for share in (0.2, 0.6, None):
                engine.gate.open(gate, share)
            assert engine.gate.differences(gate) == []
        assert accounts_to_the_byte(lab) == before
        for user in ways.users:
            connected(lab, user).close()  # type: ignore[no-untyped-call]
    finally:
        for statement in ways.undoing:
            lab.sql(statement)


def test_a_pool_that_always_comes_back_gets_nothing_in(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.fill()
    pool = Pool(lab, size=6)
    try:
        pool.wait_for_writes()
        with lab.engine() as engine:
            engine.lock.fence()
            gate = engine.gate.read_state()
            cut = engine.gate.cut(gate, MARKER)
            assert cut.sessions_ended > 0
            first = lab.sql("SELECT COUNT(*) FROM orders")
            pool.wait_for_refusals()
            assert lab.sql("SELECT COUNT(*) FROM orders") == first
            engine.gate.open(gate, None)
        pool.wait_for_writes()
    finally:
        pool.end()


def test_an_event_of_another_schema_that_writes_here_sleeps_too(family_lab: MariaDBLab) -> None:
    lab = family_lab
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    other = f"away_{lab.database}"
    lab.sql(f"CREATE DATABASE {other}")
    states = f"SELECT event_name, status FROM information_schema.events WHERE event_schema = '{other}' ORDER BY 1"
    try:
        lab.sql(f"CREATE EVENT {other}.writes ON SCHEDULE EVERY 1 DAY DO DELETE FROM {lab.database}.t")
        # The name of the schema is a part of another name only.
        lab.sql(f"CREATE EVENT {other}.stays ON SCHEDULE EVERY 1 DAY DO DELETE FROM {lab.database}0.t")
        with lab.engine() as engine:
            gate = engine.gate.read_state()
            engine.gate.cut(gate, MARKER)
            assert lab.sql(states) == [("stays", "ENABLED"), ("writes", "DISABLED")]
            engine.gate.open(gate, None)
            assert engine.gate.differences(gate) == []
        assert lab.sql(states) == [("stays", "ENABLED"), ("writes", "ENABLED")]
    finally:
        lab.sql(f"DROP DATABASE {other}")


@dataclass(frozen=True)
class WaysIn:
    """Accounts @127.0.0.1 that reach the schema; one that does not; what makes and unmakes them."""

    users: tuple[str, ...]
    bystander: str
    statements: tuple[str, ...]
    undoing: tuple[str, ...]


def ways_in(lab: MariaDBLab) -> WaysIn:
    base = lab.database.replace("_", "")
    role, other = f"r_{base}", f"away_{lab.database}"
    escaped = lab.database.replace("_", r"\_")
    grants = {
        "global": "GRANT SELECT ON *.* TO {who}",
        "wildcard": f"GRANT INSERT ON `{lab.database[:2]}%{lab.database[-1]}`.* TO {{who}}",
        "escaped": f"GRANT SELECT ON `{escaped}`.* TO {{who}}",
        "table": f"GRANT SELECT ON `{lab.database}`.customers TO {{who}}",
        "column": f"GRANT SELECT (id) ON `{lab.database}`.customers TO {{who}}",
        "routine": f"GRANT EXECUTE ON PROCEDURE `{lab.database}`.touch TO {{who}}",
        "role": f"GRANT '{role}' TO {{who}}",
        "proxy": f"GRANT PROXY ON {lab.account}@127.0.0.1 TO {{who}}",
        "view": f"GRANT SELECT ON {other}.* TO {{who}}",
    }
    users = {way: f"{way}_{base}" for way in grants}
    bystander = f"by_{base}"
    everybody = (*users.values(), bystander)
    made = (
        f"CREATE PROCEDURE `{lab.database}`.touch() SELECT 1",
        f"CREATE DATABASE {other}",
        f"CREATE VIEW {other}.theirs AS SELECT id FROM `{lab.database}`.customers",
        f"CREATE ROLE '{role}'",
        f"GRANT SELECT ON `{lab.database}`.* TO '{role}'",
        *(
            f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'way-in' WITH MAX_USER_CONNECTIONS {7 + number}"
            for number, user in enumerate(everybody)
        ),
        *(grant.format(who=f"'{users[way]}'@'127.0.0.1'") for way, grant in grants.items()),
    )
    gone = (f"DROP USER '{user}'@'127.0.0.1'" for user in everybody)
    return WaysIn(tuple(users.values()), bystander, made, (*gone, f"DROP ROLE '{role}'", f"DROP DATABASE {other}"))


def connected(lab: MariaDBLab, user: str) -> MySQLdb.Connection:
    return MySQLdb.connect(host="127.0.0.1", port=lab.server.port, user=user, passwd="way-in")


def accounts_to_the_byte(lab: MariaDBLab) -> dict[str, list[tuple[object, ...]]]:
    """Every account with its definition and grants, and the server's own tables of rights as they lie."""
    tables = ("user", "db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv")
    found = {table: sorted(lab.sql(f"SELECT * FROM mysql.{table}"), key=repr) for table in tables}
    for user, host in lab.sql("SELECT user, host FROM mysql.user WHERE host <> '' AND user NOT LIKE '%.%'"):
        name = f"'{user}'@'{host}'"
        found[name] = [*lab.sql(f"SHOW CREATE USER {name}"), *lab.sql(f"SHOW GRANTS FOR {name}")]
    return found


class Pool:
    """An application's pool: a connection that ends is opened again at once."""

    def __init__(self, lab: MariaDBLab, size: int) -> None:
        self.lab, self.stop = lab, threading.Event()
        self.written, self.refused = [0] * size, [0] * size
        self.threads = [threading.Thread(target=self._one, args=(number,)) for number in range(size)]
        for thread in self.threads:
            thread.start()

    def _one(self, number: int) -> None:
        while not self.stop.is_set():
            try:
                connection = self.lab.app_connection()
            except MySQLdb.Error:
                self.refused[number] += 1
                time.sleep(0.002)
                continue
            try:
                while not self.stop.is_set():
                    connection.cursor().execute("INSERT INTO orders (customer_id, status) VALUES (1, 'pooled')")
                    self.written[number] += 1
                    time.sleep(0.005)
            except MySQLdb.Error:
                pass

    def wait_for_writes(self) -> None:
        self._wait_for(self.written)

    def wait_for_refusals(self) -> None:
        self._wait_for(self.refused)

    def _wait_for(self, counts: list[int]) -> None:
        """Until every connection of the pool has counted three more."""
        wanted, until = [count + 3 for count in counts], time.monotonic() + 20
        while any(now < then for now, then in zip(counts, wanted, strict=True)):
            assert time.monotonic() < until
            time.sleep(0.01)

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()
