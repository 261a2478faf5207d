"""SQLite: rebuild and optimize beside the program sqlite3 with its own VACUUM; memory by size."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .console import Console, Run, RunFailed
from .figures import Row, ratios, spread
from .parts import part_rows

DATABASE = "bench"
TABLES, BLOATED = 10, 2
ROW_BYTES = 200
"""A row with its part of two indexes, as measured."""
ITS_OWN = {"VACUUM": "VACUUM", "REINDEX, VACUUM, ANALYZE": "REINDEX; VACUUM; ANALYZE"}
"""The second is what a rebuild promises: indexes made again, no gaps, fresh statistics."""


class Stage:
    """A template file, a copy of it for each measurement, and a console that knows the copy."""

    def __init__(self, folder: Path) -> None:
        self.template, self.file = folder / "template.db", folder / "bench.db"
        shutil.copy(self._empty(folder / "empty.db"), self.file)
        self.console = Console(folder / "sqlite-home")
        self.console.register(DATABASE, f"sqlite:///{self.file}")

    def _empty(self, path: Path) -> Path:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE visits (id INTEGER PRIMARY KEY)")
        return path

    def close(self) -> None:
        pass

    def fill(self, gigabytes: float) -> None:
        """Makes the template anew."""
        self.template.unlink(missing_ok=True)
        with closing(sqlite3.connect(self.template, isolation_level=None)) as connection:
            for statement in filling(int(gigabytes * 1e9 / ROW_BYTES / TABLES)):
                connection.execute(statement)

    def again(self) -> None:
        shutil.copy(self.template, self.file)

    def maintain(self, kind: str) -> Run:
        self.again()
        return self.console.maintain(kind, DATABASE)

    def its_own(self, statements: str) -> float:
        """Seconds of the program sqlite3 with these statements."""
        self.again()
        begun = time.perf_counter()
        subprocess.run(["sqlite3", "-batch", str(self.file), statements], stdin=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begun


def filling(rows: int) -> Iterator[str]:
    """Statements that make the tables, `rows` in each. Two in ten lose half of their rows."""
    yield "PRAGMA synchronous = OFF"
    yield "BEGIN"
    for number in range(1, TABLES + 1):
        name = f"visits_{number:02}"
        yield (
            f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, visitor INTEGER NOT NULL, status TEXT NOT NULL,"
            " at TEXT NOT NULL, note TEXT)"
        )
        yield (
            f"INSERT INTO {name} WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
            " SELECT i, i * 7919 % 10007, 'status ' || i % 3, datetime(1700000000 + i * 7, 'unixepoch'),"
            " printf('note %d of a visit that somebody wrote down in some more words than needed', i) FROM n"
        )
        yield f"CREATE INDEX {name}_visitor ON {name} (visitor)"
        yield f"CREATE INDEX {name}_at ON {name} (status, at)"
        if number <= BLOATED:
            yield f"DELETE FROM {name} WHERE id % 2 = 0"
    yield "COMMIT"
    yield "ANALYZE"


@dataclass
class Round:
    """Everything measured once, one after the other."""

    rebuild: Run
    optimize: Run
    own: dict[str, float]


def play(stage: Stage, number: int) -> Round:
    """The order turns with the rounds, so that none always comes first."""
    runs: dict[str, Run] = {}
    own: dict[str, float] = {}
    turns = ["rebuild", *ITS_OWN, "optimize"]
    for turn in turns[number % 4 :] + turns[: number % 4]:
        if turn in ITS_OWN:
            own[turn] = stage.its_own(ITS_OWN[turn])
        else:
            runs[turn] = stage.maintain(turn)
    if not runs["optimize"].worked_on("vacuum"):
        raise RunFailed("optimize left the gaps as they were, so there is nothing to compare")
    return Round(runs["rebuild"], runs["optimize"], own)


def rows(rounds: Sequence[Round]) -> list[Row]:
    vacuum, all_three = ([r.own[name] for r in rounds] for name in ITS_OWN)
    return [
        Row("sqlite3: VACUUM", spread(vacuum)),
        Row("sqlite3: REINDEX, VACUUM, ANALYZE", spread(all_three)),
        *part_rows("rebuild", [r.rebuild for r in rounds]),
        Row(
            "rebuild: the work itself ÷ REINDEX, VACUUM, ANALYZE",
            ratios([r.rebuild.seconds("maintain") for r in rounds], all_three),
            1.10,
            "×",
        ),
        Row(
            "rebuild: the work itself ÷ VACUUM",
            ratios([r.rebuild.seconds("maintain") for r in rounds], vacuum),
            None,
            "×",
        ),
        *part_rows("optimize", [r.optimize for r in rounds]),
        Row(
            "optimize: the work itself ÷ VACUUM",
            ratios([r.optimize.seconds("maintain") for r in rounds], vacuum),
            1.10,
            "×",
        ),
    ]


def memory(stage: Stage, gigabytes: float) -> Run:
    stage.fill(gigabytes)
    return stage.maintain("rebuild")
