"""What need not be read, copied or compared a second time under the cut, and how that is known."""

from __future__ import annotations

import pytest

from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.postgresql.structure import Structure
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import MARKER, PLAIN, action, engine


@pytest.fixture(autouse=True)
def filled(lab: PostgreSQLLab) -> None:
    lab.fill()


def told(made: PostgreSQL) -> dict[str, bool]:
    """Table -> whether it was only counted; what is told of it is always what a full reading tells."""
    found = made.verifier.recount(None)
    assert found == made.verifier.fingerprint(None)
    return {name: mark.recounted for name, mark in found.items()}


def test_only_what_nobody_wrote_to_keeps_the_fingerprint_of_the_backup(lab: PostgreSQLLab) -> None:
    with engine(lab) as made:
        assert told(made) == {"public.customers": False, "public.orders": False}
        made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        assert told(made) == {"public.customers": True, "public.orders": True}
        lab.sql("INSERT INTO customers (name) VALUES ('new')")
        assert told(made) == {"public.customers": False, "public.orders": True}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE orders SET note = 'other' WHERE id = 7",
        "DELETE FROM orders WHERE id = 7",
        "WITH gone AS (DELETE FROM orders WHERE id = 7 RETURNING *) INSERT INTO orders SELECT * FROM gone",
        "TRUNCATE orders",
        "ALTER TABLE orders ADD extra int DEFAULT 3",
    ],
)
def test_whatever_was_done_to_a_table_it_is_read_again(lab: PostgreSQLLab, statement: str) -> None:
    with engine(lab) as made:
        made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        lab.sql(statement)
        assert told(made)["public.orders"] is False


def test_a_transaction_that_was_under_way_at_the_backup_is_seen_when_it_ends_later(lab: PostgreSQLLab) -> None:
    with engine(lab) as made, lab.application("postgres") as application:
        application.execute("BEGIN; INSERT INTO customers (name) VALUES ('late')")
        made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        application.execute("COMMIT")
        lab.sql("DELETE FROM customers WHERE id = 1")  # As many rows as before.
        assert told(made) == {"public.customers": False, "public.orders": True}


def test_the_words_of_a_type_may_change_without_any_row(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE TYPE mood AS ENUM ('good'); CREATE TABLE felt AS SELECT 'good'::mood AS mood")
    with engine(lab) as made:
        made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        lab.sql("ALTER TYPE mood RENAME VALUE 'good' TO 'fine'")
        assert told(made)["public.felt"] is False


def test_a_rewrite_of_ours_leaves_the_rows_known(lab: PostgreSQLLab) -> None:
    with engine(lab) as made:
        made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        made.actions.perform(action("vacuum_full"), False)
        made.actions.perform(action("vacuum"), False)
        assert told(made) == {"public.customers": True, "public.orders": True}


def test_where_nothing_changed_the_backup_is_what_a_rollback_restores_from(lab: PostgreSQLLab) -> None:
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.recount(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        assert (image.kind, image.bytes, image.tables, image.path) == ("dump", 0, (), None)
        with made.target.session("spoiling") as connection:
            connection.exec_driver_sql("DELETE FROM public.orders")
        side = made.rollback.restore_beside(image, backup, PLAIN)
        assert made.verifier.fingerprint(None, side) == baseline
        made.rollback.swap(side, gate, MARKER)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
        made.rollback.clean()


def test_a_sequence_that_moved_without_a_row_goes_along(lab: PostgreSQLLab) -> None:
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        lab.sql("SELECT nextval('orders_id_seq')")
        there = lab.sql("SELECT last_value, is_called FROM orders_id_seq")
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        image = made.backups.image(backup, made.verifier.recount(None), lab.folder, "image", PLAIN)
        assert image.path is not None
        made.rollback.swap(made.rollback.restore_beside(image, backup, PLAIN), gate, MARKER)
        made.gate.open(gate, None)
        made.rollback.clean()
    assert lab.sql("SELECT last_value, is_called FROM orders_id_seq") == there


def lose_an_entry(lab: PostgreSQLLab) -> str:
    """A b-tree that lacks one row and is sound otherwise; its name."""
    lab.sql("CREATE INDEX lacking ON orders (note)")
    lab.sql("UPDATE pg_index SET indisready = false WHERE indexrelid = 'lacking'::regclass")
    lab.sql("INSERT INTO orders (customer_id, status, note) VALUES (1, 'new', 'nowhere')")
    lab.sql("UPDATE pg_index SET indisready = true WHERE indexrelid = 'lacking'::regclass")
    return "public.lacking"


def test_an_index_that_lacks_a_row_is_found_by_its_entries_and_by_its_keys(lab: PostgreSQLLab) -> None:
    index = lose_an_entry(lab)
    with engine(lab) as made:
        assert {c.object for c in made.verifier.check(None, thorough=False) if not c.passed} == set()
        by_keys = [c for c in made.verifier.check_again(None) if not c.passed]
        assert [(c.name, c.object) for c in by_keys] == [("index structure", index)]
        made.actions.perform(action("vacuum"), False)
        by_entries = [c for c in made.verifier.check_again(None) if not c.passed]
        assert [(c.name, c.object) for c in by_entries] == [("index can be read", index)]


def test_an_index_that_cannot_be_counted_is_compared_key_by_key(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE INDEX patterned ON orders (note text_pattern_ops)")
    with engine(lab) as made:
        made.actions.perform(action("vacuum"), False)
        checks = made.verifier.check_again(["public.orders"])
        counted = {c.object for c in checks if c.name == "index can be read"}
        assert "public.orders_pkey" in counted
        assert "public.patterned" not in counted
        assert ("index structure", "public.patterned", True) in [(c.name, c.object, c.passed) for c in checks]


def test_several_sessions_examine_at_once_and_leave_no_function_behind(lab: PostgreSQLLab) -> None:
    before = lab.sql("SELECT count(*) FROM pg_proc"), lab.sql("SELECT count(*) FROM pg_namespace")
    lab.damage_index()
    with engine(lab) as made:
        results = Structure(made.target).examine(None, 60, deep=True, jobs=2)
        assert {x.part.index for x in results if x.fault} == {"public.orders_status"}
        assert len({x.part.oid for x in results}) == len(results)
    assert (lab.sql("SELECT count(*) FROM pg_proc"), lab.sql("SELECT count(*) FROM pg_namespace")) == before
