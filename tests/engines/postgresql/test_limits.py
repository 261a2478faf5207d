"""No statement without limits, and none that outlives a cancel by five seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest
from sqlalchemy import Connection

from maintenance.engines import archive
from maintenance.engines.archive import Seal
from maintenance.engines.errors import Interrupted, Transient
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.postgresql.sql import ask
from maintenance.engines.postgresql.target import TargetDatabase
from maintenance.engines.values import MaintenanceType, Thresholds
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import MARKER, PLAIN, action, engine, wait_until


@pytest.fixture
def lab(lab: PostgreSQLLab) -> PostgreSQLLab:
    lab.fill()
    return lab


def test_every_session_of_a_whole_procedure_has_a_lock_and_a_statement_timeout(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    enter = TargetDatabase.enter

    def watched(self: TargetDatabase, database: str, doing: str, object: str, options: str = "") -> Connection:
        connection = enter(self, database, doing, object, options)
        asked = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
        seen.extend((str(a), str(b)) for a, b in connection.exec_driver_sql(asked))
        return connection

    monkeypatch.setattr(TargetDatabase, "enter", watched)
    with engine(lab, statement_seconds=77, lock_seconds=3) as made:
        made.lock.fence()
        diagnosis = made.diagnostics.diagnose(Thresholds())
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        kind: MaintenanceType = "rebuild"
        for planned in made.planner.plan(kind, diagnosis, Thresholds(), None, False):
            made.actions.perform(planned, False)
        made.verifier.check(None)
        made.verifier.definitions()
        made.benchmark.measure(made.benchmark.queries(None)[0], 1)
        made.rollback.swap(made.rollback.restore_beside(image, backup, PLAIN), gate, MARKER)
        made.gate.open(gate, None)
        made.rollback.clean()
    assert len(seen) > 30
    assert set(seen) == {("77s", "3s")}


def test_what_a_role_or_a_database_has_set_does_not_reach_our_sessions(lab: PostgreSQLLab) -> None:
    """Some forbid or slow down the work; `idle_session_timeout` ends the session that holds the maintenance lock."""
    theirs = {
        "default_transaction_read_only": "on",
        "default_transaction_isolation": "serializable",
        "idle_in_transaction_session_timeout": "1s",
        "idle_session_timeout": "1s",
        "jit": "on",
    }
    for name, value in theirs.items():
        lab.server.run("postgres", f"ALTER DATABASE {lab.name} SET {name} = '{value}'")
    with engine(lab) as made:
        with made.target.session("looking") as connection:
            [ours] = ask(connection, "SELECT " + ", ".join(f"current_setting('{name}')" for name in theirs))
        assert ours == ("off", "read committed", "0", "0", "off")
        untold = [
            f.evidence.values for f in made.diagnostics.diagnose(Thresholds()).findings if f.code == "cannot_tell"
        ]
        assert untold == []


def test_a_dump_waits_for_a_lock_no_longer_than_allowed(lab: PostgreSQLLab) -> None:
    with engine(lab, lock_seconds=1) as made, lab.application("postgres") as holder:
        holder.execute("BEGIN; LOCK TABLE orders")
        begun = time.monotonic()
        with pytest.raises(Transient, match=r"canceling statement due to (lock|statement) timeout"):
            made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        assert time.monotonic() - begun < 20


def slowly(stream: IO[bytes], part: Path, seal: Seal) -> Any:
    """A disk so slow that the server waits until its rows are taken."""
    while stream.read(1000):
        time.sleep(0.05)
    return None


BUSY: dict[str, tuple[str, Callable[[PostgreSQL, PostgreSQLLab], object]]] = {
    "vacuum full": ("VACUUM (FULL)%", lambda made, lab: made.actions.perform(action("vacuum_full"), False)),
    "reindex": ("REINDEX%", lambda made, lab: made.actions.perform(action("reindex"), False)),
    "dump": ("COPY public.big%", lambda made, lab: made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)),
    "physical copy": (
        "BASE_BACKUP%",
        lambda made, lab: made.backups.back_up("pg_basebackup", lab.folder, "one", PLAIN),
    ),
    "salvage": ("%", lambda made, lab: made.actions.perform(action("salvage"), True)),
    "fingerprint": ("%hashtextextended%", lambda made, lab: made.verifier.fingerprint(["public.vast"])),
    "structural check": ("%", lambda made, lab: made.verifier.check(["public.orders"])),
}
LOCKED = ("salvage", "structural check")
"""Too quick on any table that a test can afford: here they wait for a lock."""


@pytest.mark.every(3)
@pytest.mark.parametrize("what", BUSY)
def test_a_cancel_ends_it_on_the_server_within_five_seconds(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    pattern, begin = BUSY[what]
    if what in ("vacuum full", "reindex"):
        slow = "FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN {} RETURN 1; END $$"
        lab.sql(f"CREATE {slow.format('')}; CREATE INDEX slow ON orders (slow(id)) WHERE id > 19000")
        lab.sql(f"CREATE OR REPLACE {slow.format('PERFORM pg_sleep(0.1);')}")
    if what in ("dump", "physical copy"):
        lab.sql("CREATE TABLE big AS SELECT i, repeat(md5(i::text), 50) AS filler FROM generate_series(1, 20000) i")
        monkeypatch.setattr(archive, "write", slowly)
    if what == "fingerprint":
        lab.sql("CREATE TABLE vast AS SELECT repeat('x', 60000000) AS filler")
        lab.sql("INSERT INTO vast SELECT filler FROM vast, generate_series(1, 40)")
    caught: list[BaseException] = []
    ours = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dbmaint:7:%' "
        "AND state IN ('active', 'idle in transaction')"
    )
    with ExitStack() as stack:
        made = stack.enter_context(engine(lab, lock_seconds=60))
        if what in LOCKED:
            stack.enter_context(lab.application("postgres")).execute("BEGIN; LOCK TABLE orders")

        def work() -> None:
            try:
                begin(made, lab)
            except BaseException as error:
                caught.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        busy = f"{ours} AND state = 'active' AND query LIKE '{pattern}'"
        wait_until(what, lambda: lab.sql(busy) != [(0,)])
        time.sleep(0.3)
        assert lab.sql(busy) != [(0,)], lab.sql("SELECT query FROM pg_stat_activity WHERE state = 'active'")
        begun = time.monotonic()
        made.interrupt()
        assert lab.sql(ours) == [(0,)]
        worker.join(5)
        assert time.monotonic() - begun < 5
        assert [type(error) for error in caught] == [Interrupted]


def test_what_the_owner_of_a_table_put_into_a_constraint_cannot_write_with_our_rights(lab: PostgreSQLLab) -> None:
    """Proving a constraint runs its functions, and our account may do more than the owner of the table."""
    lab.server.run(
        lab.name,
        """CREATE FUNCTION rise(x int) RETURNS boolean LANGUAGE plpgsql AS $$
           BEGIN
             BEGIN SET default_transaction_read_only = off; ALTER ROLE shop_app CREATEDB;
             EXCEPTION WHEN OTHERS THEN NULL; END;
             RETURN true;
           END $$;
           CREATE TABLE bait (a int, b int, CONSTRAINT one CHECK (rise(a)), CONSTRAINT two CHECK (rise(b)));
           INSERT INTO bait VALUES (1, 2)""",
        user="shop_app",
    )
    with engine(lab) as made:
        checks = [check for check in made.verifier.check(None) if check.object == "public.bait"]
    assert [check.passed for check in checks if check.name == "check"] == [True, True], checks
    assert lab.sql("SELECT rolcreatedb FROM pg_roles WHERE rolname = 'shop_app'") == [(False,)]


def test_a_cast_of_the_owner_of_a_table_does_not_blind_its_fingerprint(lab: PostgreSQLLab) -> None:
    """Whoever owns a row type may say how it becomes text; the fingerprint is of the values themselves."""
    lab.server.run(
        lab.name,
        """CREATE TABLE kept (id int, note text); INSERT INTO kept VALUES (1, 'one'), (2, 'two');
           CREATE FUNCTION told(kept) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'always the same' $$;
           CREATE CAST (kept AS text) WITH FUNCTION told(kept) AS ASSIGNMENT""",
        user="shop_app",
    )
    with engine(lab) as made:
        before = made.verifier.fingerprint(["public.kept"])
        lab.sql("CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES")
        assert made.verifier.fingerprint(["public.bare"])["public.bare"].rows == 1
        lab.sql("UPDATE kept SET note = 'lost' WHERE id = 2")
        assert made.verifier.fingerprint(["public.kept"]) != before
