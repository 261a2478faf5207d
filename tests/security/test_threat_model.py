"""docs/security.md names for every attack the tests that hold the defence; they are there, and none is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
ATTACKERS = (
    "anonymous",
    "a reader (manager, auditor, monitoring)",
    "a DBA",
    "an administrator of settings",
    "the owner of a target",
    "the owner of a neighbouring database",
    "the network",
    "who can write the control database",
    "who has the control database's file",
    "a taken-over web process",
)


def rows() -> list[list[str]]:
    """The table: who, what, defence, tests."""
    section = PAGE.split("## Who attacks, and what holds", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def references(cell: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", cell)


def names(path: Path) -> set[str]:
    """Functions and classes of a module, methods as Class::name."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def test_every_row_is_whole_and_its_tests_are_there() -> None:
    assert len(rows()) > 30
    for row in rows():
        assert len(row) == 4, row
        assert references(row[3]), row
        assert any(path.startswith("tests/security/") for path, _ in references(row[3])), row
        for path, name in references(row[3]):
            assert name in names(ROOT / path), f"{path}::{name}"


def test_everybody_who_could_attack_is_in_it() -> None:
    assert {row[0] for row in rows()} == set(ATTACKERS)


def test_no_module_of_security_tests_is_left_out() -> None:
    told = {path for row in rows() for path, _ in references(row[3])}
    there = {f"tests/security/{path.name}" for path in (ROOT / "tests/security").glob("test_*.py")}
    assert there - {"tests/security/test_threat_model.py"} <= told
