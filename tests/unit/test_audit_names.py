"""Each operation of the audit log has a name that people read, and no other operation has one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from maintenance.text.operations import OPERATIONS

ROOT = Path(settings.BASE_DIR)
OPERATION = re.compile(r"[a-z_]+\.[a-z_]+")
KINDS = ("person", "group")
"""Of `admin.py`, which says what was done to them."""
RECORDING = ("record", "append", "failed", "password", "code", "_end_waiting", "log_change", "_journaled")


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def written() -> Iterator[str]:
    """Every operation that the code writes, as far as it stands there as a word."""
    for path in (*(ROOT / "maintenance").rglob("*.py"), *(ROOT / "reports").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and called(node) in RECORDING:
                words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                yield from (word for word in words if OPERATION.fullmatch(word) or word == "login")
            elif (
                isinstance(node, ast.Assign)
                and getattr(node.targets[0], "id", "") == "wrong"
                and isinstance(node.value, ast.Constant)
            ):
                yield str(node.value.value)
            elif isinstance(node, ast.FunctionDef) and any(
                getattr(d, "id", "") == "refusals_audited" for d in node.decorator_list
            ):
                yield f"run.{node.name}_refused"


def operations() -> set[str]:
    found = set(written())
    found |= {f"{kind}.{done}" for kind in KINDS for done in ("created", "changed", "deleted")}
    tried = {name.partition(".")[0] for name in found if name.endswith((".wrong_password", ".unknown", ".wrong_code"))}
    return found | {f"{door}.locked" for door in tried}


@pytest.mark.long
def test_every_operation_has_a_name() -> None:
    assert operations() - set(OPERATIONS) == set()


def test_one_name_for_one_thing() -> None:
    names = [str(name) for name in OPERATIONS.values()]
    assert len(set(names)) == len(names)
