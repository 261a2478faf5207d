"""SQLite's own shell, by whose .recover a salvage is measured: a current one where deploy/sqlite.sh could build it."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

HOME = Path(sys.prefix) / "sqlite"
CORPUS = HOME / "corpus"


@cache
def shell() -> str:
    return str(HOME / "sqlite3") if (HOME / "sqlite3").exists() else "sqlite3"


@cache
def version() -> str:
    return subprocess.run([shell(), "--version"], capture_output=True, text=True, check=True).stdout.split()[0]


def recover(damaged: Path, target: Path) -> None:
    """What an administrator types: sqlite3 damaged .recover | sqlite3 target."""
    target.unlink(missing_ok=True)
    script = subprocess.run([shell(), "-batch", str(damaged), ".recover"], capture_output=True, timeout=60).stdout
    subprocess.run([shell(), "-batch", str(target)], input=script, capture_output=True, timeout=60)
