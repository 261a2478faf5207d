"""docs/specification.md names only what exists, and every section of the specification is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/specification.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|") and not line.startswith(("| specification", "|---"))
]


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def missing(name: str) -> str | None:
    """What of `path::test` does not exist."""
    path, _, test = name.partition("::")
    if not (ROOT / path).exists():
        return path
    return None if not test or test in functions(ROOT / path) else name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_tests_that_exist(row: list[str]) -> None:
    tests = re.findall(r"`([^`]+)`", row[2])
    assert tests, "no test shows it"
    assert [wrong for name in tests if (wrong := missing(name))] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_places_that_exist(row: list[str]) -> None:
    places = [word for word in re.findall(r"`([\w/.]+)`", row[1]) if "/" in word]
    inside = [place if (ROOT / place).exists() else f"maintenance/{place}" for place in places]
    documents = [f"docs/{name}" for name in re.findall(r"\]\((\w+\.md)\)", row[1])]
    assert [place for place in [*inside, *documents] if not (ROOT / place).exists()] == []


def test_every_section_is_there() -> None:
    assert [int(n) for n in re.findall(r"^## (\d+)", TEXT, re.MULTILINE)] == list(range(1, 11))


def test_a_wrong_name_would_be_noticed() -> None:
    assert missing("tests/unit/test_specification.py::test_nothing_of_the_kind")
    assert missing("tests/no_such_file.py")
    assert missing("tests/unit/test_specification.py::test_every_section_is_there") is None
