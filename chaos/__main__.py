"""`python -m chaos [--engine E] [--kills N] [--seed S] [--jobs J]`: the crash matrix; exit 1 when anything is wrong.

For each engine, type of maintenance and path: a real `manage.py maintain --foreground` on a private server,
killed at a point drawn by the seed; then `manage.py recover`; then a look from outside. Several cases at a time.
One case again: `--engine E --type T --path P --point X …`, as printed for a failure.
MySQL's own server takes part where DBMAINT_MYSQL_HOME tells the folder that `sh deploy/mysql.sh` prints.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from demo.mysql import HOME

from .case import ENGINES, KINDS, Case, turns
from .console import PROJECT, Console
from .judge import STATUS, Verdict, play
from .table import show
from .target import Target

KEPT = PROJECT / "var" / "chaos"
"""What a failed case leaves for people: the console's home and what its processes said."""


NEEDED_BYTES = 6 << 30


class Stage:
    """The servers and homes of one thread; each is made when it is first needed."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dbm-", dir=quick_folder()))
        os.chmod(self.folder, 0o755)  # a server under another account must reach it
        self.made: dict[str, tuple[Target, Console]] = {}

    def of(self, engine: str) -> tuple[Target, Console]:
        if engine not in self.made:
            folder = self.folder / engine
            folder.mkdir()
            target = opened(engine, folder / "target")
            self.made[engine] = target, Console(folder / "console", target)
        return self.made[engine]

    def close(self) -> None:
        for target, console in self.made.values():
            console.close()
            target.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def quick_folder() -> str | None:
    """In memory where there is room: a SIGKILL loses nothing that was written, so waiting for a disk proves nothing."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > NEEDED_BYTES
    return str(memory) if roomy else None


def opened(engine: str, folder: Path) -> Target:
    folder.mkdir()
    match engine:
        case "sqlite":
            from .on_sqlite import OnSQLite

            return OnSQLite(folder)
        case "postgresql":
            from .on_postgresql import OnPostgreSQL

            return OnPostgreSQL(folder)
        case "mysql":
            from .on_mysql import OnMySQL

            return OnMySQL(folder)
        case _:
            from .on_mariadb import OnMariaDB

            return OnMariaDB(folder)


class Matrix:
    """Plays cases side by side; `verdicts` in the order of their end."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.points: dict[str, tuple[int, int]] = {}
        """Engine → at how many points of different names somebody was to die, of how many."""
        self.stages: list[Stage] = []
        self.own, self.lock = threading.local(), threading.Lock()

    def _mine(self) -> Stage:
        if not hasattr(self.own, "stage"):
            self.own.stage = Stage()
            with self.lock:
                self.stages.append(self.own.stage)
        stage: Stage = self.own.stage
        return stage

    def play(self, case: Case) -> Verdict:
        try:
            target, console = self._mine().of(case.engine)
            verdict = play(case, console, target)
        except Exception as error:
            verdict = Verdict(case, faults=[(STATUS, f"the case could not be played: {type(error).__name__}: {error}")])
        else:
            if verdict.faults:
                self._keep(verdict, console)
        with self.lock:
            self.verdicts.append(verdict)
            mark = "✕ " + ", ".join(dict.fromkeys(kind for kind, _ in verdict.faults)) if verdict.faults else "✓"
            print(f"{len(self.verdicts):4} {mark} {case} → {verdict.status}, {verdict.deaths} kills, "
                  f"{verdict.seconds:.1f} s", file=sys.stderr, flush=True)  # fmt: skip
        return verdict

    def all(self, cases: Sequence[Case], pool: ThreadPoolExecutor) -> None:
        for _ in pool.map(self.play, cases):
            pass

    def _keep(self, verdict: Verdict, console: Console) -> None:
        with self.lock:
            folder = KEPT / str(1 + len(list(KEPT.glob("*"))))
            shutil.copytree(console.home, folder, symlinks=True, ignore_dangling_symlinks=True)
        told = [str(verdict.case), verdict.case.command, *(f"{k}: {w}" for k, w in verdict.faults), *console.log]
        (folder / "told").write_text("\n".join(told))

    def side_by_side(self, work: Callable[[ThreadPoolExecutor], None], jobs: int) -> None:
        """`work` in a pool whose threads own their servers until all is over."""
        with ThreadPoolExecutor(jobs) as pool:
            try:
                work(pool)
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                pool.shutdown()
                for stage in self.stages:
                    stage.close()


def draw(engines: Sequence[str], kills: int, seed: int, matrix: Matrix, pool: ThreadPoolExecutor) -> None:
    """First each way undisturbed, which tells its points; then the deaths."""
    dice = random.Random(seed)
    wanted = list(islice(turns(tuple(engines), dice), kills))
    points = {v.case: v.points for v in pool.map(matrix.play, dict.fromkeys(cell.first for cell, _ in wanted))}
    died_at: dict[str, Counter[str]] = {engine: Counter() for engine in engines}
    cases = [
        cell.draw(dice, kind, points[cell.first], died_at[cell.engine]) for cell, kind in wanted if points[cell.first]
    ]
    matrix.all(cases, pool)
    for engine in engines:
        known = {name for case, passed in points.items() if case.engine == engine for name in passed}
        matrix.points[engine] = (len(known & set(died_at[engine])), len(known))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="only this one; may be repeated")
    parser.add_argument("--kills", type=int, default=324, help="how many cases die (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed draws the same cases")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="cases at a time (default: %(default)s)")
    one = parser.add_argument_group("one case again")
    one.add_argument("--type", choices=KINDS, default="rebuild", dest="kind")
    one.add_argument("--path", help="success, 'backup failed', …, or 'cancelled@image'")
    one.add_argument("--point", default="", help="where the maintenance dies: action.started#2, #137, cut+0.1")
    one.add_argument("--again", action="append", default=[], help="where recover dies too; may be repeated")
    one.add_argument("--released", action="store_true", help="release comes before recover")
    one.add_argument(
        "--variant", type=int, default=0, help="1: a busy application, 2: WAL mode or a superuser, 3: both"
    )
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randint(1, 999_999)
    for order in (signal.SIGINT, signal.SIGTERM):
        signal.signal(order, signal.default_int_handler)  # servers are ended and folders removed on either
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    absent = [] if HOME in os.environ else ["mysql"]
    engines = given.engine or [engine for engine in ENGINES if engine not in absent]
    if "mysql" in engines and absent:
        parser.error(f"MySQL's own server is not here: {HOME}=$(sh deploy/mysql.sh) fetches it and tells where")
    matrix, begun = Matrix(), time.monotonic()
    if given.path:
        cases = [
            Case(e, given.kind, given.path, given.point, tuple(given.again), given.released, given.variant)
            for e in engines
        ]
        matrix.side_by_side(lambda pool: matrix.all(cases, pool), given.jobs)
    else:
        matrix.side_by_side(lambda pool: draw(engines, given.kills, seed, matrix, pool), given.jobs)
    not_run = [] if given.engine else absent
    well = show(matrix.verdicts, matrix.points, not_run, seed, time.monotonic() - begun)
    if not well:
        print(f"The homes of the failed cases and what was said in them: {KEPT}", file=sys.stderr)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
