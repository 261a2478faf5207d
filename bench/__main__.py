"""`python -m bench`: what a maintenance costs beside the database's own programs, as ratios measured in one run.

Every side of a ratio is measured in turn, several rounds long, on private servers; tables show the median of the
rounds with the least and the most. docs/benchmark.md says what each row means.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rich.console

from . import on_mariadb, on_postgresql, on_sqlite, salvage, verdicts
from .console import Run
from .figures import Row, spread
from .tables import markdown, show

ENGINES = ("postgresql", "mariadb", "sqlite")
GROWTH = 1.10
"""The most that the memory of the largest database's run may be of the smallest one's."""
Tables = dict[str, list[Row]]


def postgresql(folder: Path, size: float, sizes: Sequence[float], rounds: int) -> Tables:
    stage = on_postgresql.Stage(folder)
    try:
        stage.fill(size)
        played = [on_postgresql.play(stage, number) for number in repeated(rounds, "PostgreSQL")]
        remembered = [on_postgresql.memory(stage, gigabytes) for gigabytes in sizes]
    finally:
        stage.close()
    return {
        f"PostgreSQL, {size:g} GB, one table in five bloated: outage": on_postgresql.outage_rows(played),
        f"PostgreSQL, {size:g} GB: overhead of a rebuild": on_postgresql.overhead_rows([r.rebuild for r in played]),
        "PostgreSQL: memory of the worker": memory_rows(sizes, remembered),
    }


def mariadb(folder: Path, size: float, sizes: Sequence[float], rounds: int) -> Tables:
    stage = on_mariadb.Stage(folder)
    try:
        stage.fill(size)
        played = [on_mariadb.play(stage, number) for number in repeated(rounds, "MariaDB")]
        remembered = [on_mariadb.memory(stage, gigabytes) for gigabytes in sizes]
    finally:
        stage.close()
    return {
        f"MariaDB, {size:g} GB, one table in five bloated": on_mariadb.rows(played),
        "MariaDB: memory of the worker": memory_rows(sizes, remembered),
    }


def sqlite(folder: Path, size: float, sizes: Sequence[float], rounds: int) -> Tables:
    stage = on_sqlite.Stage(folder)
    stage.fill(size)
    played = [on_sqlite.play(stage, number) for number in repeated(rounds, "SQLite")]
    remembered = [on_sqlite.memory(stage, gigabytes) for gigabytes in sizes]
    title, saved = salvage.rows(folder)
    return {
        title: saved,
        f"SQLite, {size:g} GB, one table in five half empty": on_sqlite.rows(played),
        "SQLite: memory of the worker": memory_rows(sizes, remembered),
    }


MEASURED: dict[str, Callable[[Path, float, Sequence[float], int], Tables]] = {
    "postgresql": postgresql,
    "mariadb": mariadb,
    "sqlite": sqlite,
}


def repeated(rounds: int, what: str) -> Iterator[int]:
    for number in range(rounds):
        print(f"{what}: round {number + 1} of {rounds} …", file=sys.stderr, flush=True)
        yield number


def memory_rows(sizes: Sequence[float], runs: Sequence[Run]) -> list[Row]:
    """One rebuild a size, and the largest beside the smallest."""
    rows: list[Row] = []
    for size, run in zip(sizes, runs, strict=True):
        rows.append(Row(f"{size:g} GB: peak until the work was over", spread([run.peak_working_mb]), None, "MB"))
        rows.append(Row(f"{size:g} GB: peak with PDF and CSV", spread([run.peak_mb]), None, "MB"))
    if len(runs) > 1:
        name = f"{sizes[-1]:g} GB ÷ {sizes[0]:g} GB, until the work was over"
        rows.append(Row(name, spread([runs[-1].peak_working_mb / runs[0].peak_working_mb]), GROWTH, "×"))
    return rows


@contextmanager
def scratch() -> Iterator[Path]:
    """Where a server under another account can reach it, with a path short enough for its socket."""
    folder = Path(tempfile.mkdtemp(prefix="dbm-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} processors, {memory:.0f} GB of memory, {platform.system()} {platform.release()}; "
        f"{load:.1f} processes waited for a processor in the last minute"
    )


def verdicts_of(part: str, engines: Sequence[str], runs: int) -> int:
    """Play a part of `verdicts` on each engine; print each as it comes, and all at the end."""
    print(machine())
    found: Counter[str] = Counter()
    for engine in engines:
        with scratch() as folder:
            counted = verdicts.play(part, engine, folder, runs)
        print(f"{engine}: {verdicts.summary(part, counted)}", flush=True)
        found += counted
    print(f"all: {verdicts.summary(part, found)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--engine", action="append", choices=ENGINES, help="only this one; may be repeated")
    parser.add_argument("--size", type=float, default=0.4, help="of the databases in the ratios (GB; %(default)s)")
    parser.add_argument("--sizes", default="0.1,1", help="of the databases whose memory is compared (GB; %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side is measured (%(default)s)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there as well")
    parser.add_argument("--part", choices=verdicts.PARTS, help="instead: does the benchmark of a run say what is so?")
    parser.add_argument("--runs", type=int, default=10, help="of such a part, on each engine (%(default)s)")
    given = parser.parse_args()
    sizes = sorted(float(size) for size in given.sizes.split(",") if size)
    # However it is ended, the servers end too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    terminal = rich.console.Console(width=max(118, rich.console.Console().width))
    if given.part:
        return verdicts_of(given.part, given.engine or ENGINES, given.runs)
    written = [f"Measured on {time.strftime('%Y-%m-%d')}: {machine()}.\n"]
    terminal.print(machine())
    failed = []
    for engine in given.engine or ENGINES:
        try:
            with scratch() as folder:
                tables = MEASURED[engine](folder, given.size, sizes, given.rounds)
        except Exception as error:
            print(f"{engine} could not be measured: {error}", file=sys.stderr)
            failed.append(engine)
            continue
        for title, rows in tables.items():
            show(title, rows, terminal)
            written.append(markdown(title, rows))
    if given.markdown:
        given.markdown.write_text("\n".join(written))
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
