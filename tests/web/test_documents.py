"""The picture in docs/architecture.md and the table in CONTRIBUTING.md name the rooms that the contracts name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def floors() -> list[set[str]]:
    """Return the rooms of each layer of the import contract, from top to bottom, as documents call them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [{room.strip().removeprefix("maintenance.") for room in layer.split(":")} for layer in layers]


def drawn() -> list[set[str]]:
    """Return the rooms of each box of the second drawing, from top to bottom."""
    drawing = (ROOT / "docs/architecture.md").read_text().split("```mermaid")[2].split("```")[0]
    boxes = dict(re.findall(r'(\w+)\["?([^"\]]+)"?\]', drawing))
    chain = re.findall(r"^    (\w+)(?:\[[^\]]*\])? --> (\w+)", drawing, re.M)
    names = [chain[0][0], *(below for _, below in chain)]
    return [{room.strip() for room in boxes.get(name, name).split(":")[0].split("·")} for name in names]


def tabled() -> list[set[str]]:
    """Return the rooms of each row of the table, from top to bottom."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("| room (")[1].split("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    return [{room.removesuffix("/").removesuffix(".py") for room in re.findall(r"`([^`]+)`", row)} for row in rows]


@pytest.mark.parametrize("told", [drawn, tabled])
def test_documents_show_the_house_as_it_is(told: Callable[[], list[set[str]]]) -> None:
    assert told() == floors()


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_that_documents_name_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    missing = [
        path
        for path in re.findall(r"`([\w./]+/[\w.]+\.(?:py|md|js|sh))", text)
        if not any((ROOT / root / path).exists() for root in (".", "maintenance", "maintenance/engines", "static"))
    ]
    assert missing == []
