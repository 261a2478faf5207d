"""SQLite: rows saved from damaged files beside what .recover of SQLite's own shell saves from the same files."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from .figures import Row, spread

SEEDS = range(100_000, 100_240)
"""Other damages than those of the tests."""


@dataclass
class Saved:
    """Rows of one kind of damage, in files repaired with leave to lose rows."""

    true: int = 0
    here: int = 0
    recovered: int = 0


def rows(folder: Path) -> tuple[str, list[Row]]:
    """Return the title, which names the shell's version, and three lines for each kind of damage."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dbmaint_site.settings")
    import django

    django.setup()
    from tests.field.sqlite.oracle import judge
    from tests.field.sqlite.shell import version

    found: defaultdict[str, Saved] = defaultdict(Saved)
    for seed in SEEDS:
        verdict = judge(seed, folder)
        if verdict.leave:
            kind = found[verdict.damage]
            kind.true, kind.here = kind.true + verdict.true, kind.here + verdict.saved
            kind.recovered += verdict.recovered
    lines = [line for damage, kind in sorted(found.items()) for line in _lines(damage, kind)]
    return f"SQLite: rows saved with leave, beside .recover of sqlite3 {version()}", lines


def _lines(damage: str, kind: Saved) -> list[Row]:
    return [
        Row(f"{damage}: saved of {kind.true:,} rows", spread([kind.here]), None, "rows"),
        Row(f"{damage}: saved by .recover", spread([kind.recovered]), None, "rows"),
        Row(f"{damage}: .recover ÷ here", spread([kind.recovered / max(1, kind.here)]), 1.0, "×"),
    ]
