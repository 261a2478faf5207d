"""Where reports are put: several targets of a run may end at the same instant."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from reports import files


def test_two_threads_may_make_the_same_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`maintain --foreground` works on all databases in one process; the last two make the report at once."""
    together, replace = Barrier(2), os.replace

    def at_once(*names: Any) -> None:
        together.wait(5)
        replace(*names)

    monkeypatch.setattr(os, "replace", at_once)
    path = tmp_path / "EM-2026-0001-report.pdf"
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda made: files.put(made, path), [b"same", b"same"])) == [path, path]
    assert path.read_bytes() == b"same"
    assert list(tmp_path.iterdir()) == [path]
