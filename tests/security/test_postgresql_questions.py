"""Questions that people register show no rows, no files and no words of the server, and none runs as a superuser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from maintenance.engines.errors import EngineError, Unable
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.postgresql.connection import connected
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.conftest import opened
from tests.engines.postgresql.world import engine

SECRET = "the salary of the director"
LEAKING = [
    "SELECT (SELECT string_agg(secret, ',') FROM secrets)::int",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT length(pg_read_file('postgresql.conf'))",
    "SELECT secret FROM secrets",
    "SELECT set_config('role', 'postgres', false) IS NOT NULL",
    "SELECT shouted()",
    "SELECT count(*) FROM secrets; COPY secrets TO PROGRAM 'cat'",
    "COPY secrets TO PROGRAM 'cat'",
    "SELECT lo_import('/etc/passwd')",
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with opened(with_checksums=False) as made:
        yield made


@pytest.fixture
def lab(server: PostgreSQLServer) -> Iterator[PostgreSQLLab]:
    with server.lent() as made:
        made.sql(f"CREATE TABLE secrets (secret text); INSERT INTO secrets VALUES ('{SECRET}')")
        made.sql(
            """CREATE FUNCTION shouted() RETURNS int LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION '%', (SELECT secret FROM secrets) USING ERRCODE = 'SECRT'; END $$"""
        )
        made.sql("CREATE FUNCTION me() RETURNS bool LANGUAGE sql AS $$ SELECT current_user = 'postgres' $$")
        yield made


def told(made: PostgreSQL, query: str) -> str:
    with pytest.raises(EngineError) as caught:
        made.benchmark.query(query)
    return str(caught.value.sentence)


@pytest.mark.postgresql
@pytest.mark.parametrize("query", LEAKING)
def test_nothing_of_the_data_comes_out(lab: PostgreSQLLab, query: str) -> None:
    with engine(lab) as made:
        words = told(made, query) + str(made.benchmark.measure(query, 1).error or "")
    assert SECRET not in words.replace(query, "")
    assert "SECRT" not in words
    assert "listen_addresses" not in words


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("SELECT true", [(True,)]),
        ("SELECT count(*) = 0 FROM secrets", [(False,)]),
        ("SELECT count(*), 'text' FROM secrets", [(1,)]),
        ("SELECT -1.5e0", [(-1.5,)]),
        ("SELECT NULL::int", [(None,)]),
        ("SELECT me()", [(False,)]),
        ("SELECT i FROM generate_series(1, 50000000) i", [(1,)]),
    ],
)
def test_the_answer_is_truth_or_a_number_of_the_first_row(
    lab: PostgreSQLLab, query: str, answer: list[tuple[object]]
) -> None:
    with engine(lab, statement_seconds=20) as made:
        assert made.benchmark.query(query) == answer


@pytest.mark.postgresql
def test_an_account_that_may_read_files_asks_in_the_name_of_one_that_may_not(lab: PostgreSQLLab) -> None:
    lab.server.run("postgres", "CREATE ROLE reading LOGIN IN ROLE pg_read_server_files")
    try:
        with engine(lab, user="reading") as made:
            assert "could reach files" in told(made, "SELECT true")
            lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO shop_owner; GRANT shop_owner TO reading")
            assert made.benchmark.query("SELECT current_user = 'shop_owner'") == [(True,)]
    finally:
        lab.server.run("postgres", "DROP ROLE reading")


@pytest.mark.postgresql
def test_a_session_whose_settings_are_dropped_on_the_way_is_refused(lab: PostgreSQLLab) -> None:
    """As PgBouncer does with ignore_startup_parameters = options."""
    address = parse_dsn(make_dsn(host="127.0.0.1", port=lab.server.server.port, user="postgres", dbname=lab.name))
    with pytest.raises(Unable, match="pooler"):
        connected(address, lab.name)
