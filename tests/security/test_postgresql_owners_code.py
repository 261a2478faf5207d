"""Reading a table runs its owner's code: with whose rights, and what is told where that cannot be."""

from __future__ import annotations

import pytest

from maintenance.engines.values import Thresholds
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.conftest import lab, server
from tests.engines.postgresql.world import engine, owned_by

__all__ = ["lab", "server"]
INDEXED = """
CREATE FUNCTION public.folded(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN lower($1); END';
ALTER FUNCTION public.folded(text) OWNER TO {owner};
CREATE INDEX ON customers (folded(name))
"""


def findings(lab: PostgreSQLLab, code: str, user: str = "postgres") -> list[str]:
    with engine(lab, user=user) as made:
        found = made.diagnostics.diagnose(Thresholds()).findings
    return [str(f.evidence) + str(f.hint) for f in found if f.code == code]


def test_what_a_superusers_function_calls_by_name_never_runs_as_superuser(lab: PostgreSQLLab) -> None:
    """A superuser wrote the index's function; the owner of the table replaced what that one calls."""
    lab.fill()
    owned_by(lab, "plain_owner")
    lab.sql(
        """CREATE TABLE seen (as_superuser text); GRANT INSERT ON seen TO PUBLIC;
           CREATE FUNCTION inner_one(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
           ALTER FUNCTION inner_one(text) OWNER TO plain_owner;
           CREATE FUNCTION outer_one(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
             'BEGIN RETURN public.inner_one($1); END';
           CREATE INDEX ON customers (outer_one(name)) WHERE outer_one('constant') = 'constant';
           CREATE OR REPLACE FUNCTION inner_one(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
             THEN RAISE EXCEPTION 'code of the owner runs as superuser'; END IF; RETURN $1; END $$"""
    )
    with engine(lab) as made:
        found = made.verifier.fingerprint(None)
        assert found["public.customers"].error is None
        made.benchmark.queries(None)
        assert [check for check in made.verifier.check(None) if not check.passed] == []


def test_tables_with_forced_policies_are_read_whole(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql("ALTER TABLE customers ENABLE ROW LEVEL SECURITY; ALTER TABLE customers FORCE ROW LEVEL SECURITY")
    with engine(lab) as made:
        assert made.verifier.fingerprint(None)["public.customers"].rows == 2000
        assert [check for check in made.verifier.check(None) if not check.passed] == []
    assert findings(lab, "rows_behind_policies") == []


def test_where_forced_policies_keep_rows_from_their_reader_is_told_before_the_outage(lab: PostgreSQLLab) -> None:
    lab.fill()
    owned_by(lab, "plain_owner")
    lab.sql("ALTER TABLE customers ENABLE ROW LEVEL SECURITY; ALTER TABLE customers FORCE ROW LEVEL SECURITY")
    lab.sql(INDEXED.format(owner="plain_owner"))
    [told] = findings(lab, "rows_behind_policies")
    assert "FORCE ROW LEVEL SECURITY" in told
    with engine(lab) as made:
        assert not made.verifier.fingerprint(None)["public.customers"].readable


def test_a_reader_who_may_have_nothing_temporary_is_told(lab: PostgreSQLLab, server: PostgreSQLServer) -> None:
    """A superuser needs no such right for the owner; any other account does."""
    lab.fill()
    owned_by(lab, "plain_owner")
    lab.sql(INDEXED.format(owner="plain_owner"))
    server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO shop_owner")
    server.run("postgres", f"REVOKE TEMPORARY ON DATABASE {lab.name} FROM PUBLIC")
    server.run("postgres", "GRANT plain_owner TO shop_owner")
    try:
        told = [text for text in findings(lab, "missing_privilege", "shop_owner") if "plain_owner" in text]
        assert [f"GRANT TEMPORARY ON DATABASE {lab.name} TO plain_owner" in text for text in told] == [True]
        with engine(lab) as made:
            assert made.verifier.fingerprint(None)["public.customers"].readable
        server.run("postgres", f"GRANT TEMPORARY ON DATABASE {lab.name} TO plain_owner")
        with engine(lab, user="shop_owner") as made:
            assert made.verifier.fingerprint(None)["public.customers"].readable
        assert not [text for text in findings(lab, "missing_privilege", "shop_owner") if "TEMPORARY" in text]
    finally:
        server.run("postgres", "REVOKE plain_owner FROM shop_owner")


@pytest.mark.parametrize("made", ["CREATE EXTENSION amcheck", "CREATE SCHEMA closed"])
def test_what_a_restore_makes_as_superuser_is_in_the_plan(lab: PostgreSQLLab, made: str) -> None:
    lab.fill()
    lab.sql(made)
    assert findings(lab, "restored_by_superuser") == []
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO shop_owner")
    [told] = findings(lab, "restored_by_superuser")
    assert made.split()[-1] in told
