"""A rollback gives back everything around the rows too: compared catalog by catalog, for a copy and for a dump."""

from __future__ import annotations

import psycopg2
import pytest
from sqlalchemy import Connection

from maintenance.engines.errors import EngineError
from maintenance.engines.postgresql.diagnosis import disk
from maintenance.engines.postgresql.image import Images
from maintenance.engines.values import Thresholds
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import MARKER, PLAIN, engine

OF_THE_DATABASE = """
SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datlocprovider, d.datcollate, d.datctype,
  d.daticulocale, d.datcollversion, d.datconnlimit, d.datallowconn, d.datistemplate, t.spcname,
  shobj_description(d.oid, 'pg_database'), (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(d.datacl) a)
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()
"""
AROUND = {
    "database": OF_THE_DATABASE,
    "settings": """SELECT coalesce(r.rolname, ''), s.setconfig FROM pg_db_role_setting s JOIN pg_database d
                   ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
                   WHERE d.datname = current_database() ORDER BY 1""",
    "extensions": "SELECT e.extname, e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n"
    " ON n.oid = e.extnamespace ORDER BY 1",
    "default privileges": """SELECT pg_get_userbyid(defaclrole), defaclnamespace::regnamespace::text,
                             defaclobjtype::text, defaclacl::text FROM pg_default_acl ORDER BY 1, 2, 3""",
    "schemas": """SELECT nspname, pg_get_userbyid(nspowner), nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_'
                  ORDER BY 1""",
    "tables": """SELECT c.relname, pg_get_userbyid(c.relowner), c.relacl::text, coalesce(t.spcname, ''), c.reloptions,
                   c.relrowsecurity FROM pg_class c LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace
                   WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'S', 'v', 'i') ORDER BY 1""",
    "publications": "SELECT pubname, puballtables, pg_get_userbyid(pubowner) FROM pg_publication ORDER BY 1",
    "event triggers": "SELECT evtname, evtevent, evtenabled::text FROM pg_event_trigger ORDER BY 1",
    "statistics": "SELECT stxname, stxkeys::text FROM pg_statistic_ext ORDER BY 1",
    "comments": """SELECT pg_describe_object(classoid, objoid, objsubid), description FROM pg_description
                   WHERE objoid >= 16384 OR objoid = 'public'::regnamespace ORDER BY 1""",
    "columns": """SELECT attname, attstattarget, attstorage::text FROM pg_attribute
                  WHERE attrelid = 'orders'::regclass AND attnum > 0 ORDER BY 1""",
    "published": "SELECT pubname, schemaname, tablename FROM pg_publication_tables ORDER BY 1, 2, 3",
    "rules": "SELECT tablename, rulename, definition FROM pg_rules WHERE schemaname = 'public' ORDER BY 1, 2",
    "large objects": """SELECT oid::int8, pg_get_userbyid(lomowner), lomacl::text FROM pg_largeobject_metadata
                        ORDER BY 1""",
    "servers": "SELECT srvname, srvoptions FROM pg_foreign_server ORDER BY 1",
    "user mappings": "SELECT srvname, usename, umoptions FROM pg_user_mappings ORDER BY 1, 2",
    "collations": "SELECT collname FROM pg_collation WHERE oid >= 16384 ORDER BY 1",
    "subscriptions": """SELECT subname, subslotname, subpublications, pg_get_userbyid(subowner) FROM pg_subscription
                        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())""",
}


@pytest.fixture
def lab(lab_with_checksums: PostgreSQLLab) -> PostgreSQLLab:
    """Everything that is not the default."""
    made = lab_with_checksums
    made.server.run("postgres", f"DROP DATABASE {made.name}")
    made.server.run(
        "postgres",
        f"""CREATE DATABASE {made.name} OWNER shop_owner TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'
            LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' TABLESPACE space CONNECTION LIMIT 17""",
    )
    made.fill()
    for statement in (
        f"COMMENT ON DATABASE {made.name} IS 'the shop''s own'",
        f"GRANT CONNECT ON DATABASE {made.name} TO shop_app WITH GRANT OPTION",
        f"REVOKE TEMPORARY ON DATABASE {made.name} FROM PUBLIC",
        f"ALTER DATABASE {made.name} SET search_path = public, pg_catalog",
        f"ALTER DATABASE {made.name} SET \"shop.colour\" = 'it''s, red'",
        f"ALTER ROLE shop_app IN DATABASE {made.name} SET work_mem = '5MB'",
        "CREATE EXTENSION pg_trgm",
        "CREATE EXTENSION amcheck",
        "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner IN SCHEMA public GRANT SELECT ON TABLES TO shop_app",
        "ALTER TABLE customers OWNER TO shop_owner",
        "CREATE TABLE fast (i int) TABLESPACE pg_default",
        "CREATE INDEX fast_i ON fast (i) TABLESPACE pg_default",
        "ALTER TABLE fast SET (fillfactor = 77)",
        "CREATE PUBLICATION news FOR TABLE customers",
        "CREATE STATISTICS together ON customer_id, status FROM orders",
        "COMMENT ON TABLE orders IS 'what was sold'",
        "COMMENT ON COLUMN orders.note IS 'of the seller'",
        "COMMENT ON INDEX orders_status IS 'for the list'",
        "COMMENT ON CONSTRAINT orders_pkey ON orders IS 'one number each'",
        "COMMENT ON SCHEMA public IS 'of the shop'",
        "COMMENT ON STATISTICS together IS 'go together'",
        "COMMENT ON PUBLICATION news IS 'for the branch'",
        "ALTER TABLE orders ALTER status SET STATISTICS 500",
        "ALTER TABLE orders ALTER note SET STORAGE EXTERNAL",
        "ALTER TABLE orders REPLICA IDENTITY FULL",
        "CREATE RULE quiet AS ON DELETE TO fast DO INSTEAD NOTHING",
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
        "COMMENT ON DOMAIN positive IS 'above nothing'",
        "CREATE COLLATION german (provider = icu, locale = 'de-DE')",
        "CREATE FUNCTION text_of(positive) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'x'$$",
        "COMMENT ON FUNCTION text_of(positive) IS 'always x'",
        "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        "SELECT lo_from_bytea(4711, 'a large object')",
        "ALTER LARGE OBJECT 4711 OWNER TO shop_owner",
        "GRANT SELECT ON LARGE OBJECT 4711 TO shop_app",
        "COMMENT ON LARGE OBJECT 4711 IS 'a picture'",
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER branch FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'branch')",
        "CREATE USER MAPPING FOR shop_app SERVER branch OPTIONS (user 'shop')",
        "CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER tell ON ddl_command_start EXECUTE FUNCTION told()",
    ):
        made.sql(statement)
    return made


def around(lab: PostgreSQLLab) -> dict[str, list[tuple[object, ...]]]:
    return {what: lab.sql(sql) for what, sql in AROUND.items()}


@pytest.mark.every(2, 1)
@pytest.mark.parametrize("kind", ["copy", "dump"])
def test_everything_around_the_rows_is_as_before(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    before = around(lab)
    with engine(lab) as made:
        if kind == "dump":
            monkeypatch.setattr(disk, "_free", lambda _, places: [1000] * len(places))
        else:
            monkeypatch.setattr(Images, "_little", lambda *_: False)
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        definitions = made.verifier.definitions()
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.kind == kind
        side = made.rollback.restore_beside(image, backup, PLAIN)
        assert made.verifier.fingerprint(None, side) == baseline
        assert made.verifier.definitions(side) == definitions
        assert {"setting work_mem of shop_app", "setting shop.colour"} <= set(definitions)
        made.rollback.swap(side, gate, MARKER)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
        made.rollback.clean()
        assert made.rollback.leftovers() == []
    assert around(lab) == before


LABELLED = """INSERT INTO pg_shseclabel SELECT oid, 'pg_database'::regclass, 'selinux', 'unclassified' FROM pg_database
              WHERE datname = current_database()"""
"""No program that gives labels is part of the server's packages, so the label stands there as one left it."""


def test_a_copy_whose_label_nobody_can_give_again_does_not_take_the_place(lab: PostgreSQLLab) -> None:
    lab.sql(LABELLED)
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        image = made.backups.image(backup, made.verifier.fingerprint(None), lab.folder, "image", PLAIN)
        with pytest.raises(EngineError, match='label provider "selinux" is not loaded'):
            made.rollback.restore_beside(image, backup, PLAIN)
        made.gate.open(gate, None)
        made.rollback.clean()
    lab.sql("DELETE FROM pg_shseclabel")


def test_a_database_that_subscribes_is_rolled_back_from_a_dump_as_a_copy_has_no_subscriptions(
    lab: PostgreSQLLab,
) -> None:
    nowhere = "CONNECTION 'host=127.0.0.1 port=1 dbname=nowhere' PUBLICATION theirs"
    lab.sql(f"CREATE SUBSCRIPTION mine {nowhere} WITH (connect = false, slot_name = NONE, enabled = false)")
    before = around(lab)
    with engine(lab) as made:
        broken = made.target.identity.side_name("broken")
        told = [f for f in made.diagnostics.diagnose(Thresholds()).findings if f.code == "logical_replication"]
        assert [str(f.evidence) for f in told] == ["Subscription mine brings rows into this database"]
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        definitions = made.verifier.definitions()
        image = made.backups.image(backup, made.verifier.fingerprint(None), lab.folder, "image", PLAIN)
        assert image.kind == "dump"
        side = made.rollback.restore_beside(image, backup, PLAIN)
        assert made.verifier.definitions(side) == definitions
        made.rollback.swap(side, gate, MARKER)
        made.gate.open(gate, None)
    after = around(lab)
    lab.server.run("postgres", f"ALTER DATABASE {broken} ALLOW_CONNECTIONS true")
    for database in (broken, lab.name):
        lab.server.run(database, "DROP SUBSCRIPTION mine")
    assert after == before


def test_what_a_broken_build_left_may_be_dropped(lab: PostgreSQLLab) -> None:
    with pytest.raises(psycopg2.Error):
        lab.sql("CREATE UNIQUE INDEX CONCURRENTLY orders_status_ccnew ON orders (status)")
    with engine(lab) as made:
        before = made.verifier.definitions()
        [planned] = [
            a
            for a in made.planner.plan("repair", made.diagnostics.diagnose(Thresholds()), Thresholds(), None, False)
            if a.stage == 0
        ]
        assert made.actions.perform(planned, False)
        assert made.verifier.definitions() == before


def test_every_kind_of_definition_is_compared(lab: PostgreSQLLab) -> None:
    with engine(lab) as made:
        before = made.verifier.definitions()
        for statement, told in CHANGES.items():
            lab.sql(statement.replace("{name}", lab.name))
            after = made.verifier.definitions()
            assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == {told}, statement
            before = after


CHANGES = {
    "COMMENT ON COLUMN orders.note IS 'other'": "comment on column note of table public.orders",
    "COMMENT ON FUNCTION text_of(positive) IS NULL": "comment on function public.text_of(public.positive)",
    "COMMENT ON LARGE OBJECT 4711 IS 'other'": "comment on large object 4711",
    "REVOKE SELECT ON LARGE OBJECT 4711 FROM shop_app": "large object 4711",
    "ALTER PUBLICATION news DROP TABLE customers": "publication news",
    "ALTER EVENT TRIGGER tell DISABLE": "event trigger tell",
    "ALTER STATISTICS together OWNER TO shop_owner": "statistics public.together",
    "DROP RULE quiet ON fast": "rule quiet on public.fast",
    "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner GRANT EXECUTE ON FUNCTIONS TO shop_app": (
        "default privileges of shop_owner in every schema for f"
    ),
    "ALTER TABLE orders ALTER note SET STORAGE PLAIN": "table public.orders",
    "ALTER INDEX fast_i SET TABLESPACE space": "index public.fast_i",
    "ALTER SERVER branch OPTIONS (SET host 'other')": "server branch",
    "ALTER USER MAPPING FOR shop_app SERVER branch OPTIONS (SET user 'other')": "user mapping of shop_app for branch",
    "DROP COLLATION german": "collation public.german",
    "ALTER DATABASE {name} SET work_mem = '7MB'": "setting work_mem",
    "ALTER ROLE shop_app IN DATABASE {name} RESET work_mem": "setting work_mem of shop_app",
    LABELLED: "security label on the database",
    "CREATE CAST (positive AS text) WITH FUNCTION text_of(positive)": "cast from public.positive to text",
}


def test_a_tablespace_that_is_too_full_is_told(lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch) -> None:
    free = disk._free

    def little(connection: Connection, places: list[str]) -> list[int | None]:
        return [
            amount if place in (".", "pg_wal") else 7000
            for place, amount in zip(places, free(connection, places), strict=True)
        ]

    monkeypatch.setattr(disk, "_free", little)
    with engine(lab) as made:
        [found] = [f for f in made.diagnostics.diagnose(Thresholds()).findings if f.code == "tablespace_headroom"]
    assert found.evidence.startswith("7.0 kB are free for tablespace space; rewriting public.orders may need")
