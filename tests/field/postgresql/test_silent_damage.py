"""What was reported as a success, and was none; and what stopped everything, and was sound."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from maintenance.engines.errors import Damaged, Transient
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.values import Action, Thresholds
from tests.engines.lab_postgresql import PAGE, PostgreSQLLab
from tests.engines.postgresql.world import MARKER, action, engine, wait_until

SMALL = Thresholds(minimum_bytes=0)


def documents(lab: PostgreSQLLab) -> str:
    """A table whose values lie out of line; the name of where they lie."""
    lab.sql(
        """CREATE TABLE docs (id int PRIMARY KEY, body text);
           ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
           INSERT INTO docs SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 50) i"""
    )
    [(name,)] = lab.sql("SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 'docs'")
    return str(name)


def zeros(lab: PostgreSQLLab, relation: str, page: int) -> None:
    path = lab.path_of(relation)
    with lab.stopped(), open(path, "r+b") as file:
        file.seek(page * PAGE)
        file.write(bytes(PAGE))


def garbage(lab: PostgreSQLLab, relation: str, page: int) -> None:
    path = lab.path_of(relation)
    with lab.stopped(), open(path, "r+b") as file:
        file.seek(page * PAGE)
        file.write(random.Random(1).randbytes(PAGE))


def planned(made: PostgreSQL, with_leave: bool) -> list[Action]:
    return made.planner.plan("repair", made.diagnostics.diagnose(SMALL), SMALL, None, with_leave)


def perform_all(made: PostgreSQL, actions: list[Action]) -> None:
    for planned_one in actions:
        made.actions.perform(planned_one, False)


@pytest.mark.parametrize("spoil", [zeros, garbage])
def test_a_damaged_page_of_long_values_is_a_finding_and_salvaged_with_leave_only(
    lab: PostgreSQLLab, spoil: object
) -> None:
    assert callable(spoil)
    spoil(lab, documents(lab), 3)
    with engine(lab) as made:
        codes = {finding.code for finding in made.diagnostics.diagnose(SMALL).findings}
        assert codes & {"damaged_table", "lost_pages"}
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        with pytest.raises(Damaged):
            perform_all(made, planned(made, False))
        losses = [loss for action in planned(made, True) for loss in made.actions.perform(action, True).losses]
        assert [loss.object for loss in losses] == ["public.docs"]
        assert made.verifier.fingerprint(None)["public.docs"].readable
        assert [check for check in made.verifier.check(None) if not check.passed] == []
        made.gate.open(gate, None)
    [(rows,)] = lab.sql("SELECT count(*) FROM (SELECT length(body) FROM docs) read")
    assert 40 <= int(str(rows)) < 50


def test_an_index_that_lacks_entries_is_built_anew(lab: PostgreSQLLab) -> None:
    lab.fill()
    state = "UPDATE pg_index SET indisready = {0}, indisvalid = {0} WHERE indexrelid = 'orders_status'::regclass"
    lab.sql(state.format("false"))
    lab.sql("INSERT INTO orders (customer_id, status) VALUES (1, 'unseen')")
    lab.sql(state.format("true"))
    with engine(lab) as made:
        plan = planned(made, False)
        assert "reindex" in {action.kind for action in plan if action.object == "public.orders"}
        for action in plan:
            made.actions.perform(action, False)
        assert [check for check in made.verifier.check(None) if not check.passed] == []


def test_a_sequence_is_never_left_without_a_next_value(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE TABLE c (id serial PRIMARY KEY); INSERT INTO c VALUES (2147483647)")
    lab.sql("CREATE TABLE d (id serial PRIMARY KEY); INSERT INTO d VALUES (7)")
    with engine(lab) as made:
        found = made.diagnostics.diagnose(SMALL)
        optimizing = made.planner.plan("optimize", found, SMALL, None, False)
        assert [action for action in optimizing if action.kind == "set_sequences"] == []
        for action in made.planner.plan("repair", found, SMALL, None, False):
            made.actions.perform(action, False)
    assert lab.sql("INSERT INTO c DEFAULT VALUES RETURNING id") == [(1,)]
    assert lab.sql("INSERT INTO d DEFAULT VALUES RETURNING id") == [(8,)]


def test_an_unlogged_table_that_a_crash_emptied_is_sound(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE UNLOGGED TABLE cache AS SELECT i, repeat('x', 500) t FROM generate_series(1, 2000) i")
    lab.sql("ANALYZE cache; CHECKPOINT")
    lab.server.server.kill()
    lab.server.server.start()
    with engine(lab) as made:
        assert "file_shorter_than_catalog" not in {f.code for f in made.diagnostics.diagnose(SMALL).findings}
        assert planned(made, False) == []


def test_keys_are_compared_as_their_constraint_compares_them(lab: PostgreSQLLab) -> None:
    lab.sql(
        """CREATE EXTENSION citext;
           CREATE TABLE codes (code citext PRIMARY KEY);
           INSERT INTO codes SELECT 'Code' || i FROM generate_series(1, 9) i;
           CREATE TABLE uses (code citext REFERENCES codes); INSERT INTO uses SELECT upper(code::text) FROM codes;
           CREATE TABLE names (name text COLLATE "C" PRIMARY KEY); INSERT INTO names VALUES ('a'), ('b');
           CREATE TABLE called (name text COLLATE "POSIX" REFERENCES names); INSERT INTO called VALUES ('a');
           CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children () INHERITS (parents);
           INSERT INTO parents VALUES (1);
           CREATE TABLE links (id int REFERENCES parents); INSERT INTO links VALUES (1)"""
    )
    with engine(lab) as made:
        assert [check for check in made.verifier.check(None) if not check.passed] == []
    lab.sql("ALTER TABLE uses DISABLE TRIGGER ALL; INSERT INTO uses VALUES ('nobody')")
    lab.sql("ALTER TABLE links DISABLE TRIGGER ALL; INSERT INTO links VALUES (2); INSERT INTO children VALUES (2)")
    with engine(lab) as made:
        wrong = {check.object for check in made.verifier.check(None) if not check.passed}
        assert wrong == {"public.uses", "public.links"}


@pytest.mark.parametrize("kind", ["optimize", "rebuild"])
def test_indexes_whose_expressions_live_in_a_schema(lab: PostgreSQLLab, kind: str) -> None:
    lab.sql(
        """CREATE TYPE s AS ENUM ('new', 'old');
           CREATE TABLE j (id serial PRIMARY KEY, s s, word text);
           INSERT INTO j (s, word) SELECT 'new', 'Word' || i FROM generate_series(1, 5000) i;
           CREATE INDEX ON j (id) WHERE s = 'new';
           CREATE FUNCTION folded(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)';
           CREATE FUNCTION twice(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN folded($1) || $1; END';
           CREATE UNIQUE INDEX ON j (folded(word));
           CREATE INDEX ON j (twice(word));
           ALTER TABLE j ADD CHECK (twice(word) <> 'x');
           DELETE FROM j WHERE id % 2 = 0"""
    )
    with engine(lab) as made:
        before = made.verifier.fingerprint(None)
        found = made.diagnostics.diagnose(SMALL)
        for action in made.planner.plan(kind, found, SMALL, None, False):  # type: ignore[arg-type]
            made.actions.perform(action, False)
        assert made.verifier.fingerprint(None) == before
        assert [check for check in made.verifier.check(None) if not check.passed] == []
        assert [check for check in made.verifier.check_again(None) if not check.passed] == []


def test_a_session_that_an_administrator_ends_in_the_midst_of_the_work_is_lost_for_now(lab: PostgreSQLLab) -> None:
    lab.sql(
        """CREATE TABLE slow (i int);
           CREATE FUNCTION slowly(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(0.05); RETURN $1; END';
           CREATE INDEX ON slow (slowly(i));
           ALTER TABLE slow SET (autovacuum_enabled = off); INSERT INTO slow SELECT generate_series(1, 40)"""
    )
    ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'VACUUM (FULL) public.slow'"
    with engine(lab) as made, ThreadPoolExecutor(1) as pool:
        made.lock.fence()
        work = pool.submit(made.actions.perform, action("vacuum_full", "public.slow"), False)
        wait_until("it works", lambda: lab.sql(ending))
        with pytest.raises(Transient):
            work.result(30)


def test_no_commit_of_ours_waits_for_a_standby_that_is_gone(lab: PostgreSQLLab) -> None:
    lab.server.run("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'gone'")
    lab.server.run("postgres", "SELECT pg_reload_conf()")
    try:
        with engine(lab, statement_seconds=20) as made:
            gate = made.gate.read_state()
            made.gate.cut(gate, MARKER)
            made.gate.open(gate, None)
            assert made.gate.differences(gate) == []
    finally:
        lab.server.run("postgres", "ALTER SYSTEM RESET synchronous_standby_names")
        lab.server.run("postgres", "SELECT pg_reload_conf()")
