"""The rights that `grants` tells are those that the whole procedure needs, each of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from maintenance.engines.errors import AccessDenied, EngineError
from maintenance.engines.messages import msg
from maintenance.engines.postgresql.diagnosis import disk
from maintenance.engines.postgresql.privileges import entering
from maintenance.engines.postgresql.sql import quoted
from maintenance.engines.values import Grant, Thresholds
from maintenance.management.commands.grants import script
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer

from .world import MARKER, PLAIN, engine


@pytest.fixture(scope="module")
def lab(server: PostgreSQLServer) -> Iterator[PostgreSQLLab]:
    """A database of plain_owner with everything in it that needs a right of its own."""
    with server.lent() as made:
        prepare(made)
        server.run("postgres", "REVOKE pg_signal_backend FROM shop_owner, plain_owner")
        server.run("postgres", "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        yield made
        server.run("postgres", "GRANT pg_signal_backend TO shop_owner, plain_owner")
        server.run("postgres", "GRANT CONNECT ON DATABASE postgres TO PUBLIC")


def prepare(made: PostgreSQLLab) -> None:
    made.fill()
    made.sql("CREATE EXTENSION amcheck")
    made.sql(
        f"""
        ALTER DATABASE {made.name} OWNER TO plain_owner;
        ALTER DATABASE {made.name} SET log_statement = 'ddl';
        ALTER ROLE shop_app IN DATABASE {made.name} SET work_mem = '5MB';
        ALTER TABLE customers OWNER TO plain_owner;
        CREATE SCHEMA closed;
        CREATE TABLE closed.things (id serial PRIMARY KEY, name text);
        INSERT INTO closed.things (name) SELECT 'thing ' || i FROM generate_series(1, 500) i;
        ALTER TABLE closed.things OWNER TO shop_owner;
        CREATE TABLE hidden (id int PRIMARY KEY, who text);
        INSERT INTO hidden SELECT i, 'somebody' FROM generate_series(1, 300) i;
        ALTER TABLE hidden OWNER TO plain_owner;
        ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
        ALTER TABLE hidden FORCE ROW LEVEL SECURITY;
        SELECT setval('orders_id_seq', 10)
        """
    )
    [(blob,)] = made.sql("SELECT lo_from_bytea(0, 'a large object'::bytea)")
    made.sql(f"ALTER LARGE OBJECT {blob} OWNER TO plain_owner")


NO_STATEMENT = Grant("", msg(""), False).finding.hint


def needed(lab: PostgreSQLLab, role: str) -> list[Grant]:
    with engine(lab) as made:
        return [grant for grant in made.privileges.grants(role) if not grant.given]


def give(lab: PostgreSQLLab, grants: list[Grant]) -> None:
    for grant in grants:
        if grant.statement:
            lab.server.run(grant.where or lab.name, grant.statement)


def take_back(lab: PostgreSQLLab, role: str) -> None:
    lab.sql("ALTER TABLE orders OWNER TO postgres")
    for database in (lab.name, "postgres"):
        lab.server.run(database, f"DROP OWNED BY {role}")
    lab.server.run("postgres", f"DROP ROLE {role}")


def test_a_superuser_needs_nothing_and_another_role_is_told_from_afar(lab: PostgreSQLLab) -> None:
    with engine(lab) as made:
        assert made.privileges.grants() == []
    statements = [grant.statement for grant in needed(lab, "db_admin")]
    assert statements[0] == "CREATE ROLE db_admin LOGIN"
    assert "GRANT plain_owner TO db_admin" in statements
    assert "GRANT shop_owner TO db_admin" in statements
    assert "ALTER TABLE public.orders OWNER TO db_admin" in statements
    assert "ALTER ROLE db_admin BYPASSRLS" in statements
    assert "GRANT SET ON PARAMETER log_statement TO db_admin" in statements


def psql(lab: PostgreSQLLab, lines: list[str]) -> str:
    """What the server's own client prints; begins in a database where none of the statements belong."""
    url = lab.server.server.url("template1")
    done = subprocess.run(
        ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", url],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_psql_runs_what_the_command_prints_each_in_its_database(lab: PostgreSQLLab) -> None:
    psql(lab, script("shop", needed(lab, "db_admin"), True))
    try:
        assert [grant.statement for grant in needed(lab, "db_admin")] == ["", ""]
    finally:
        take_back(lab, "db_admin")


@pytest.mark.parametrize("name", ["Shop", "shop=1", "we\"ird 'na\\me", "two\nlines", "顧客"])
def test_psql_enters_a_database_of_any_name(lab: PostgreSQLLab, name: str) -> None:
    lab.server.run("postgres", f"CREATE DATABASE {quoted(name)}")
    try:
        assert psql(lab, [entering(name), "SELECT current_database();"]) == f"{name}\n"
    finally:
        lab.server.run("postgres", f"DROP DATABASE {quoted(name)}")


@pytest.mark.usefixtures("whole_copy")
def test_with_the_statements_run_the_role_does_the_whole_procedure(lab: PostgreSQLLab) -> None:
    give(lab, needed(lab, "db_admin"))
    assert [grant.statement for grant in needed(lab, "db_admin")] == ["", ""]
    rows_of_superuser = 0
    with engine(lab) as made:
        rows_of_superuser = sum(mark.rows or 0 for mark in made.verifier.fingerprint(None).values())
    try:
        with engine(lab, user="db_admin") as made:
            made.lock.fence()
            diagnosis = made.diagnostics.diagnose(Thresholds())
            lacking = [f.evidence for f in diagnosis.findings if f.code in ("missing_privilege", "cannot_tell")]
            assert len(lacking) == 2
            assert "only a superuser can roll back" in lacking[0]
            assert lacking[0].endswith("extension amcheck, closed.things, closed.things_id_seq, schema closed")
            assert "salvage" in lacking[1]
            backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
            assert made.backups.back_up("pg_basebackup", lab.folder, "two", PLAIN).verified
            gate = made.gate.read_state()
            made.gate.cut(gate, MARKER)
            baseline = made.verifier.fingerprint(None)
            assert all(mark.readable for mark in baseline.values())
            assert sum(mark.rows or 0 for mark in baseline.values()) == rows_of_superuser
            image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
            assert image.kind == "copy"
            for kind in ("repair", "rebuild"):
                for action in made.planner.plan(kind, diagnosis, Thresholds(), None, False):
                    made.actions.perform(action, False)
            assert made.verifier.fingerprint(None) == baseline
            assert [check for check in made.verifier.check(None) if not check.passed] == []
            assert made.benchmark.measure(made.benchmark.queries(None)[0], 2).error is None
            side = made.rollback.restore_beside(image, backup, PLAIN)
            assert made.verifier.fingerprint(None, side) == baseline
            broken = made.rollback.swap(side, gate, MARKER)
            made.gate.open(gate, 0.5)
            made.gate.open(gate, None)
            assert made.gate.differences(gate) == []
            assert made.rollback.clean() == [broken]
        assert lab.server.run(lab.name, "SHOW work_mem", user="shop_app") == [("5MB",)]
    finally:
        take_back(lab, "db_admin")


def test_it_also_rolls_back_from_a_dump_but_for_what_diagnosis_names(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(lab, needed(lab, "db_admin"))
    monkeypatch.setattr(disk, "_free", lambda _, places: [1000] * len(places))
    try:
        with engine(lab, user="db_admin") as made:
            gate = made.gate.read_state()
            backup = made.backups.back_up("pg_dump", lab.folder, "three", PLAIN)
            image = made.backups.image(backup, made.verifier.fingerprint(None), lab.folder, "image", PLAIN)
            assert image.kind == "dump"
            with pytest.raises(EngineError, match=r'must be member of role "postgres".*ALTER SCHEMA closed'):
                made.rollback.restore_beside(image, backup, PLAIN)
            lab.sql("ALTER SCHEMA closed OWNER TO shop_owner")
            backup = made.backups.back_up("pg_dump", lab.folder, "four", PLAIN)
            image = made.backups.image(backup, made.verifier.fingerprint(None), lab.folder, "image", PLAIN)
            with pytest.raises(AccessDenied, match='permission denied to create extension "amcheck"'):
                made.rollback.restore_beside(image, backup, PLAIN)
            lab.sql("DROP EXTENSION amcheck")
            backup = made.backups.back_up("pg_dump", lab.folder, "five", PLAIN)
            made.gate.cut(gate, MARKER)
            baseline, definitions = made.verifier.fingerprint(None), made.verifier.definitions()
            image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
            side = made.rollback.restore_beside(image, backup, PLAIN)
            assert made.verifier.definitions(side) == definitions
            made.rollback.swap(side, gate, MARKER)
            assert made.verifier.fingerprint(None) == baseline
            made.gate.open(gate, None)
            assert made.gate.differences(gate) == []
            made.rollback.clean()
        lab.sql("CREATE EXTENSION amcheck; ALTER SCHEMA closed OWNER TO postgres")
    finally:
        take_back(lab, "db_admin")


def test_with_any_one_statement_left_out_diagnosis_tells_that_right(lab: PostgreSQLLab) -> None:
    everything = needed(lab, "half_admin")
    told = []
    for left_out in [
        grant for grant in everything if grant.statement and not grant.statement.startswith("CREATE ROLE")
    ]:
        give(lab, [grant for grant in everything if grant is not left_out])
        try:
            with engine(lab, user="half_admin") as made:
                if left_out.statement.startswith("GRANT CONNECT"):
                    with pytest.raises(AccessDenied, match="permission denied for database"):
                        made.diagnostics.diagnose(Thresholds())
                    continue
                findings = [
                    f for f in made.diagnostics.diagnose(Thresholds()).findings if f.code == "missing_privilege"
                ]
            [found] = [f for f in findings if f.hint != NO_STATEMENT]
            assert found.evidence == left_out.purpose
            assert left_out.statement in found.hint
            assert found.severity == left_out.severity
            told.append(left_out.statement)
        finally:
            take_back(lab, "half_admin")
    assert len(told) == len([grant for grant in everything if grant.statement]) - 2
