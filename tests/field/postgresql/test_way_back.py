"""Databases whose dump cannot be restored, or is not equal: said before the outage, and rolled back all the same."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from maintenance.engines.errors import EngineError
from maintenance.engines.postgresql.native_programs import program
from maintenance.engines.postgresql.sequences import sequence_values
from maintenance.engines.postgresql.sql import ask
from maintenance.engines.values import Backup, RestoreBudget, Restored
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.conftest import lab, server
from tests.engines.postgresql.world import MARKER, PLAIN, engine

__all__ = ["lab", "server"]

RESTORABLE = {
    "sound": "SELECT 1",
    "a name with a line break": """CREATE TABLE "a
        b" (id int); INSERT INTO "a
        b" VALUES (1)""",
    "a database's own settings, labels and rights": """ALTER ROLE shop_app IN DATABASE {name} SET work_mem = '5MB';
        ALTER DATABASE {name} SET search_path = public, "two words"; GRANT TEMPORARY ON DATABASE {name} TO shop_app""",
    "large objects": "SELECT lo_from_bytea(0, 'large'); SELECT lo_from_bytea(0, 'larger')",
    "partitions": """CREATE TABLE p (k int, v text) PARTITION BY LIST (k);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
        INSERT INTO p VALUES (1, 'one')""",
    "an operator that others name and nobody made": """
        CREATE OPERATOR !== (FUNCTION = booleq, LEFTARG = boolean, RIGHTARG = boolean, NEGATOR = ===)""",
    "the comment of a subscription that was dropped": """
        CREATE SUBSCRIPTION gone CONNECTION 'dbname=none' PUBLICATION none WITH (connect = false, slot_name = NONE);
        COMMENT ON SUBSCRIPTION gone IS 'it stays'; DROP SUBSCRIPTION gone""",
    "an access method of another name": """CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
        CREATE TABLE otherwise USING heap2 AS SELECT i FROM generate_series(1, 10) i""",
    "an owner's check": """ALTER TABLE customers OWNER TO plain_owner; SET ROLE plain_owner;
        CREATE FUNCTION public.fine(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
        ALTER TABLE customers ADD CHECK (public.fine(name))""",
}
UNRESTORABLE = {
    "a check that names a table without its schema": """CREATE TABLE kinds (kind text); INSERT INTO kinds VALUES ('a');
        CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM kinds WHERE kind = $1)';
        CREATE TABLE things (kind text CHECK (known(kind))); INSERT INTO things VALUES ('a')""",
    "a check that depends on the time": """CREATE FUNCTION early() RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE TABLE morning (id int CHECK (public.early())); INSERT INTO morning VALUES (1);
        CREATE OR REPLACE FUNCTION early() RETURNS boolean LANGUAGE sql AS 'SELECT false'""",
    "a materialized view whose query fails by now": """
        CREATE FUNCTION divided(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE MATERIALIZED VIEW figures AS SELECT public.divided(0) AS f;
        CREATE OR REPLACE FUNCTION divided(int) RETURNS int LANGUAGE sql AS 'SELECT 1 / $1'""",
    "a check that would run any statement as superuser": """SET ROLE plain_owner; CREATE TABLE public.trap (id int
          CHECK (CASE WHEN current_setting('is_superuser') = 'on'
            THEN query_to_xml('SELECT lo_create(4711)', true, true, '') END IS NULL));
        INSERT INTO public.trap VALUES (1)""",
}
WHOLE = RestoreBudget()


def dumped(lab: PostgreSQLLab) -> str:
    """All of it as the product's own tool writes it, without what differs from one dump to the next."""
    words = [program("pg_dump", 15), "--create", lab.url.set(drivername="postgresql").render_as_string()]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


def walk_back(lab: PostgreSQLLab, budget: RestoreBudget = WHOLE) -> list[Restored | str]:
    """Backup with its test, alternate, cut, image, harm, and the way back, in the procedure's order."""
    before = dumped(lab)
    told: list[Restored | str] = []
    backup: Backup | None = None
    with engine(lab) as made:
        made.lock.fence()
        for method in made.backups.methods:
            try:
                backup = made.backups.back_up(method, lab.folder, method, PLAIN)
                tested = made.rollback.restore_test(backup, PLAIN, budget)
            except EngineError as error:
                told.append(str(error))
                continue
            assert tested is not None
            told.append(tested)
            break
        assert backup is not None
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        with made.target.session("spoiling") as connection:
            ask(connection, "DELETE FROM public.orders WHERE id % 2 = 0")
        side = made.rollback.restore_beside(image, backup, PLAIN)
        assert made.verifier.fingerprint(None, side) == baseline
        broken = made.rollback.swap(side, gate, MARKER)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
        made.rollback.clean()
        assert [name for name in made.rollback.leftovers() if name != broken] == []
    assert dumped(lab) == before
    return told


@pytest.mark.parametrize("kind", RESTORABLE)
def test_what_can_be_restored_is_kept_and_takes_the_place_by_a_rename(lab: PostgreSQLLab, kind: str) -> None:
    lab.fill()
    lab.sql(RESTORABLE[kind].format(name=lab.name))
    [tested] = walk_back(lab)
    assert isinstance(tested, Restored)
    assert (tested.extent, bool(tested.side)) == ("full", True)


@pytest.mark.parametrize("kind", UNRESTORABLE)
def test_what_cannot_be_restored_is_said_before_the_outage_and_rolled_back_from_a_copy(
    lab: PostgreSQLLab, kind: str
) -> None:
    lab.fill()
    lab.sql(UNRESTORABLE[kind])
    refusal, tested = walk_back(lab)
    assert isinstance(refusal, str)
    assert "restoring" in refusal
    assert isinstance(tested, Restored)
    assert tested.extent == "copy"


def test_definitions_alone_are_restored_where_the_budget_is_small(lab: PostgreSQLLab) -> None:
    lab.fill()
    [tested] = walk_back(lab, RestoreBudget(disk_share=0.0))
    assert isinstance(tested, Restored)
    assert (tested.extent, tested.side) == ("definitions", "")
    assert "bytes are free" in str(tested.why)


@pytest.mark.parametrize("kind", [kind for kind in UNRESTORABLE if "check" in kind])
def test_the_first_rows_of_each_table_tell_what_definitions_do_not(lab: PostgreSQLLab, kind: str) -> None:
    lab.fill()
    lab.sql(UNRESTORABLE[kind])
    refusal, tested = walk_back(lab, RestoreBudget("definitions"))
    assert isinstance(refusal, str)
    assert "restoring" in refusal
    assert isinstance(tested, Restored)
    assert tested.extent == "copy"


def test_rows_that_change_after_the_backup_are_caught_up_in_the_copy(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql("CREATE TABLE large AS SELECT i, repeat('x', 500) AS t FROM generate_series(1, 60000) i")
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        tested = made.rollback.restore_test(backup, PLAIN, RestoreBudget())
        assert tested is not None
        lab.sql("UPDATE customers SET name = 'renamed' WHERE id = 1; INSERT INTO customers (name) VALUES ('new')")
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        assert (image.kind, image.name) == ("copy", tested.side)
        assert made.verifier.fingerprint(None, image.name) == baseline
        assert sequence_values(made.target, image.name) == sequence_values(made.target)
        made.gate.open(gate, None)
        made.rollback.clean()
        assert made.rollback.leftovers() == []


def test_an_identity_that_was_copied_is_restored_within_the_same_bounds(lab: PostgreSQLLab) -> None:
    """Its sequence is wider than its column, and pg_dump tells no type of it: a dump of the copy reads otherwise."""
    lab.sql(
        """CREATE TABLE one (id int GENERATED ALWAYS AS IDENTITY, t text);
           CREATE TABLE two (LIKE one INCLUDING ALL); INSERT INTO two (t) VALUES ('a')"""
    )
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        tested = made.rollback.restore_test(backup, PLAIN, WHOLE)
        assert tested is not None
        assert (tested.extent, bool(tested.side)) == ("full", True)
        made.rollback.clean()


@pytest.fixture
def read_only_by_default(server: PostgreSQLServer, lab: PostgreSQLLab) -> Iterator[None]:
    server.run("postgres", "ALTER SYSTEM SET default_transaction_read_only = on")
    server.run("postgres", "SELECT pg_reload_conf()")
    yield
    connection = server.connect("postgres")
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute("ALTER SYSTEM RESET default_transaction_read_only")
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()


@pytest.mark.usefixtures("read_only_by_default")
def test_a_server_that_is_read_only_by_default_is_rolled_back(lab: PostgreSQLLab, server: PostgreSQLServer) -> None:
    connection = server.connect(lab.name)
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute("CREATE TABLE orders AS SELECT i AS id FROM generate_series(1, 1000) i")
    connection.close()
    [tested] = walk_back(lab)
    assert isinstance(tested, Restored)
    assert tested.extent == "full"
