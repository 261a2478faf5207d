"""Diagnosis of 10,000 tables: how many statements, and how long."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine as Door

from maintenance.engines.postgresql import diagnosis as diagnosing
from maintenance.engines.values import Diagnosis, Thresholds
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import engine

MANY = 10_000


def make_tables(lab: PostgreSQLLab, first: int, last: int) -> None:
    """A transaction for each hundred: each table takes three locks."""
    lab.sql(
        f"""DO $$ BEGIN FOR i IN {first}..{last} LOOP
              EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY)', i);
              IF i % 10 = 0 THEN
                EXECUTE format('INSERT INTO many_%1$s VALUES (1); CREATE SEQUENCE n_%1$s OWNED BY many_%1$s.id', i);
              END IF;
              IF i % 100 = 0 THEN COMMIT; END IF;
            END LOOP; END $$"""
    )


def diagnosed(lab: PostgreSQLLab) -> tuple[Diagnosis, int, float]:
    """With the number of statements and the seconds."""
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Door, "before_cursor_execute", count)
    try:
        begun = time.monotonic()
        with engine(lab) as made:
            diagnosis = made.diagnostics.diagnose(Thresholds())
        return diagnosis, len(statements), time.monotonic() - begun
    finally:
        event.remove(Door, "before_cursor_execute", count)


@pytest.mark.rare
def test_the_statements_of_a_diagnosis_do_not_grow_with_the_tables(
    lab: PostgreSQLLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How many tables are examined in a given time depends on the machine: none here.
    monkeypatch.setattr(diagnosing, "EXAMINE_SECONDS", 0.0)
    lab.fill()
    make_tables(lab, 1, 100)
    _, few, _ = diagnosed(lab)
    make_tables(lab, 101, MANY)
    lab.sql("INSERT INTO many_5000 VALUES (7)")
    lab.sql("SELECT setval(format('n_%s', i * 10), 5) FROM generate_series(1, 1000) i")
    diagnosis, many, seconds = diagnosed(lab)
    assert len(diagnosis.tables) == MANY + 2
    assert [f.object for f in diagnosis.findings if f.code == "sequence_behind"] == ["public.many_5000"]
    # A statement for hundreds of tables, not for each.
    assert many - few < MANY / 40
    assert seconds < 150, "it takes six; this is for slow machines"
    print(f"{MANY} tables: {many} statements ({few} for 100 tables), {seconds:.1f} s")
