"""Text that sorts otherwise since its indexes were built: found, built anew, and only then recorded."""

from __future__ import annotations

import pytest

from maintenance.engines.values import Diagnosis, Thresholds
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import MARKER, PLAIN, engine

INDEXES = "words_by_default words_by_german words_lowered seen_w"


@pytest.fixture
def lab(lab: PostgreSQLLab) -> PostgreSQLLab:
    """The database's own collation and one of somebody's have another version than is recorded."""
    lab.server.run("postgres", f"DROP DATABASE {lab.name}")
    lab.server.run(
        "postgres",
        f"""CREATE DATABASE {lab.name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'
            LOCALE_PROVIDER icu ICU_LOCALE 'en-US'""",
    )
    for statement in (
        "CREATE COLLATION german (provider = icu, locale = 'de-DE')",
        "CREATE TABLE words (w text, g text COLLATE german, n int PRIMARY KEY)",
        "INSERT INTO words SELECT i::text, i::text, i FROM generate_series(1, 100) i",
        "CREATE INDEX words_by_default ON words (w)",
        "CREATE INDEX words_by_german ON words (g)",
        "CREATE INDEX words_lowered ON words (n) WHERE lower(w) > 'a'",
        "CREATE TABLE numbers (n int PRIMARY KEY)",
        "CREATE MATERIALIZED VIEW seen AS SELECT w FROM words",
        "CREATE INDEX seen_w ON seen (w)",
        f"UPDATE pg_database SET datcollversion = '1.0' WHERE datname = '{lab.name}'",
        "UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'german'",
    ):
        lab.sql(statement)
    return lab


def mismatches(diagnosis: Diagnosis) -> list[str]:
    return [str(finding.evidence) for finding in diagnosis.findings if finding.code == "collation_mismatch"]


def files(lab: PostgreSQLLab) -> dict[object, object]:
    kept = "relkind = 'i' AND relnamespace = 'public'::regnamespace"
    rows = lab.sql(f"SELECT relname, pg_relation_filenode(oid) FROM pg_class WHERE {kept}")
    return {row[0]: row[1] for row in rows}


def test_what_is_ordered_by_it_is_built_anew_and_then_the_version_is_recorded(lab: PostgreSQLLab) -> None:
    before = files(lab)
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        assert len(mismatches(diagnosis)) == 2
        plan = made.planner.plan("repair", diagnosis, Thresholds(), None, False)
        assert [(a.kind, a.object, a.stage) for a in plan] == [
            ("reindex", "public.words", 1),
            ("reindex", "public.seen", 1),
            ("refresh_collation", "public.german", 2),
            ("refresh_collation", lab.name, 2),
            ("analyze", "public.words", 3),
            ("analyze", "public.seen", 3),
        ]
        assert "public.words_by_default, public.words_by_german, public.words_lowered" in plan[0].reason
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)  # Under the cut it is hidden under another name.
        for planned in plan:
            made.actions.perform(planned, False)
            made.actions.perform(planned, False)  # As after a crash just behind it.
        made.gate.open(gate, None)
        assert mismatches(made.diagnostics.diagnose(Thresholds())) == []
    after = files(lab)
    assert {name for name in after if after[name] != before[name]} == {*INDEXES.split(), "words_pkey"}


def test_a_rebuild_records_it_too_and_optimize_mends_it(lab: PostgreSQLLab) -> None:
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        rebuild = [a.kind for a in made.planner.plan("rebuild", diagnosis, Thresholds(), None, False)]
        assert rebuild == [*["vacuum_full"] * 3, *["refresh_collation"] * 2, *["vacuum"] * 3]
        optimize = [a.kind for a in made.planner.plan("optimize", diagnosis, Thresholds(), None, False)]
        assert optimize == ["reindex", "reindex", "refresh_collation", "refresh_collation"]


def test_the_version_is_not_recorded_while_something_keeps_the_old_order(lab: PostgreSQLLab) -> None:
    lab.sql("CREATE TABLE by_word (w text) PARTITION BY RANGE (w)")
    with engine(lab) as made:
        diagnosis = made.diagnostics.diagnose(Thresholds())
        told = [f for f in diagnosis.findings if f.code == "collation_mismatch"]
        assert ["public.by_word" in f.hint for f in told] == [False, True]
        plan = made.planner.plan("repair", diagnosis, Thresholds(), None, False)
        assert [a.object for a in plan if a.kind == "refresh_collation"] == ["public.german"]
        some = made.planner.plan("rebuild", diagnosis, Thresholds(), ["public.numbers"], False)
        assert [a.kind for a in some] == ["vacuum_full", "vacuum"]


def test_an_account_that_does_not_own_it_leaves_the_recording_to_who_does(lab: PostgreSQLLab) -> None:
    lab.server.run("postgres", f"ALTER DATABASE {lab.name} OWNER TO plain_owner")
    lab.sql("ALTER TABLE words OWNER TO plain_owner; ALTER MATERIALIZED VIEW seen OWNER TO plain_owner")
    with engine(lab, user="plain_owner") as made:
        found, both = made.diagnostics.diagnose(Thresholds()), ["public.words", "public.seen"]
        one = made.planner.plan("repair", found, Thresholds(), both[:1], False)
        assert "refresh_collation" not in {a.kind for a in one}
        plan = made.planner.plan("repair", found, Thresholds(), both, False)
        assert [a.object for a in plan if a.kind == "refresh_collation"] == [lab.name]


@pytest.mark.usefixtures("whole_copy")
def test_a_database_whose_collation_changed_can_be_copied_for_a_rollback(lab: PostgreSQLLab) -> None:
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        gate = made.gate.read_state()
        made.gate.cut(gate, MARKER)
        baseline = made.verifier.fingerprint(None)
        image = made.backups.image(backup, baseline, lab.folder, "image", PLAIN)
        assert image.kind == "copy"
        made.rollback.swap(made.rollback.restore_beside(image, backup, PLAIN), gate, MARKER)
        made.gate.open(gate, None)
        assert made.verifier.fingerprint(None) == baseline
        assert len(mismatches(made.diagnostics.diagnose(Thresholds()))) == 2  # Its indexes are the old ones.
