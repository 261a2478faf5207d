"""One fresh SQLite file a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.lab_sqlite import SQLiteLab


@pytest.fixture
def lab(tmp_path: Path) -> SQLiteLab:
    return SQLiteLab(tmp_path / "shop")


@pytest.fixture
def wal_lab(tmp_path: Path) -> SQLiteLab:
    return SQLiteLab(tmp_path / "shop", "wal")
