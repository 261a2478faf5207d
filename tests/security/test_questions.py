"""Functional checks and benchmark queries tell true, false, a number or a class of error, whatever they ask."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from maintenance.engines.errors import Damaged, EngineError
from maintenance.engines.messages import msg
from maintenance.engines.sqlite import SQLite
from maintenance.engines.values import Limits, Tag
from maintenance.workflow.steps.context import Context
from maintenance.workflow.steps.functional import functional_checks
from tests.engines.lab_sqlite import SQLiteLab

SECRET = "the salary of the director"
NEITHER = "it answers neither true or false nor a number"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SQLite]:
    lab = SQLiteLab(tmp_path / "shop")
    lab.fill()
    lab.sql("CREATE TABLE secrets (secret TEXT)")
    lab.sql(f"INSERT INTO secrets VALUES ('{SECRET}')")
    lab.sql("CREATE VIRTUAL TABLE words USING fts5(word)")
    made = SQLite(lab.url, Tag(1, 1), Limits(statement_seconds=20))
    yield made
    made.close()


def checked(benchmark: object, query: str) -> tuple[bool, str]:
    """What is kept of a functional check: whether it passed, and the words."""
    ctx = SimpleNamespace(
        setting=SimpleNamespace(functional_checks=[query]), engine=SimpleNamespace(benchmark=benchmark)
    )
    [check] = functional_checks(cast(Context, ctx))
    return check.passed, str(check.detail)


class Answering:
    """A database with this answer to everything."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def query(self, sql: str) -> Any:
        if isinstance(self.answer, EngineError):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "passed", "words"),
    [
        ([(True,)], True, ""),
        ([(12,)], True, ""),
        ([(Decimal("0.5"), SECRET)], True, ""),
        ([(False, SECRET)], False, "returned false"),
        ([(0,)], False, "returned 0"),
        ([(0.0,)], False, "returned 0"),
        ([(None,)], False, "returned NULL"),
        ([], False, "returned no row"),
        ([(SECRET,)], False, NEITHER),
        ([("",)], False, NEITHER),
        ([(SECRET.encode(),)], False, NEITHER),
        ([([SECRET],)], False, NEITHER),
        (Damaged("asking", "it", f"invalid input syntax: {SECRET}"), False, "an error of class Damaged"),
        (Damaged("asking", "it", msg("error {code}", code=7)), False, "error 7"),
    ],
)
def test_a_functional_check_keeps_no_more(answer: object, passed: bool, words: str) -> None:
    assert checked(Answering(answer), "SELECT …") == (passed, words)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT secret FROM secrets",
        "SELECT json_extract('{}', (SELECT secret FROM secrets))",
        "SELECT 1 FROM words WHERE words MATCH (SELECT '(' || secret FROM secrets)",
        "SELECT load_extension((SELECT secret FROM secrets))",
        "SELECT readfile('/etc/hostname')",
        "SELECT writefile('/tmp/x', 'x')",
        "SELECT edit('x')",
        "SELECT fts3_tokenizer('x', zeroblob(8))",
        "SELECT name FROM pragma_database_list",
        "SELECT file FROM pragma_database_list",
        "SELECT 1 FROM pragma_journal_mode('delete')",
        "PRAGMA database_list",
        "ATTACH '/tmp/other.db' AS other",
        "VACUUM INTO '/tmp/other.db'",
        "SELECT 1; SELECT 2",
        "INSERT INTO secrets VALUES (1) RETURNING 1",
        "SELECT randomblob(900000000)",
        (
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 100)"
            " SELECT group_concat(hex(zeroblob(1000000))) FROM n"
        ),
    ],
)
def test_sqlite_tells_nothing_of_rows_files_or_settings(engine: SQLite, query: str) -> None:
    passed, words = checked(engine.benchmark, query)
    assert not passed
    sample = engine.benchmark.measure(query, 1)
    told = words + json.dumps(str(sample.error or "")) + words
    for leak in (SECRET, "salary", "shop", "bad JSON", "syntax error near"):
        assert leak not in told
    assert words == NEITHER or words.startswith(("SQLite refused it: ",))


def test_a_check_of_three_million_rows_takes_little_memory(engine: SQLite) -> None:
    rows = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 3000000) SELECT i, i, i FROM n"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert checked(engine.benchmark, rows) == (True, "")
    with engine.benchmark.asking() as ask:
        ask(rows)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
