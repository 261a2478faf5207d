"""Each finding, provoked on a real server: code, severity, object, and the words of its evidence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest
from psycopg2.extras import LogicalReplicationConnection

from maintenance.engines.postgresql import diagnosis
from maintenance.engines.postgresql.diagnosis import catalog_checks, disk
from maintenance.engines.values import Thresholds
from tests.engines.conftest import short_folder
from tests.engines.lab_postgresql import PAGE, PostgreSQLLab

from .world import engine, wait_until

Holding = Callable[[PostgreSQLLab], AbstractContextManager[object]]


def quietly(_: PostgreSQLLab) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True)
class Case:
    """`sql` are statements run one by one, `{name}` being the database; `holding` lasts while it is diagnosed."""

    code: str
    severity: str
    object: str
    evidence: str
    sql: tuple[str, ...] = ()
    holding: Holding = quietly
    soon: dict[str, str] = field(default_factory=dict)
    """Parts of the questions' SQL that are replaced, where a test cannot wait for days or millions."""


@contextmanager
def waiting_session(lab: PostgreSQLLab) -> Iterator[None]:
    with lab.application("postgres") as holder, lab.application("postgres") as waiter:
        holder.execute("BEGIN; LOCK TABLE t")
        thread = threading.Thread(target=lambda: waiter.execute("SELECT count(*) FROM t"))
        thread.start()
        try:
            wait_until(
                "it waits for the lock",
                lambda: lab.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"),
            )
            yield
        finally:
            holder.execute("ROLLBACK")
            thread.join()


@contextmanager
def old_session(lab: PostgreSQLLab) -> Iterator[None]:
    with lab.application("postgres") as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t")
        yield


@contextmanager
def crowd(lab: PostgreSQLLab) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(52):
            stack.enter_context(lab.application("postgres"))
        yield


@contextmanager
def receiver(lab: PostgreSQLLab) -> Iterator[None]:
    """Somebody who takes the log as a replica does."""
    server = lab.server.server
    folder = short_folder()
    program = [str(server._bin / "pg_receivewal"), "-D", str(folder), "-h", "127.0.0.1", "-p", str(server.port)]
    child = subprocess.Popen([*program, "-U", "postgres"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        streaming = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"
        wait_until("it takes the log", lambda: lab.sql(streaming))
        yield
    finally:
        child.terminate()
        child.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def reader(lab: PostgreSQLLab) -> Iterator[None]:
    """Somebody who takes the changes of the database."""
    slot = f"busy_{lab.name}"
    lab.sql(f"SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")
    with closing(
        psycopg2.connect(lab.server.server.url(lab.name), connection_factory=LogicalReplicationConnection)
    ) as c:
        c.cursor().start_replication(slot_name=slot)
        yield


@contextmanager
def reading_follower(lab: PostgreSQLLab) -> Iterator[None]:
    """A real replica on which somebody reads, and which asks the server to keep what he may still see."""
    folder = short_folder()
    follower = lab.server.follower(folder / "follower", {"hot_standby_feedback": "on"})
    try:
        follower.start()
        reader = psycopg2.connect(follower.url(lab.name))
        reader.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with closing(reader), reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM t")
            told = "SELECT 1 FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"
            wait_until("it says what it reads", lambda: lab.sql(told))
            yield
    finally:
        follower.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def wrong_setting(lab: PostgreSQLLab) -> Iterator[None]:
    path = lab.server.server.data / "postgresql.conf"
    before = path.read_text()
    path.write_text(before + "\nno_such_setting = 1\n")
    try:
        yield
    finally:
        path.write_text(before)


@contextmanager
def cold_memory(lab: PostgreSQLLab) -> Iterator[None]:
    lab.sql("SELECT pg_stat_reset()")
    lab.server.server.restart()
    lab.sql("SELECT count(filler) FROM t")
    yield


@contextmanager
def wrong_checksum(lab: PostgreSQLLab) -> Iterator[None]:
    lab.damage_page("t", 1)
    with suppress(psycopg2.Error):
        lab.sql("SELECT count(*) FROM t")
    wait_until("it was counted", lambda: lab.sql("SELECT 1 FROM pg_stat_database WHERE checksum_failures > 0"))
    yield


@contextmanager
def missing_file(lab: PostgreSQLLab) -> Iterator[None]:
    path = lab.path_of("t_i")
    with lab.stopped():
        path.unlink()
    yield


@contextmanager
def forgotten_file(lab: PostgreSQLLab) -> Iterator[None]:
    """Beside it one as young as the file of a table that is being made, and an old one of a table that is dropped."""
    folder = lab.path_of("t").parent
    for name, age, content in (("900001", 3600, b"x" * PAGE), ("900002", 0, b"x"), ("900003", 3600, b"")):
        (folder / name).write_bytes(content)
        os.utime(folder / name, (time.time() - age,) * 2)
    yield


@contextmanager
def short_file(lab: PostgreSQLLab) -> Iterator[None]:
    path = lab.path_of("t")
    with lab.stopped(), open(path, "r+b") as file:
        file.truncate(PAGE)
    yield


@contextmanager
def hardly_any_room(lab: PostgreSQLLab) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5000))
        yield


@contextmanager
def nobody_tells(lab: PostgreSQLLab) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "_is_local", lambda *_: False)
        patch.setenv("PATH", "/nowhere")
        patch.setattr(disk, "DATA", "/no/such/place")
        yield


T = "CREATE TABLE t (i int PRIMARY KEY, filler text)"
ROWS = "INSERT INTO t SELECT i, repeat('filler ', 30) FROM generate_series(1, 5000) i"
FAILING = "DO $$ BEGIN RAISE LOG 'could not read block 7 in file \"base/1/2\": made for a test'; END $$"

OF_THE_LAB = ("server_log_errors", "dangerous_setting", "no_physical_backup")
"""Other tests' lines in the log, autovacuum, which must not interfere, and a tablespace."""

CASES = [
    Case("invalid_index", "high", "public.t", r"Index public\.t_bad is not valid",
         (T, ROWS, "!CREATE UNIQUE INDEX CONCURRENTLY t_bad ON t (length(filler))")),
    Case("duplicate_index", "low", "public.t", r"Indexes t_one, t_two are the same; .* could be saved",
         (T, "CREATE INDEX t_one ON t (filler)", "CREATE INDEX t_two ON t (filler)")),
    Case("unused_index", "low", "public.t", r"Index t_i \(.*\) was not read since",
         (T, ROWS, "CREATE INDEX t_i ON t (filler, i)"), soon={"7 days": "0 days"}),
    Case("foreign_key_without_index", "low", "public.child", r"No index serves foreign key child_i_fkey",
         (T, ROWS, "CREATE TABLE child (i int REFERENCES t, filler text)",
          "INSERT INTO child SELECT i, filler FROM t")),
    Case("wraparound", "high", "", r"The oldest transaction of database {name} is 29\d,\d+,\d+ transactions old",
         ("UPDATE pg_database SET datfrozenxid = '4000000000'::xid WHERE datname = '{name}'",)),
    Case("old_snapshot", "medium", "", r"Session \d+ of postgres holds back cleaning",
         (T,), old_session, {"5 minutes": "0 seconds"}),
    Case("old_snapshot", "high", "", r"Replication slot late_{name} holds back cleaning: .* transactions old",
         ("SELECT pg_create_logical_replication_slot('late_{name}', 'pgoutput')", T, ROWS), soon={"> 100000": ">= 0"}),
    Case("old_snapshot", "medium", "", r"Replica follower holds back cleaning: .* \(hot_standby_feedback\)",
         (T, ROWS), reading_follower, {"> 100000": ">= 0"}),
    Case("inactive_slot", "high", "", r"Replication slot idle_{name} is not read and keeps .* of log",
         ("SELECT pg_create_physical_replication_slot('idle_{name}', true)",)),
    Case("prepared_transaction", "high", "", r"Prepared transaction p_{name} of postgres waits since",
         (T, "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'p_{name}'")),
    Case("blocked_session", "medium", "", r"Session \d+ waits \d+ s for sessions \d+", (T,), waiting_session),
    Case("low_cache_hit", "low", "", r"Only \d+% of the blocks were found in memory",
         ("CREATE TABLE t (filler text)", "INSERT INTO t SELECT repeat('x', 1500) FROM generate_series(1, 20000)"),
         cold_memory, {"blks_read > 100000": "blks_read > 1000"}),
    Case("checksum_failures", "critical", "", r"\d+ reads met a page whose checksum is wrong, last at",
         (T, ROWS), wrong_checksum),
    Case("sequence_behind", "high", "public.s", r"Sequence public\.s_i_seq stands at 0 but i already has 9",
         ("CREATE TABLE s (i serial PRIMARY KEY)", "INSERT INTO s VALUES (9)")),
    Case("sequence_near_end", "high", "public.q", r"100% of the values are used up",
         ("CREATE SEQUENCE q MAXVALUE 100", "SELECT setval('q', 100)")),
    Case("file_shorter_than_catalog", "critical", "public.t", r"The catalog knows \d+ pages, the file has 1",
         (T, ROWS, "ANALYZE t"), short_file),
    Case("file_missing", "critical", "public.t_i", r"Its file base/\d+/\d+ does not exist",
         (T, ROWS, "CREATE INDEX t_i ON t (filler)"), missing_file),
    Case("orphan_files", "low", "", r"^1 files \(8\.2 kB\) belong to no table .* base/\d+/900001$",
         (T, ROWS), forgotten_file),
    Case("constraint_not_validated", "low", "public.t", r"Constraint positive was never checked",
         (T, "ALTER TABLE t ADD CONSTRAINT positive CHECK (i > 0) NOT VALID")),
    Case("collation_mismatch", "high", "", r"Collation of german was 1\.0 when indexes were built and is .* now",
         ("CREATE COLLATION german (provider = icu, locale = 'de-DE')", "CREATE TABLE c (w text COLLATE german)",
          "UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'german'")),
    Case("dangerous_setting", "high", "", r"zero_damaged_pages is on",
         ("ALTER DATABASE {name} SET zero_damaged_pages = on",)),
    Case("configuration_error", "medium", "", r"Setting no_such_setting: unrecognized configuration parameter",
         (), wrong_setting),
    Case("connections_near_limit", "high", "", r"\d+ of 60 connections are in use", (), crowd),
    Case("replica", "low", "", r"Replica pg_receivewal is streaming, .* behind", (), receiver),
    Case("logical_replication", "low", "", r"Replication slot busy_{name} sends changes of this database", (), reader),
    Case("unlogged_table", "low", "public.u", r"The table is not logged",
         ("CREATE UNLOGGED TABLE u (i int)", "INSERT INTO u VALUES (1)")),
    Case("server_log_errors", "high", "", r"\d+ lines of the server's log tell of damage, the last: .*block 7",
         (FAILING,)),
    Case("table_bloat", "medium", "public.t", r"About 6\d% of .* holds no living row",
         (T, ROWS, "DELETE FROM t WHERE i % 10 < 6", "VACUUM ANALYZE t")),
    Case("table_bloat", "medium", "public.t", r"Measured: [56]\d% of .* holds no living row",
         ("CREATE EXTENSION pgstattuple", T, ROWS, "DELETE FROM t WHERE i % 10 < 6", "VACUUM ANALYZE t")),
    Case("dead_rows", "medium", "public.t", r"2\d% of the rows are dead",
         (T, ROWS, "ANALYZE t", "DELETE FROM t WHERE i % 100 < 25")),
    Case("stale_statistics", "medium", "public.t", r"\d+% of the rows changed since the last analysis",
         (T, ROWS, "ANALYZE t", "UPDATE t SET filler = filler WHERE i < 800")),
    Case("index_bloat", "medium", "public.t", r"About \d+% of its indexes is empty",
         ("CREATE TABLE t (i int, filler text)", "INSERT INTO t SELECT i FROM generate_series(1, 60000) i",
          "CREATE INDEX t_i ON t (i)", "DELETE FROM t WHERE i % 10 < 8", "VACUUM FULL t", "VACUUM ANALYZE t",
          "DROP INDEX t_i", "CREATE INDEX t_i ON t (i) WITH (fillfactor = 100)",
          "INSERT INTO t SELECT i FROM generate_series(1, 60000) i", "DELETE FROM t WHERE i % 10 < 8",
          "VACUUM ANALYZE t")),
    Case("index_bloat", "medium", "public.t", r"Measured: 9\d% of its indexes is empty, \d\d?% of their leaf",
         ("CREATE EXTENSION pgstattuple", "CREATE TABLE t (i int)", "CREATE INDEX t_i ON t (i)",
          "INSERT INTO t SELECT i * 7919 % 60000 FROM generate_series(1, 60000) i", "DELETE FROM t WHERE i % 10 > 0",
          "VACUUM ANALYZE t")),
    Case("index_not_examined", "low", "", r"^2 indexes are of kinds .* \(brin, gist\), the first: public\.t_b$",
         (T, "CREATE INDEX t_b ON t USING brin (i)", "CREATE INDEX t_g ON t USING gist (point(i, i))")),
    Case("disk_headroom", "high", "", r"5\.0 kB are free for the data; rewriting public\.t may need",
         (T, ROWS), hardly_any_room),
    Case("wal_headroom", "high", "", r"5\.0 kB are free for the log \(pg_wal\); rewriting public\.t may need",
         (T, ROWS), hardly_any_room),
    Case("event_trigger", "low", "", r"Event trigger watching of postgres runs at ddl_command_end",
         ("CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
          "CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION f()")),
    Case("scheduler", "low", "", r"^pgagent starts work in this database by itself",
         ("CREATE SCHEMA pgagent", "CREATE TABLE pgagent.pga_job (i int)")),
    Case("no_physical_backup", "low", "", r"The server has further tablespaces: space$"),
    Case("free_space_unknown", "low", "", r"does not tell this account", (T, ROWS), nobody_tells),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{case.code}-{number}" for number, case in enumerate(CASES)])
def test_it_is_found_and_explained(
    lab_with_checksums: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    lab = lab_with_checksums
    for statement in case.sql:
        text = statement.replace("{name}", lab.name)
        if text.startswith("!"):
            with pytest.raises(psycopg2.Error):
                lab.sql(text[1:])
        else:
            lab.sql(text)
    others = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{lab.name}' AND pid <> pg_backend_pid()"
    wait_until("every session has ended and told its numbers", lambda: not lab.sql(others))
    if case.soon:
        asked = []
        for question in catalog_checks.QUESTIONS:
            sql = question.sql
            for then, now in case.soon.items():
                sql = sql.replace(then, now)
            asked.append(replace(question, sql=sql))
        monkeypatch.setattr(diagnosis, "QUESTIONS", tuple(asked))
    try:
        with case.holding(lab), engine(lab) as made:
            found = made.diagnostics.diagnose(Thresholds(minimum_bytes=100_000)).findings
    finally:
        tidy(lab)
    pattern = case.evidence.replace("{name}", lab.name)
    matching = [f for f in found if f.code == case.code and f.object == case.object and re.search(pattern, f.evidence)]
    assert matching, [(f.code, f.object, str(f.evidence)) for f in found]
    assert all(f.severity == case.severity and f.hint for f in matching)
    assert len({str(f.hint) for f in found if f.code == case.code and f.object == case.object}) == 1, "told twice"


def tidy(lab: PostgreSQLLab) -> None:
    """Slots and prepared transactions are the whole server's."""
    lab.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    for (gid,) in lab.sql("SELECT gid FROM pg_prepared_xacts"):
        lab.sql(f"ROLLBACK PREPARED '{gid}'")


def test_a_healthy_database_has_no_findings(lab_with_checksums: PostgreSQLLab) -> None:
    lab = lab_with_checksums
    lab.sql(T)
    lab.sql(ROWS)
    lab.sql("VACUUM ANALYZE t")
    with engine(lab) as made:
        assert [f for f in made.diagnostics.diagnose(Thresholds()).findings if f.code not in OF_THE_LAB] == []


def test_every_code_of_the_engine_is_provoked_somewhere() -> None:
    """A code that is added must come with its case: here, or in the tests of damage, rights, code and tablespaces."""
    told = {case.code for case in CASES}
    elsewhere = {"damaged_table", "damaged_index", "cannot_tell", "tablespace_headroom", "visibility_damage"}
    elsewhere |= {"rows_behind_policies", "restored_by_superuser"}
    elsewhere |= {"damaged_system_index", "damaged_system_table", "damaged_statistics", "lost_pages"}
    source = "".join(path.read_text() for path in Path(diagnosis.__file__).parents[1].rglob("*.py"))
    known = set(re.findall(r'(?:Finding|short)\(\s*"(\w+)"', source))
    assert known - elsewhere == told
