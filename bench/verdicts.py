"""`--part aa` and `--part better`: does the benchmark of a maintenance say what is so?

A/A: a database that was just rebuilt is rebuilt again and again; each run has to say "no measurable change". Better:
one table in five of a database is bloated, and an optimization has to say "faster".
"""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from . import on_mariadb, on_postgresql, on_sqlite
from .console import Console, Run

GIGABYTES = 0.02
Stage = on_postgresql.Stage | on_mariadb.Stage | on_sqlite.Stage
STAGES: dict[str, Callable[[Path], Stage]] = {
    "postgresql": on_postgresql.Stage,
    "mariadb": on_mariadb.Stage,
    "sqlite": on_sqlite.Stage,
}


@dataclass(frozen=True)
class Expected:
    """What the runs of a part have to say, and in how many of a hundred."""

    kind: str
    change: str
    least: float


PARTS = {"aa": Expected("rebuild", "no_change", 0.93), "better": Expected("optimize", "faster", 0.95)}


def play(part: str, engine: str, folder: Path, runs: int) -> Counter[str]:
    """Return how often which verdict was given; each is told as it comes."""
    expected, stage = PARTS[part], STAGES[engine](folder)
    try:
        stage.fill(GIGABYTES)
        verdicts: Counter[str] = Counter()
        with database(stage) if part == "aa" else nullcontext():
            if part == "aa":
                stage.console.maintain("rebuild", "bench")
            for number in range(1, runs + 1):
                with database(stage) if part == "better" else nullcontext():
                    run = stage.console.maintain(expected.kind, "bench")
                change, ratio = verdict(stage.console)
                verdicts[change] += 1
                print(f"{engine} {number}/{runs} {told(run, change, ratio, expected)}", file=sys.stderr, flush=True)
        return verdicts
    finally:
        stage.close()


def told(run: Run, change: str, ratio: float | None, expected: Expected) -> str:
    """Return one run in a line, with the part of its outage that was measuring."""
    measuring = run.seconds("cut_connections", "measure") + run.seconds("benchmark", "measure")
    measuring += run.seconds("benchmark", "load test")
    mark = "✓" if change == expected.change else "✕"
    times = "–" if ratio is None else f"{ratio:.2f}"
    return f"{mark} {change}, after/before {times}; measuring {measuring:.1f} s of {run.outage.seconds:.1f} s of outage"


def database(stage: Stage) -> AbstractContextManager[None]:
    """The database as it was made; of PostgreSQL as long as the context lasts."""
    if isinstance(stage, on_postgresql.Stage):
        return stage.copy()
    stage.again()
    return nullcontext()


def verdict(console: Console) -> tuple[str, float | None]:
    """Return what the last run said of its queries: the change, and after / before."""
    with closing(sqlite3.connect(console.home / "control.sqlite3")) as control:
        [(change, ratio)] = control.execute("SELECT change, ratio FROM run_target ORDER BY id DESC LIMIT 1")
    return str(change), ratio


def summary(part: str, verdicts: Counter[str]) -> str:
    """Return the share of right verdicts beside the least that is asked for."""
    expected = PARTS[part]
    right, runs = verdicts[expected.change], verdicts.total()
    holds = "holds" if runs and right / runs >= expected.least else "MISSED"
    others = ", ".join(f"{n} {change or 'nothing'}" for change, n in verdicts.items() if change != expected.change)
    return (
        f"{right} of {runs} say {expected.change} (at least {expected.least:.0%}): {holds}. Others: {others or 'none'}."
    )
