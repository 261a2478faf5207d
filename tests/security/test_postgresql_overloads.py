"""Whoever may create in a database of PostgreSQL gets no code of his run with the console's rights.

A first whole run shows in the server's log every function, operator and cast that our statements name. For each of
them overloads are planted where the applications' path of names leads first, with the very types and with types that
fit better. A second run, in which each of these would write a line into the log, then calls none; what the owner of
the tables wrote into indexes, constraints, columns and triggers runs with his rights or not at all.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from typing import get_args

import psycopg2
import pytest

from maintenance.engines import open_engine
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.postgresql.image import Images
from maintenance.engines.values import Limits, MaintenanceType, Tag, Thresholds
from tests.engines.conftest import short_folder
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer
from tests.engines.postgresql.world import MARKER, PLAIN

TYPES = ["oid", "name", "text", "int", "bigint", "numeric", '"char"']
SMALL = Thresholds(minimum_bytes=0)

PLANT = """
CREATE FUNCTION public.planted(text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE LOG 'PLANTED % as %, superuser %', $1, current_user,
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user);
END $$;
CREATE FUNCTION public.ran(what text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
  RAISE LOG 'RAN % as %, superuser %', what, current_user,
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user);
  BEGIN
    PERFORM pg_catalog.set_config('role', 'postgres', false);
    RAISE LOG 'ESCAPED by % to %', what, current_user;
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  RETURN true;
END $$;
CREATE FUNCTION public.ran_number(what text, n bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.ran(what); RETURN n; END $$;
CREATE FUNCTION public.ran_trigger() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.ran('trigger'); RETURN NEW; END $$
"""

TABLES = """
CREATE TYPE public.mood AS ENUM ('good', 'bad');
CREATE FUNCTION public.mood_text(public.mood) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.planted('cast mood to text'); RETURN 'x'; END $$;
CREATE CAST (public.mood AS text) WITH FUNCTION public.mood_text(public.mood) AS ASSIGNMENT;
CREATE FUNCTION public.mood_number(public.mood) RETURNS numeric IMMUTABLE LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.planted('cast mood to numeric'); RETURN 1; END $$;
CREATE CAST (public.mood AS numeric) WITH FUNCTION public.mood_number(public.mood) AS ASSIGNMENT;
CREATE FUNCTION public.mood_json(public.mood) RETURNS json IMMUTABLE LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.planted('cast mood to json'); RETURN '1'; END $$;
CREATE CAST (public.mood AS json) WITH FUNCTION public.mood_json(public.mood) AS ASSIGNMENT;
CREATE FUNCTION public.moods_equal(public.mood, public.mood) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
  $$ BEGIN PERFORM public.planted('mood = mood'); RETURN true; END $$;
CREATE OPERATOR public.= (LEFTARG = public.mood, RIGHTARG = public.mood, FUNCTION = public.moods_equal);
CREATE DOMAIN public.small AS int CHECK (public.ran('domain'));
CREATE TABLE public.kinds (mood public.mood PRIMARY KEY, id serial, size public.small);
INSERT INTO public.kinds (mood, size) VALUES ('good', 1), ('bad', 2);
CREATE SEQUENCE public.moody OWNED BY public.kinds.mood;
CREATE TABLE public.things (id serial PRIMARY KEY, mood public.mood REFERENCES public.kinds, n bigint,
  twice bigint GENERATED ALWAYS AS (public.ran_number('generated column', n)) STORED,
  CONSTRAINT kept CHECK (public.ran('check')));
INSERT INTO public.things (mood, n) SELECT 'good', i FROM pg_catalog.generate_series(1, 3000) i;
CREATE INDEX of_constant ON public.things (id) WHERE public.ran('index of a constant');
CREATE INDEX of_expression ON public.things (public.ran_number('index', n));
CREATE STATISTICS public.guess ON (public.ran_number('statistics', 1)), n FROM public.things;
CREATE UNIQUE INDEX once ON public.things (public.ran_number('unique', id));
CREATE TRIGGER always BEFORE INSERT OR UPDATE ON public.things FOR EACH ROW EXECUTE FUNCTION public.ran_trigger();
ALTER TABLE public.things ENABLE ALWAYS TRIGGER always;
CREATE VIEW public.seen AS SELECT * FROM public.things WHERE public.ran('view');
CREATE MATERIALIZED VIEW public.kept AS SELECT id FROM public.things WHERE public.ran('materialized view');
CREATE POLICY narrow ON public.things USING (public.ran('policy'));
ALTER TABLE public.things ENABLE ROW LEVEL SECURITY;
DELETE FROM public.things WHERE id % 3 = 0
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    folder = short_folder()
    settings = {"log_statement": "all", "log_line_prefix": "'%a|%d|'", "log_min_messages": "error"}
    try:
        with PostgreSQLServer.opened(folder, settings=settings) as opened:
            opened.run("postgres", "CREATE ROLE hostile LOGIN; CREATE ROLE db_admin LOGIN CREATEDB CREATEROLE")
            opened.run("postgres", "GRANT hostile, pg_monitor, pg_signal_backend TO db_admin")
            yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def logged(server: PostgreSQLServer) -> str:
    return "".join(file.read_text(errors="replace") for file in sorted((server.server.data / "log").iterdir()))


def prepared(server: PostgreSQLServer) -> PostgreSQLLab:
    """A database of an owner who is no superuser, with code of his wherever it fits."""
    made = server.fresh()
    server.run("postgres", f"ALTER DATABASE {made.name} OWNER TO hostile")
    for extension in ("amcheck", "pageinspect", "pg_visibility", "pgstattuple"):
        made.sql(f"CREATE EXTENSION {extension} SCHEMA public")
    # PostgreSQL lends an owner's rights to nobody: what is planted belongs to the one who plants it.
    for statement in (PLANT, TABLES):
        server.run(made.name, statement, "hostile")
    return made


def whole_run(lab: PostgreSQLLab, user: str, method: str) -> None:
    """Diagnosis, backup, cut, every type of maintenance, proof, measuring and a rollback that is forced."""
    made = open_engine(lab.url.set(username=user), Tag(7, 1), Limits(jobs=2, lock_seconds=5, cut_seconds=10))
    assert isinstance(made, PostgreSQL)
    try:
        made.sessions.facts()
        made.lock.fence()
        found = made.diagnostics.diagnose(SMALL)
        backup = made.backups.back_up("pg_dump", lab.folder, f"of-{user}-{method}", PLAIN)
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        assert [name for name, mark in baseline.items() if not mark.readable] == []
        assert [check for check in made.verifier.check(None) if not check.passed] == []
        image = made.backups.image(backup, baseline, lab.folder, f"image-{user}-{method}", PLAIN)
        for kind in get_args(MaintenanceType):
            for action in made.planner.plan(kind, found, SMALL, ["public.things", "public.kinds"], False):
                made.actions.perform(action, False)
        made.verifier.recount(None)
        made.verifier.check_again(None)
        queries = made.benchmark.queries(None)
        assert [sample.error for sample in made.benchmark.measure_all(queries, 1) if sample.error] == []
        side = made.rollback.restore_beside(image, backup, PLAIN)
        made.rollback.swap(side, gate, MARKER)
        assert made.verifier.fingerprint(None) == baseline
        made.gate.open(gate, None)
        made.rollback.clean()
    finally:
        made.close()


def overloads(server: PostgreSQLServer, database: str, log: str) -> list[str]:
    """Statements that plant one for whatever the statements in the log name."""
    words = set(re.findall(r"([a-z_][a-z0-9_]*)\s*\(", log.lower()))
    signatures = server.run(
        database,
        """SELECT proname, array_agg(DISTINCT pg_get_function_identity_arguments(oid)) FROM pg_proc
           WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a', 'w') AND pronargs < 7
             AND NOT EXISTS (SELECT 1 FROM unnest(proargtypes) t JOIN pg_type y ON y.oid = t WHERE y.typtype = 'p')
           GROUP BY proname""",
    )
    planted: list[str] = []
    for name, known in signatures:
        if name not in words:
            continue
        assert isinstance(known, list)
        wanted = {re.sub(r"\b(VARIADIC|IN) ", "", arguments) for arguments in known}
        wanted |= {kind for kind in TYPES if any("," not in arguments for arguments in known)}
        wanted |= {f"{first}, {second}" for first in TYPES for second in TYPES if any("," in a for a in known)}
        planted += [
            f"""CREATE FUNCTION public."{name}"({arguments}) RETURNS text LANGUAGE plpgsql AS
                $p$ BEGIN PERFORM public.planted('{name}'); RETURN NULL; END $p$"""
            for arguments in sorted(wanted)
        ]
    # What an extension brought has no overload that fits better than the very types.
    for name in ("verify_heapam", "bt_index_check", "get_raw_page", "bt_page_items", "bt_page_stats"):
        planted += [
            f"""CREATE FUNCTION public.{name}({arguments}) RETURNS text LANGUAGE plpgsql AS
                $p$ BEGIN PERFORM public.planted('{name}'); RETURN NULL; END $p$"""
            for arguments in ("relation regclass, check_toast boolean", "text, int", "oid, boolean", "regclass, int")
        ]
    planted.append(
        "CREATE FUNCTION public.counted(bigint) RETURNS bigint LANGUAGE plpgsql AS $p$ BEGIN PERFORM "
        "public.planted('count(*)'); RETURN 0; END $p$"
    )
    planted.append("CREATE AGGREGATE public.count(*) (SFUNC = public.counted, STYPE = bigint, INITCOND = '0')")
    operators = server.run(database, "SELECT DISTINCT oprname FROM pg_operator WHERE oprleft <> 0")
    named = set(re.findall(r"[-+*/<>=~!@#%^&|]+", log))
    for (operator,) in operators:
        if operator in named:
            for left in TYPES:
                for right in TYPES:
                    function = f"op_{len(planted)}"
                    planted.append(
                        f"""CREATE FUNCTION public.{function}({left}, {right}) RETURNS boolean LANGUAGE plpgsql AS
                            $p$ BEGIN PERFORM public.planted('operator {operator}'); RETURN false; END $p$;
                            CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right},
                              FUNCTION = public.{function})"""
                    )
    return planted


def plant(server: PostgreSQLServer, database: str, statements: list[str]) -> int:
    """As the owner of the database; how many were taken."""
    taken = 0
    connection = server.connect(database, "hostile")
    with connection.cursor() as cursor:
        for statement in statements:
            # Of two signatures that mean the same the second is refused, and so are operators without a meaning.
            with suppress(psycopg2.errors.DuplicateFunction, psycopg2.errors.InvalidFunctionDefinition):
                cursor.execute(statement)
                taken += 1
    connection.close()
    server.run(database, f"ALTER DATABASE {database} SET search_path = public, pg_catalog", "hostile")
    return taken


@pytest.mark.postgresql
@pytest.mark.every(2, 1)
@pytest.mark.parametrize("user", ["postgres", "db_admin"])
def test_nothing_that_was_planted_for_our_statements_is_called(
    server: PostgreSQLServer, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Images, "_little", lambda *_: False)
    lab = prepared(server)
    whole_run(lab, user, "first")
    log = logged(server)
    ours = "".join(line for line in log.splitlines(keepends=True) if not line.startswith("|") or "RAN" in line)
    assert plant(server, lab.name, overloads(server, lab.name, ours)) > 1000
    server.run("postgres", f"ALTER ROLE {user} SET search_path = public, pg_catalog")
    # The planted code is really found by those whose path leads to it.
    lab.server.run(lab.name, "SELECT pg_total_relation_size(oid) FROM pg_class WHERE relname = 'things'")
    assert "PLANTED" in logged(server)[len(log) :]
    before = len(logged(server))
    whole_run(lab, user, "second")
    new = logged(server)[before:]
    assert "shop" in new
    assert sorted(set(re.findall(r"PLANTED .*", new))) == []
    assert sorted(set(re.findall(r"ESCAPED .*", new))) == []
    assert re.findall(r"(?:RAN|PLANTED) .*, superuser t$", new, re.M) == []
    ran = set(re.findall(r"RAN (.*) as (\w+), superuser f", new))
    assert {who for _, who in ran} <= {"hostile", "pg_read_all_data"}
    assert {what for what, _ in ran} >= {"index", "check", "unique"}
