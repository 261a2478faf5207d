"""A server that speaks German to an account that may not make it speak otherwise."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator

import psycopg2
import pytest
from sqlalchemy import Connection

from demo.postgresql import ThrowawayPostgreSQL
from maintenance.engines.errors import Damaged, Unable
from maintenance.engines.postgresql import image as images
from maintenance.engines.postgresql.database_access import foreign_sessions
from maintenance.engines.postgresql.repair.system_catalogs import path_in
from maintenance.engines.postgresql.target import TargetDatabase
from tests.engines.conftest import short_folder
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.world import MARKER, PLAIN, action, engine, owned_by, wait_until

OWNER = "shop_owner"


@pytest.fixture(scope="module")
def german() -> Iterator[PostgreSQLServer]:
    """Its messages come from the catalogs of the server's package; the locale only has to be any other than C."""
    folder = short_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThrowawayPostgreSQL, "environment", {"LANGUAGE": "de"})
        with PostgreSQLServer.opened(folder, settings={"lc_messages": "'C.UTF-8'", "track_counts": "off"}) as server:
            try:
                server.run("postgres", "SELECT 1 / 0")
            except psycopg2.Error as error:
                if "Division durch Null" not in str(error):
                    pytest.skip("the server's package has no German messages")
            yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(german: PostgreSQLServer) -> Iterator[PostgreSQLLab]:
    with german.lent() as made:
        made.fill()
        owned_by(made, OWNER)
        yield made


def test_equal_keys_under_a_unique_index_are_named(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE UNIQUE INDEX names ON customers (name)")
    lab.sql("UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'names'::regclass")
    lab.sql("INSERT INTO customers (name) VALUES ('twice'), ('twice')")
    with engine(lab, user=OWNER) as made, pytest.raises(Damaged, match=r"\(name\) = \('twice'\) in 2 rows"):
        made.actions.perform(action("reindex", "public.customers"), False)


def test_a_table_that_the_server_skips_is_not_done(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE TABLE others (id int); INSERT INTO others VALUES (1)")
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO postgres")
    lab.sql(f"GRANT SELECT ON others TO {OWNER}")
    with engine(lab, user=OWNER) as made:
        for kind in ("vacuum", "analyze", "vacuum_full"):
            with pytest.raises(Unable, match="others"):
                made.actions.perform(action(kind, "public.others"), False)


def test_a_session_that_is_ended_while_a_table_is_read_is_begun_again(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE TABLE large AS SELECT i, repeat(md5(i::text), 20) AS t FROM generate_series(1, 150000) i")
    lab.sql(f"ALTER TABLE large OWNER TO {OWNER}")
    busy = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE query LIKE '%FROM ONLY public.large%' AND state = 'active' AND pid <> pg_backend_pid()"""
    ended = threading.Thread(target=lambda: wait_until("it reads", lambda: lab.sql(busy) != [(0,)]))
    with engine(lab, user=OWNER) as made:
        ended.start()
        found = made.verifier.fingerprint(["public.large"])
        ended.join()
    assert found["public.large"].rows == 150000


def test_a_copy_waits_for_the_last_session_to_go(lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def overlooked_once(target: TargetDatabase, connection: Connection, oid: int, ours_too: bool = False) -> object:
        asked.append(oid)
        return [] if len(asked) == 1 else foreign_sessions(target, connection, oid, ours_too)

    monkeypatch.setattr(images, "foreign_sessions", overlooked_once)
    monkeypatch.setattr(images.Images, "_little", lambda *_: False)
    with engine(lab, user=OWNER) as made, made.target.session("staying"):
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        with made.target.session("staying"):
            image = made.backups.image(backup, made.verifier.fingerprint(None), lab.folder, "image", PLAIN)
        assert image.kind == "copy"
        assert len(asked) > 1
        made.gate.open(gate, None)
        made.rollback.clean()


def test_the_file_of_a_damaged_catalog_is_read_out_of_any_language() -> None:
    assert path_in("FATAL:  ungültige Seite in Block 3 von Relation base/16384/2662") == "base/16384/2662"
    assert path_in("ブロック 3 のページが不正です(リレーション global/1262)") == "global/1262"
    assert path_in("ungültige Seite in Block 0 von Relation pg_tblspc/16390/PG_15_202209061/5/2662") == (
        "pg_tblspc/16390/PG_15_202209061/5/2662"
    )
    assert path_in("kein Platz in base") is None
