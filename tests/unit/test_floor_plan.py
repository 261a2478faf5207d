"""The three engines have the same rooms; what one has more stands in docs/architecture.md, with the reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ROOT / "maintenance" / "engines"
PRODUCTS = {"postgresql": "PostgreSQL", "mysql": "MariaDB, MySQL", "sqlite": "SQLite"}
PARTS = {path.stem for path in (ENGINES / "parts").glob("[!_]*.py")} - {"stopping"}
BELOW = {"target", "connection", "driver_errors", "capabilities", "fingerprints", "definitions", "restore", "repair"}


@pytest.mark.parametrize("product", PRODUCTS)
def test_an_engine_has_the_rooms_of_the_floor_plan_and_says_which_more(product: str) -> None:
    rooms = {path.stem for path in (ENGINES / product).iterdir() if not path.stem.startswith("__")}
    missing = {"rehearsal"} if product == "mysql" else set()
    assert (PARTS | BELOW) - rooms == missing
    row = next(
        line
        for line in (ROOT / "docs" / "architecture.md").read_text().splitlines()
        if line.startswith(f"| {PRODUCTS[product]} |")
    )
    assert rooms - PARTS - BELOW == set(re.findall(r"`(\w+)`", row))
