"""One case of the matrix, and how the cases are drawn."""

from __future__ import annotations

import random
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

ENGINES = ("sqlite", "postgresql", "mariadb")
KINDS = ("repair", "optimize", "rebuild")
PATHS = ("success", "backup failed", "action failed", "integrity error", "not improved", "cancelled", "timed out")
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
    again: str = ""
    """Where `recover` dies too."""
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
        return words + (f" and in recover at {self.again}" if self.again else "")

    @property
    def command(self) -> str:
        """Repeats exactly this case."""
        words = ["python", "-m", "chaos", "--engine", self.engine, "--type", self.kind, "--path", self.path]
        words += ["--point", self.point] if self.point else []
        words += ["--again", self.again] if self.again else []
        return shlex.join([*words, "--variant", str(self.variant)])


@dataclass(frozen=True)
class Cell:
    """Cases that pass much the same points."""

    engine: str
    path: str

    def first(self, dice: random.Random) -> Case:
        """Undisturbed: it tells the points, and is looked at as all others are."""
        return Case(self.engine, "rebuild", self._path(dice, "perform"))

    def draw(self, dice: random.Random, kind: str, points: list[str]) -> Case:
        """Each name of a point counts the same, however often it is passed."""
        name = dice.choice(sorted(set(points)))
        turn = dice.randint(1, points.count(name))
        point = f"{name}#{turn}"
        if "/" in name:
            # A folder of this time stands in it: its number among all points can be repeated.
            point = f"#{[n for n, passed in enumerate(points, 1) if passed == name][turn - 1]}"
        if dice.random() < 0.25:
            point += f"+{dice.choice(DELAYS)}"
        again = f"#{dice.randint(1, 30)}" if dice.random() < 0.25 else ""
        return Case(
            self.engine, kind, self._path(dice, dice.choice(MOMENTS)), point, again, dice.choice((0, 0, 1, 2, 3))
        )

    def _path(self, dice: random.Random, moment: str) -> str:
        return f"{self.path}@{moment}" if self.path in ("cancelled", "timed out") else self.path


def turns(engines: tuple[str, ...], dice: random.Random) -> Iterator[tuple[Cell, str]]:
    """Cell and type of maintenance, for ever: all combinations in shuffled order, engines in turn."""
    while True:
        rounds = []
        for engine in engines:
            combinations = list(product(PATHS, KINDS))
            dice.shuffle(combinations)
            rounds.append([(Cell(engine, path), kind) for path, kind in combinations])
        for side_by_side in zip(*rounds, strict=True):
            yield from side_by_side
