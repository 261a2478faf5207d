"""Each finding of the diagnosis, provoked on a real server; the same for MariaDB and MySQL where both can."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import MySQLdb
import pytest

from maintenance.engines.mysql import diagnosis
from maintenance.engines.mysql.diagnosis import keys, server_findings
from maintenance.engines.values import Finding
from tests.engines.conftest import short_folder
from tests.engines.lab_mariadb import MariaDBLab
from tests.engines.mariadb.world import SMALL

Provoking = Callable[[MariaDBLab, ExitStack], None]
Pair = tuple[MariaDBLab, MariaDBLab]


def sql(*statements: str) -> Provoking:
    def provoke(lab: MariaDBLab, stack: ExitStack) -> None:
        for statement in statements:
            lab.sql(statement)

    return provoke


def variable(name: str, value: object, before: object) -> Provoking:
    def provoke(lab: MariaDBLab, stack: ExitStack) -> None:
        stack.callback(lab.sql, f"SET GLOBAL {name} = {before}")
        lab.sql(f"SET GLOBAL {name} = {value}")

    return provoke


def bloat(lab: MariaDBLab, stack: ExitStack) -> None:
    lab.fill()
    lab._wait_for_purge()
    lab.sql("ANALYZE TABLE orders")


def stale(lab: MariaDBLab, stack: ExitStack) -> None:
    lab.fill()


def open_transaction(lab: MariaDBLab, stack: ExitStack) -> None:
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    client = stack.enter_context(lab.application())
    client.execute("BEGIN")
    client.execute("INSERT INTO t VALUES (1)")
    time.sleep(0.2)  # The server keeps its list of transactions for a tenth of a second.


def prepared(lab: MariaDBLab, stack: ExitStack) -> None:
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    connection = lab.server.connect(lab.database)
    for statement in ("XA START 'far'", "INSERT INTO t VALUES (1)", "XA END 'far'", "XA PREPARE 'far'"):
        connection.cursor().execute(statement)
    connection.close()  # type: ignore[no-untyped-call]
    stack.callback(lab.sql, "XA ROLLBACK 'far'")


def crowd(lab: MariaDBLab, stack: ExitStack) -> None:
    variable("max_connections", 12, 80)(lab, stack)
    for _ in range(11):
        stack.callback(lab.app_connection().close)


def damaged_page(lab: MariaDBLab, stack: ExitStack) -> None:
    lab.fill()
    lab.damage_index()


def killed(lab: MariaDBLab, stack: ExitStack) -> None:
    lab.server.kill()
    lab.server.start()


def rescue(lab: MariaDBLab, stack: ExitStack) -> None:
    def usual() -> None:
        del lab.server.options["innodb-force-recovery"]
        lab.server.restart()

    stack.callback(usual)
    lab.server.options["innodb-force-recovery"] = "1"
    lab.server.restart()


def a_log_line(text: str) -> Provoking:
    """As the server wrote it on another day."""

    def provoke(lab: MariaDBLab, stack: ExitStack) -> None:
        with open(lab.server.log, "a") as log:
            log.write(f"2026-01-01  1:02:03 0 [ERROR] {text}\n")

    return provoke


def used_by_nobody(lab: MariaDBLab, stack: ExitStack) -> None:
    if lab.sql("SHOW GLOBAL VARIABLES LIKE 'userstat'"):
        variable("userstat", "ON", "OFF")(lab, stack)
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY, used INT, idle INT, KEY used_one (used), KEY idle_one (idle))")
    lab.sql("INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)")
    lab.sql("SELECT id FROM t FORCE INDEX (used_one) WHERE used = 1")


CASES: dict[str, tuple[str, Provoking]] = {
    "table_bloat": ("orders", bloat),
    "stale_statistics": ("orders", stale),
    "no_primary_key": ("t", sql("CREATE TABLE t (a INT)")),
    "broken_view": (
        "v",
        sql("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE VIEW v AS SELECT id FROM t", "DROP TABLE t"),
    ),
    "prepared_transaction": ("", prepared),
    "duplicate_index": ("t", sql("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, KEY x (a), KEY y (a, b))")),
    "unused_index": ("t", used_by_nobody),
    "long_transaction": ("", open_transaction),
    "connections_near_limit": ("", crowd),
    "unsafe_commit": ("", variable("innodb_flush_log_at_trx_commit", 2, 1)),
    "init_connect": ("", variable("init_connect", "'SELECT 1'", "''")),
    "read_only": ("", variable("read_only", "ON", "OFF")),
    "no_binary_log": ("", sql()),
    "damaged_page": ("orders", damaged_page),
    "server_crashed": ("", killed),
    "disk_was_full": ("", a_log_line("Disk is full writing './shop/t.MYD' (Errcode: 28 \"No space left on device\")")),
    "force_recovery": ("", rescue),
    "disk_low": ("", sql("CREATE TABLE t (id INT PRIMARY KEY)")),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes hours in life counts at once."""
    monkeypatch.setattr(server_findings, "LONG_TRANSACTION_SECONDS", 0)
    monkeypatch.setattr(keys, "UNUSED_SECONDS", 0)


def findings(lab: MariaDBLab) -> Sequence[Finding]:
    with lab.engine() as engine:
        return engine.diagnostics.diagnose(SMALL).findings


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", CASES)
def test_it_is_found_when_it_is_there(family_lab: MariaDBLab, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if code == "disk_low":
        monkeypatch.setattr(diagnosis, "ROOM", 1e9)
    place, provoke = CASES[code]
    with ExitStack() as stack:
        provoke(family_lab, stack)
        found = [one for one in findings(family_lab) if one.code == code]
    assert place in [one.object for one in found]
    assert all(one.evidence and one.hint for one in found)


@pytest.mark.usefixtures("impatient")
def test_only_the_index_that_nobody_used_is_called_so(family_lab: MariaDBLab) -> None:
    with ExitStack() as stack:
        used_by_nobody(family_lab, stack)
        told = [one.evidence for one in findings(family_lab) if one.code == "unused_index"]
    assert len(told) == 1
    assert "idle_one" in told[0]


def test_a_tidy_database_gives_no_finding_of_its_own(family_lab: MariaDBLab) -> None:
    family_lab.sql("CREATE TABLE t (id INT PRIMARY KEY, a INT, KEY (a))")
    family_lab.sql("INSERT INTO t VALUES (1, 1)")
    family_lab.sql("ANALYZE TABLE t")
    assert [one.code for one in findings(family_lab) if one.object or one.code == "disk_low"] == []


@pytest.mark.parametrize("hour", [" 1", "11"])
def test_a_complaint_of_before_the_rebuild_is_old_at_any_hour(lab: MariaDBLab, hour: str) -> None:
    lab.sql("CREATE TABLE t (id INT PRIMARY KEY)")
    complaint = f"2026-01-01 {hour}:02:03 11 [ERROR] InnoDB: Flagged corruption of `k` in table `{lab.database}`.`t`"
    with open(lab.server.log, "a") as log:
        log.write(f"{complaint} in CHECK TABLE\n")
    assert "damaged_page" not in [one.code for one in findings(lab)]


@pytest.mark.rare
class TestReplication:
    """A second server follows the first; both are diagnosed."""

    def test_who_follows_and_who_has_stopped_following_is_told(self, pair: Pair) -> None:
        primary, replica = pair
        primary.sql("CREATE TABLE t (id INT PRIMARY KEY)")
        primary.sql("INSERT INTO t VALUES (1)")
        wait_until(lambda: replica.sql("SELECT COUNT(*) FROM t") == [(1,)])
        assert {"has_replicas", "unsafe_binary_log"} <= {one.code for one in findings(primary)}
        codes = {one.code for one in findings(replica)}
        assert "replica" in codes
        assert not {"replication_stopped", "replication_lag"} & codes
        with replica.engine() as engine:
            assert engine.sessions.facts().is_replica
        # The same row on both: the replica cannot apply it.
        replica.sql("INSERT INTO t VALUES (2)")
        primary.sql("INSERT INTO t VALUES (2)")
        wait_until(lambda: "replication_stopped" in {one.code for one in findings(replica)})
        assert "Duplicate entry" in evidence(replica, "replication_stopped")
        replica.sql("DELETE FROM t WHERE id = 2")
        replica.sql("START SLAVE")

    def test_a_replica_that_falls_behind_is_told_with_its_seconds(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        primary, replica = pair
        monkeypatch.setattr(server_findings, "LAG_SECONDS", 1)
        primary.sql("CREATE TABLE slow (id INT PRIMARY KEY)")
        wait_until(lambda: replica.sql("SHOW TABLES LIKE 'slow'") != [])
        replica.sql("STOP SLAVE SQL_THREAD")
        assert "Replication does not run" in evidence(replica, "replication_stopped")
        with replica.application() as client:
            client.execute("LOCK TABLES slow WRITE")
            primary.sql("INSERT INTO slow VALUES (1)")
            replica.sql("START SLAVE SQL_THREAD")
            wait_until(lambda: "replication_lag" in {one.code for one in findings(replica)})
            assert "behind its primary" in evidence(replica, "replication_lag")
        wait_until(lambda: replica.sql("SELECT COUNT(*) FROM slow") == [(1,)])
        assert "replication_lag" not in {one.code for one in findings(replica)}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with following() as servers:
        yield servers


def evidence(lab: MariaDBLab, code: str) -> str:
    return next(str(one.evidence) for one in findings(lab) if one.code == code)


@contextmanager
def following() -> Iterator[tuple[MariaDBLab, MariaDBLab]]:
    folders = [short_folder(), short_folder()]
    try:
        with (
            MariaDBLab.opened(folders[0], {"log-bin": "binlog", "server-id": "1"}) as first,
            MariaDBLab.opened(folders[1], {"server-id": "2", "read-only": "OFF"}) as second,
        ):
            server = first.server
            second.sql(
                f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={server.port},"
                f" MASTER_USER='{server.administrator}', MASTER_PASSWORD='{server.password}', MASTER_USE_GTID=slave_pos"
            )
            second.sql("START SLAVE")
            primary = first.fresh()
            replica = type(primary)(second.server, second.scratch, primary.database)
            replica.url = second.server.url(primary.database)
            wait_until(lambda: replica.sql("SHOW DATABASES LIKE 'shop%'") != [])
            yield primary, replica
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if true():
                return
        except MySQLdb.Error:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come about")
