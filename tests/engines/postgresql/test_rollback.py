"""What a rollback restores from, and how it takes the place."""

from __future__ import annotations

from contextlib import closing

import pytest

from maintenance.engines.postgresql.diagnosis import disk
from maintenance.engines.postgresql.restore import entries_without, names_in
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import MARKER, PLAIN, engine, hammering


@pytest.mark.usefixtures("whole_copy")
@pytest.mark.parametrize("as_superuser_applications", [False, True])
def test_the_copy_made_under_the_cut_takes_the_place_with_everything_around_it(
    lab: PostgreSQLLab, as_superuser_applications: bool
) -> None:
    lab.fill()
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} SET search_path = public, pg_catalog")
    lab.server.run("postgres", f"ALTER ROLE shop_app IN DATABASE {lab.name} SET work_mem = '5MB'")
    lab.server.run("postgres", f"GRANT CREATE ON DATABASE {lab.name} TO shop_app")
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO shop_owner")
    with engine(lab) as made, hammering(lab, "postgres" if as_superuser_applications else "shop_app"):
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.kind == "copy"
        with made.target.session("spoiling") as connection:
            connection.exec_driver_sql("DELETE FROM public.orders")
        side = made.rollback.restore_beside(image, backup, PLAIN)
        assert made.verifier.fingerprint(None, side) == baseline
        broken = made.rollback.swap(side, gate, MARKER)
        # As after a crash just behind it.
        assert made.rollback.restore_beside(image, backup, PLAIN) == side
        assert made.verifier.fingerprint(None, side) == baseline
        assert made.rollback.swap(side, gate, MARKER) == broken
        assert made.verifier.fingerprint(None) == baseline
        assert made.gate.read_state() == gate
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
        assert made.rollback.leftovers() == [broken]
        assert made.rollback.clean([broken]) == []
        assert made.rollback.clean() == [broken]
    assert lab.sql("SHOW search_path") == [("public, pg_catalog",)]
    with lab.application() as application:
        assert application.execute("SHOW work_mem") == [("5MB",)]


def test_without_room_for_a_copy_the_tables_that_changed_are_dumped_again(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = lab.difficult()
    lab.sql("DROP MATERIALIZED VIEW totals")  # A dump would fill it anew from the rows that changed.
    monkeypatch.setattr(disk, "_free", lambda _, places: [1000] * len(places))
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        definitions = made.verifier.definitions()
        lab.sql('INSERT INTO "Order" (total) VALUES (1000)')
        lab.sql("""INSERT INTO "Sales 50%"."a ""quoted"": name" VALUES (1000, 101, 'x')""")
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.kind == "dump"
        assert set(image.tables) == {names[0], names[2]}
        side = made.rollback.restore_beside(image, backup, PLAIN)
        assert made.rollback.restore_beside(image, backup, PLAIN) == side
        assert made.verifier.fingerprint(None, side) == baseline
        assert made.verifier.definitions(side) == definitions
        made.rollback.swap(side, gate, MARKER)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
        assert all(check.passed for check in made.verifier.check(None))
    assert lab.sql('INSERT INTO "Order" (total) VALUES (1) RETURNING id') == [(102,)]


def test_without_room_after_a_crash_everything_is_dumped_again(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.fill()
    monkeypatch.setattr(disk, "_free", lambda _, places: [1000] * len(places))
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
    with engine(lab, token=2) as made:
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.tables == ()
        assert image.path == lab.folder / "image.dump.zst"
        assert made.verifier.fingerprint(None, made.rollback.restore_beside(image, backup, PLAIN)) == baseline
        made.gate.open(gate, None)
        assert made.rollback.clean() == [made.target.identity.side_name("restore")]


def test_a_side_database_of_somebody_else_is_never_dropped(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made:
        name = made.target.identity.side_name("image")
        lab.server.run("postgres", f"CREATE DATABASE {name}")
        lab.server.run("postgres", f"COMMENT ON DATABASE {name} IS 'mine'")
        assert made.rollback.clean() == []
    assert lab.server.run("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{name}'") == [(1,)]


def test_the_rows_of_a_table_are_left_out_by_its_whole_name() -> None:
    listing = (
        "; comment\n1; 0 16 TABLE DATA public a owner\n2; 0 17 TABLE DATA public a b owner\n"
        "3; 0 0 SEQUENCE SET public s owner"
    )
    assert entries_without(listing, {"public a": True, "public a b": False}) == [
        "; comment",
        "2; 0 17 TABLE DATA public a b owner",
    ]


@pytest.mark.parametrize(
    "value", ["a;alter/**/role/**/shop_app/**/superuser;--", 'public, "two words", "a""b"', '"$user", ""']
)
def test_a_list_that_a_plain_role_stored_is_carried_over_and_never_run(lab: PostgreSQLLab, value: str) -> None:
    """Any role may store one for itself, unquoted; the console carries it over with the rights of its own account."""
    lab.fill()
    client = lab.server.connect(lab.name, "shop_app")
    with closing(client), client.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, false)", [value])
        cursor.execute(f"ALTER ROLE shop_app IN DATABASE {lab.name} SET search_path FROM CURRENT")
        cursor.execute("SELECT current_schemas(false)")
        before = cursor.fetchall()
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        image = made.backups.image(backup, made.verifier.fingerprint(None), lab.folder, "image", PLAIN)
        made.rollback.swap(made.rollback.restore_beside(image, backup, PLAIN), gate, MARKER)
        made.gate.open(gate, None)
        made.rollback.clean()
    assert lab.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'shop_app'") == [(False,)]
    with lab.application() as application:
        assert application.execute("SELECT current_schemas(false)") == before
        [(path,)] = application.execute("SHOW search_path")
    assert names_in(str(path)) == names_in(value)
