"""Each kind of damage, with and without data checksums: found, and repaired or refused with what a person needs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg2
import pytest

from maintenance.engines.errors import Damaged
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.postgresql.structure import Structure
from maintenance.engines.values import Diagnosis, Performed, Thresholds
from tests.engines.lab_postgresql import PAGE, PostgreSQLLab, PostgreSQLServer

from .world import engine


@pytest.fixture(params=["server", "server_with_checksums"], ids=["without checksums", "with checksums"])
def lab(request: pytest.FixtureRequest) -> Iterator[PostgreSQLLab]:
    server: PostgreSQLServer = request.getfixturevalue(request.param)
    with server.lent() as made:
        made.fill()
        made.sql("VACUUM (FULL, ANALYZE) orders")
        yield made


def codes(diagnosis: Diagnosis) -> set[tuple[str, str]]:
    return {(finding.code, finding.object) for finding in diagnosis.findings}


def repaired(made: PostgreSQL, diagnosis: Diagnosis, allow_data_loss: bool = False) -> list[Performed]:
    plan = made.planner.plan("repair", diagnosis, Thresholds(), None, allow_data_loss)
    return [made.actions.perform(planned, allow_data_loss) for planned in plan]


def whole(made: PostgreSQL) -> None:
    assert [check for check in made.verifier.check(None) if not check.passed] == []
    assert made.rollback.leftovers() == []


def test_a_page_of_an_index(lab: PostgreSQLLab) -> None:
    orders = lab.damage_index()
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("damaged_index", orders) in codes(diagnosis)
        repaired(made, diagnosis)
        whole(made)
    assert lab.sql("SELECT count(*) FROM orders WHERE status > ''") == [(8000,)]


def test_the_header_of_a_page_of_a_table(lab: PostgreSQLLab) -> None:
    path = lab.path_of("orders")
    with lab.stopped(), open(path, "r+b") as file:
        file.seek(7 * PAGE + 12)
        file.write(b"\xff" * 8)
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("damaged_table", "public.orders") in codes(diagnosis)
        with pytest.raises(Damaged, match="invalid page in block 7"):
            repaired(made, diagnosis)
        [loss] = repaired(made, diagnosis, allow_data_loss=True)[0].losses
        assert loss.pages == (7,)
        whole(made)
        left = made.verifier.fingerprint(["public.orders"])["public.orders"].rows
    assert left is not None
    assert 7900 < left < 8000


def test_a_part_of_a_tables_file_that_is_missing(lab: PostgreSQLLab) -> None:
    [(pages,)] = lab.sql("SELECT relpages FROM pg_class WHERE relname = 'orders'")
    path = lab.path_of("orders")
    with lab.stopped(), open(path, "r+b") as file:
        file.truncate(20 * PAGE)
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("file_shorter_than_catalog", "public.orders") in codes(diagnosis)
        with pytest.raises(Damaged, match="a part of its file is missing"):
            repaired(made, diagnosis)
        done = repaired(made, diagnosis, allow_data_loss=True)[0]
        [loss] = done.losses
        assert f"the last {int(str(pages)) - 20} pages are missing with their file" in loss.detail
        assert "the catalog counted about 8000 rows" in loss.detail
        assert loss.rows is None
        whole(made)
    [(left,)] = lab.sql("SELECT count(*) FROM orders")
    assert 0 < int(str(left)) < 8000


def test_a_whole_file_that_is_missing_is_for_the_rollback(lab: PostgreSQLLab) -> None:
    path = lab.path_of("orders")
    with lab.stopped():
        path.unlink()
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("file_missing", "public.orders") in codes(diagnosis)
        with pytest.raises(Damaged, match="could not open file"):
            repaired(made, diagnosis, allow_data_loss=True)


def test_the_file_of_an_index_that_is_missing(lab: PostgreSQLLab) -> None:
    path = lab.path_of("orders_status")
    with lab.stopped():
        path.unlink()
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("file_missing", "public.orders_status") in codes(diagnosis)
        repaired(made, diagnosis)
        whole(made)


def test_equal_keys_under_a_unique_index_are_told_and_never_deleted(lab: PostgreSQLLab) -> None:
    lab.sql("UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'customers_pkey'::regclass")
    lab.sql("INSERT INTO customers (id, name) SELECT i, 'the other' FROM generate_series(100, 120) i")
    lab.sql("UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 'customers_pkey'::regclass")
    with engine(lab) as made:
        [check] = [check for check in made.verifier.check(["public.customers"]) if check.name == "unique"]
        assert not check.passed
        plan = made.planner.plan(
            "repair", made.diagnostics.diagnose(Thresholds()), Thresholds(), ["public.customers"], True
        )
        [reindex] = [planned for planned in plan if planned.kind == "reindex"]
        with pytest.raises(Damaged) as caught:
            made.actions.perform(reindex, True)
    words = caught.value.words
    assert "public.customers_pkey: 21 keys stand in 42 rows, e.g. (id) = ('100') in 2 rows; (id) = ('101')" in words
    statement = words.split("Look at them with ")[1].split("; delete")[0]
    assert len(lab.sql(statement)) == 2
    assert lab.sql("SELECT count(*) FROM customers") == [(2021,)]


def test_rows_marked_as_visible_to_all_that_are_not(lab: PostgreSQLLab) -> None:
    lab.sql("DELETE FROM orders WHERE id % 3 = 0; CHECKPOINT")
    [(left,)] = lab.sql("SELECT count(*) FROM orders")
    lab.sql("CREATE EXTENSION pg_visibility")
    lab.sql("VACUUM customers")
    marks, example = (path.with_name(f"{path.name}_vm") for path in map(lab.path_of, ("orders", "customers")))
    with lab.stopped():
        # All pages marked, as after a fault of storage, under a header that VACUUM wrote.
        page = bytearray(example.read_bytes()[:PAGE])
        page[24:PAGE] = b"\x55" * (PAGE - 24)
        page[8:10] = b"\x00\x00"
        marks.write_bytes(bytes(page))
        os.chown(marks, example.stat().st_uid, example.stat().st_gid)
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        if ("visibility_damage", "public.orders") not in codes(diagnosis):
            # With checksums the server sees that the map is wrong, and takes it for empty: nothing is to be done.
            assert lab.sql("SHOW data_checksums") == [("on",)]
            return
        repaired(made, diagnosis)
        assert Structure(made.target).invisible(None, 60) == {}
        whole(made)
    assert lab.sql("SELECT count(*) FROM orders") == [(left,)]


def test_a_sequence_behind_its_column(lab: PostgreSQLLab) -> None:
    lab.sql("SELECT setval('orders_id_seq', 10)")
    with engine(lab) as made:
        repaired(made, made.diagnostics.diagnose(Thresholds()))
        whole(made)
    assert lab.sql("SELECT nextval('orders_id_seq')") == [(20000,)]


def test_an_index_of_a_system_catalog(lab: PostgreSQLLab) -> None:
    lab.damage_page("pg_depend_reference_index", 3)
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("damaged_system_index", "pg_catalog.pg_depend_reference_index") in codes(diagnosis)
        with pytest.raises(psycopg2.Error):
            lab.sql("SELECT count(*) FROM (SELECT 1 FROM pg_depend ORDER BY refclassid, refobjid) x")
        repaired(made, diagnosis)
        assert not codes(made.diagnostics.diagnose(Thresholds())) & {
            ("damaged_system_index", "pg_catalog.pg_depend_reference_index")
        }
        whole(made)


def test_the_statistics_of_the_planner(lab: PostgreSQLLab) -> None:
    columns = ", ".join(f"c{number} int" for number in range(300))
    lab.sql(f"CREATE TABLE wide ({columns}); INSERT INTO wide SELECT FROM generate_series(1, 100); ANALYZE wide")
    lab.damage_page(
        "pg_statistic", int(str(lab.sql("SELECT max((ctid::text::point)[0])::int - 1 FROM pg_statistic")[0][0]))
    )
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("damaged_statistics", "pg_catalog.pg_statistic") in codes(diagnosis)
        assert len(diagnosis.tables) == 3
        with pytest.raises(psycopg2.Error):
            lab.sql("SELECT count(*) FROM pg_stats")
        repaired(made, diagnosis)
        whole(made)
    assert lab.sql("SELECT count(*) FROM pg_stats WHERE tablename = 'wide'") == [(300,)]


def test_a_table_of_the_system_is_left_to_people(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON FUNCTION f() IS 'one'")
    [(pages,)] = lab.sql("SELECT pg_relation_size('pg_description') / 8192")
    lab.damage_page("pg_description", int(str(pages)) - 1)
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert ("damaged_system_table", "pg_catalog.pg_description") in codes(diagnosis)
        assert not [a for a in made.planner.plan("repair", diagnosis, Thresholds(), None, True) if a.stage < 0]


def test_a_page_of_zeros_into_which_an_index_still_points(lab: PostgreSQLLab) -> None:
    """Nothing else tells of it: not a count, not amcheck, not a checksum."""
    [(count,)] = lab.sql("SELECT count(*) FROM orders WHERE (ctid::text::point)[0] = 11")
    path = lab.path_of("orders")
    with lab.stopped(), open(path, "r+b") as file:
        file.seek(11 * PAGE)
        file.write(bytes(PAGE))
        # Two that no index knows, as a crash of a growing table leaves them.
        file.seek(0, os.SEEK_END)
        file.write(bytes(2 * PAGE))
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert {code for code, _ in codes(diagnosis)} & {"lost_pages", "damaged_table"} == {"lost_pages"}
        [found] = [finding for finding in diagnosis.findings if finding.code == "lost_pages"]
        assert found.evidence.startswith(f"{count} entries of index public.orders_")
        assert "point into empty pages (11)" in found.evidence
        for kind in ("repair", "rebuild"):
            [looking, *_] = made.planner.plan(kind, diagnosis, Thresholds(), None, False)
            with pytest.raises(Damaged, match=r"empty pages \(11\)"):
                made.actions.perform(looking, False)
        [loss] = repaired(made, diagnosis, allow_data_loss=True)[0].losses
        assert loss.pages == (11,)
        assert f"{count} entries" in loss.detail
        assert "lost_pages" not in {code for code, _ in codes(made.diagnostics.diagnose(Thresholds()))}
        whole(made)
