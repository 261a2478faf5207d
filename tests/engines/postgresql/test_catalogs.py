"""A rollback gives back everything around the rows too: compared catalog by catalog, for a copy and for a dump."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from maintenance.engines.postgresql import PostgreSQL, disk
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
    "comments": "SELECT description FROM pg_description WHERE objoid >= 16384 ORDER BY 1",
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
        "CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER tell ON ddl_command_start EXECUTE FUNCTION told()",
    ):
        made.sql(statement)
    return made


def around(lab: PostgreSQLLab) -> dict[str, list[tuple[object, ...]]]:
    return {what: lab.sql(sql) for what, sql in AROUND.items()}


@pytest.mark.parametrize("kind", ["copy", "dump"])
def test_everything_around_the_rows_is_as_before(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    before = around(lab)
    with engine(lab) as made:
        if kind == "dump":
            monkeypatch.setattr(PostgreSQL, "_free_bytes", lambda *_: 1000)
        backup = made.back_up("pg_dump", lab.folder, "one", PLAIN)
        definitions = made.catalog()
        gate = made.read_gate()
        made.cut(gate, MARKER)
        baseline = made.fingerprint(None)
        image = made.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.kind == kind
        side = made.restore_beside(image, backup, PLAIN)
        assert made.fingerprint(None, side) == baseline
        assert made.catalog(side) == definitions
        made.swap(side, gate, MARKER)
        made.open_gate(gate, None)
        assert made.gate_differences(gate) == []
        made.clean()
        assert made.leftovers() == []
    assert around(lab) == before


def test_a_tablespace_that_is_too_full_is_told(lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch) -> None:
    free = disk.Disk._free

    def little(self: disk.Disk, connection: Connection, places: list[str]) -> list[int | None]:
        return [
            amount if place in (".", "pg_wal") else 7000
            for place, amount in zip(places, free(self, connection, places), strict=True)
        ]

    monkeypatch.setattr(disk.Disk, "_free", little)
    with engine(lab) as made:
        [found] = [f for f in made.diagnose(Thresholds()).findings if f.code == "tablespace_headroom"]
    assert found.evidence.startswith("7.0 kB are free for tablespace space; rewriting public.orders may need")
