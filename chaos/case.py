"""One case of the matrix, and how the cases are drawn."""

from __future__ import annotations

import random
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

ENGINES = ("sqlite", "postgresql", "mariadb", "mysql")
KINDS = ("repair", "optimize", "rebuild")
PATHS = ("success", "backup failed", "action failed", "integrity error", "not improved", "cancelled", "timed out")
RELEASED = ("success", "backup failed", "not improved")
"""Paths on which the data is whole at every instant: `release` opens it as it is. A repair may be half done."""
MOMENTS = ("back_up", "cut", "fingerprint", "image", "perform", "check")
"""Where a cancel or the time limit arrives."""
DELAYS = (0.01, 0.03, 0.08, 0.2, 0.5)
"""Seconds after a point: the death comes in the midst of an effect."""


@dataclass(frozen=True)
class Case:
    engine: str
    kind: str
    path: str
    """One of PATHS, with `@moment` for a cancel or the time limit."""
    point: str = ""
    """Where the maintenance dies, as DBMAINT_CRASH_AT; empty: nowhere."""
    again: tuple[str, ...] = ()
    """Where those die too that come after it, one after the other: `recover`, or `release` where that is wanted."""
    released: bool = False
    """A person gives `release` before anybody recovers."""
    variant: int = 0
    """Bit 1: an application writes all the time; bit 2: WAL mode, or a superuser as the application."""

    @property
    def busy(self) -> bool:
        return bool(self.variant & 1)

    @property
    def other(self) -> bool:
        return bool(self.variant & 2)

    @property
    def may_need_people(self) -> bool:
        """docs/safety.md: SQLite's lock ends with the process, so nobody can tell who changed the rows since."""
        return self.engine == "sqlite" and self.path in ("action failed", "integrity error")

    def __str__(self) -> str:
        words = f"{self.engine} {self.kind}, {self.path}, dies at {self.point or 'no point'}"
        if self.released:
            words += ", released by hand"
        return words + (f" and again at {', '.join(self.again)}" if self.again else "")

    @property
    def command(self) -> str:
        """Repeats exactly this case."""
        words = ["python", "-m", "chaos", "--engine", self.engine, "--type", self.kind, "--path", self.path]
        words += ["--point", self.point] if self.point else []
        words += [word for point in self.again for word in ("--again", point)]
        words += ["--released"] if self.released else []
        return shlex.join([*words, "--variant", str(self.variant)])


@dataclass(frozen=True)
class Cell:
    """Cases that pass much the same points."""

    engine: str
    path: str
    """One of PATHS, with its `@moment`."""

    @property
    def first(self) -> Case:
        """Undisturbed: it tells the points, and is looked at as all others are."""
        return Case(self.engine, "rebuild", self.path)

    def draw(self, dice: random.Random, kind: str, points: list[str], died_at: Counter[str]) -> Case:
        """Points at which fewest died so far come first, each name once however often it is passed."""
        names = sorted(set(points))
        fewest = min(died_at[name] for name in names)
        name = dice.choice([name for name in names if died_at[name] == fewest])
        died_at[name] += 1
        point = f"{name}#{dice.randint(1, points.count(name))}"
        if dice.random() < 0.25:
            point += f"+{dice.choice(DELAYS)}"
        released = self.path in RELEASED and kind != "repair" and dice.random() < 0.2
        deaths = dice.choices((0, 1, 2), (65, 20, 15))[0]
        again = tuple(f"#{dice.randint(1, 30 if released else 250)}" for _ in range(deaths))
        return Case(self.engine, kind, self.path, point, again, released, dice.choice((0, 0, 1, 2, 3)))


def turns(engines: tuple[str, ...], dice: random.Random) -> Iterator[tuple[Cell, str]]:
    """Cell and type of maintenance, for ever: all combinations in shuffled order, engines in turn."""
    while True:
        rounds = []
        for engine in engines:
            combinations = list(product(PATHS, KINDS))
            dice.shuffle(combinations)
            rounds.append([(Cell(engine, _with_moment(path, dice)), kind) for path, kind in combinations])
        for side_by_side in zip(*rounds, strict=True):
            yield from side_by_side


def _with_moment(path: str, dice: random.Random) -> str:
    return f"{path}@{dice.choice(MOMENTS)}" if path in ("cancelled", "timed out") else path
