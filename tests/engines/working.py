"""What a maintenance does with an engine, step by step."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from maintenance.engines.archive import Seal
from maintenance.engines.base import Engine
from maintenance.engines.values import Action, Backup, Fingerprint, Image, Json, Loss, Thresholds
from tests.engines.lab import Lab

MARKER: Json = {"run": 5, "target": 7}


SMALL = Thresholds(minimum_bytes=10_000)
PLAIN = Seal()
KEPT = 8000
"""Orders that `fill` leaves."""


NEW_ORDER = "INSERT INTO orders (id, customer_id, status, note) VALUES ({number}, 1, 'new', 'after the backup')"


@contextmanager
def under_cut(engine: Engine) -> Iterator[Json]:
    """Fenced and cut; given back as it was, whatever happens."""
    engine.lock.fence()
    gate = engine.gate.read_state()
    engine.gate.cut(gate, MARKER)
    try:
        yield gate
    finally:
        engine.clear_interrupt()
        engine.gate.open(gate, None)


def backed_up(engine: Engine, lab: Lab, stem: str = "first") -> Backup:
    return engine.backups.back_up(engine.backups.methods[0], lab.folder, stem, PLAIN)


def imaged(engine: Engine, lab: Lab, backup: Backup) -> tuple[dict[str, Fingerprint], Image]:
    baseline = engine.verifier.fingerprint(None)
    return baseline, engine.backups.image(backup, baseline, lab.folder, "image", PLAIN)


def spoil(engine: Engine, lab: Lab, statement: str) -> None:
    """Writes into the live database although it is cut: as the administrator, or through our own lock."""
    if hasattr(lab, "under_cut"):
        lab.under_cut(engine, statement)
    else:
        lab.sql(statement)


def perform_all(engine: Engine, actions: list[Action], allow_data_loss: bool = False) -> list[Loss]:
    losses: list[Loss] = []
    for action in sorted(actions, key=lambda a: a.stage):
        losses += engine.actions.perform(action, allow_data_loss).losses
    return losses


def count_orders(engine: Engine) -> int:
    return int(str(engine.benchmark.query("SELECT count(*) FROM orders")[0][0]))


@contextmanager
def small_disk(folder: Path, size: str = "16k") -> Iterator[Path]:
    place = folder / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this account cannot mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
