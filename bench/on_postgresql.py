"""PostgreSQL: the whole run beside its statements; rebuild and optimize beside vacuumdb; memory by size."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
from psycopg2 import sql

from demo.postgresql import ThrowawayPostgreSQL, binaries

from .console import Console, Run, RunFailed
from .figures import Row, Span, covered, ratios, spread
from .statements import SETTINGS, ServerLog, Statement, parsed, saying

DATABASE = "bench"
TEMPLATE = "bench_template"
TABLES, BLOATED = 10, 2
"""One table in five has lost two rows in five; the others are as they were written."""
LARGEST_SHARE = 0.19
"""Of the rows, in the largest table; each further one has a little less, so that 'largest first' means something."""
ROW_BYTES = 270
"""A row with its part of three indexes, as measured."""
SERVER = {
    **SETTINGS,
    "shared_buffers": "'256MB'",
    "max_wal_size": "'8GB'",
    "checkpoint_timeout": "'30min'",
    "autovacuum": "off",
    "fsync": "on",
}
"""As a server for real data, except that nothing begins by itself in the middle of a measurement."""
SESSIONS = r"dbmaint:\d+:\d+"
"""The console's own, but for the switch that only waits for its death."""
FINGERPRINTS = r"hashtextextended\(\(dbmaint_row"


class Stage:
    """A private server, a template database of about `gigabytes`, and a console that knows the database `bench`."""

    def __init__(self, folder: Path) -> None:
        self.server = ThrowawayPostgreSQL(folder / "pg", settings=SERVER)
        self.server.start()
        self.console = Console(folder / "pg-home")
        self.console.register(DATABASE, self.server.url(DATABASE))
        self.log = ServerLog(self.server.data / "log")

    def close(self) -> None:
        self.server.stop("immediate")

    def ask(self, database: str, *statements: str | sql.Composed) -> None:
        with closing(psycopg2.connect(self.server.url(database))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

    def fill(self, gigabytes: float) -> None:
        """Makes the template anew."""
        self.ask("postgres", f"DROP DATABASE IF EXISTS {TEMPLATE}", f"CREATE DATABASE {TEMPLATE}")
        self.ask(TEMPLATE, "SET synchronous_commit = off", *filling(int(gigabytes * 1e9 / ROW_BYTES)))
        self.ask("postgres", "CHECKPOINT")

    @contextmanager
    def copy(self) -> Iterator[None]:
        """The database `bench` as the template is, and nothing left to write when it begins."""
        self.drop()
        strategy = "STRATEGY file_copy" if self.version() >= 150000 else ""
        self.ask("postgres", f"CREATE DATABASE {DATABASE} TEMPLATE {TEMPLATE} {strategy}", "CHECKPOINT")
        yield
        self.drop()

    def drop(self) -> None:
        self.ask("postgres", f"DROP DATABASE IF EXISTS {DATABASE}")

    def version(self) -> int:
        with closing(psycopg2.connect(self.server.url("postgres"))) as connection:
            return int(connection.server_version)

    def maintain(self, kind: str) -> tuple[Run, list[Statement]]:
        with self.copy():
            self.log.since_last_time()
            run = self.console.maintain(kind, DATABASE)
            return run, parsed(self.log.since_last_time(), SESSIONS)

    def vacuumdb(self, jobs: int) -> tuple[float, float]:
        """Seconds of `vacuumdb --full --analyze`, and of the VACUUM (ANALYZE) after it.

        With two jobs over the named tables: over everything it was seen to deadlock on the catalogs.
        """
        named = [f"--table={name}" for name in table_names()] if jobs > 1 else []
        with self.copy():
            begun = time.perf_counter()
            self._vacuumdb("--full", "--analyze", f"--jobs={jobs}", *named)
            rewritten = time.perf_counter()
            self._vacuumdb("--analyze", f"--jobs={jobs}", *named)
            return rewritten - begun, time.perf_counter() - rewritten

    def _vacuumdb(self, *options: str) -> None:
        where = ["--host=127.0.0.1", f"--port={self.server.port}", "--username=postgres", f"--dbname={DATABASE}"]
        subprocess.run(
            [str(binaries() / "vacuumdb"), "--quiet", "--no-password", *where, *options],
            stdin=subprocess.DEVNULL,
            check=True,
        )


def table_names() -> list[str]:
    """Largest first."""
    return [f"orders_{number:02}" for number in range(1, TABLES + 1)]


def shares() -> list[float]:
    """Of all rows, for each table; their sum is 1."""
    step = 2 * (LARGEST_SHARE * TABLES - 1) / TABLES / (TABLES - 1)
    return [LARGEST_SHARE - step * number for number in range(TABLES)]


def filling(rows: int) -> Iterator[str]:
    """Statements that make the tables. The bloated ones are neither the largest nor the smallest."""
    yield "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL)"
    yield "INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 10000) i"
    bloated = table_names()[TABLES // 2 - BLOATED // 2 :][:BLOATED]
    for name, share in zip(table_names(), shares(), strict=True):
        yield (
            f"CREATE TABLE {name} (id bigint NOT NULL, customer_id int NOT NULL, status text NOT NULL,"
            " amount numeric(12, 2) NOT NULL, created_at timestamptz NOT NULL, note text)"
        )
        yield (
            f"INSERT INTO {name} SELECT i, 1 + i * 7919 % 10000, (ARRAY['new', 'paid', 'sent'])[1 + i % 3],"
            " i % 9973 + 0.5, timestamptz '2024-01-01' + i * interval '7 seconds', repeat('note ' || i, 8)"
            f" FROM generate_series(1, {int(rows * share)}::bigint) i"
        )
        yield f"ALTER TABLE {name} ADD PRIMARY KEY (id)"
        yield f"CREATE INDEX ON {name} (customer_id)"
        yield f"CREATE INDEX ON {name} (status, created_at)"
        yield f"ALTER TABLE {name} ADD FOREIGN KEY (customer_id) REFERENCES customers"
        if name in bloated:
            yield f"DELETE FROM {name} WHERE id % 5 < 2"
    yield "VACUUM (ANALYZE)"


@dataclass
class Outage:
    """Where the seconds of one outage went; a part is the time in which it was under way."""

    run: Run
    statements: list[Statement]

    def of(self, words: str) -> float:
        return covered(saying(self.statements, words, self.run.outage))

    @property
    def seconds(self) -> float:
        return self.run.outage.seconds

    @property
    def benchmark(self) -> float:
        return self.run.seconds("F", "measure") + self.run.seconds("I", "measure") + self.run.seconds("I", "load test")

    @property
    def fingerprints(self) -> float:
        return self.of(FINGERPRINTS)

    @property
    def checks(self) -> float:
        """Structure, constraints and sequences, before and after."""
        proof = self.run.spans("H", "proof")
        prints = [span.within(part) for part in proof for span in saying(self.statements, FINGERPRINTS, part)]
        return self.run.seconds("F", "check") + covered(proof) - covered(prints)

    @property
    def parts(self) -> dict[str, float]:
        known = {
            "the work itself": self.run.seconds("G"),
            "fingerprints, before and after": self.fingerprints,
            "benchmark, before and after, with the load test": self.benchmark,
            "checks of structure and constraints, before and after": self.checks,
            "copy to roll back to": self.run.seconds("F", "image"),
            "cutting and letting in": self.run.seconds("F", "cut") + self.run.seconds("J"),
        }
        return {**known, "everything else": self.seconds - sum(known.values())}


@dataclass
class Round:
    """Everything measured once, one after the other."""

    rebuild: Outage
    optimize: Outage
    full: dict[int, float] = field(default_factory=dict)
    vacuum: dict[int, float] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """How many made vacuumdb faster."""
        return min(self.full, key=lambda jobs: self.full[jobs] + self.vacuum[jobs])

    @property
    def reference(self) -> float:
        """vacuumdb and the final VACUUM, with fingerprints and benchmark as the rebuild of this round had them."""
        vacuumdb = self.full[self.jobs] + self.vacuum[self.jobs]
        return vacuumdb + self.rebuild.fingerprints + self.rebuild.benchmark


def play(stage: Stage, number: int) -> Round:
    """The order turns with the rounds, so that none always comes first."""
    full: dict[int, float] = {}
    vacuum: dict[int, float] = {}
    outages: dict[str, Outage] = {}
    turns: list[str | int] = ["rebuild", 1, "optimize", 2]
    for turn in turns[number % 4 :] + turns[: number % 4]:
        if isinstance(turn, int):
            full[turn], vacuum[turn] = stage.vacuumdb(turn)
        else:
            outages[turn] = Outage(*stage.maintain(turn))
    rewritten = outages["optimize"].run.worked_on("vacuum_full")
    if len(rewritten) != BLOATED:
        raise RunFailed(f"optimize was to rewrite {BLOATED} tables, and rewrote {rewritten or 'none'}")
    return Round(outages["rebuild"], outages["optimize"], full, vacuum)


def outage_rows(rounds: Sequence[Round]) -> list[Row]:
    return [
        Row("vacuumdb --full --analyze, 1 job", spread([r.full[1] for r in rounds])),
        Row("vacuumdb --full --analyze, 2 jobs, named tables", spread([r.full[2] for r in rounds])),
        Row("VACUUM (ANALYZE) after the better of them", spread([r.vacuum[r.jobs] for r in rounds])),
        *(part_rows("rebuild", [r.rebuild for r in rounds])),
        Row(
            "rebuild: outage ÷ (better vacuumdb + VACUUM + fingerprints + benchmark)",
            ratios([r.rebuild.seconds for r in rounds], [r.reference for r in rounds]),
            1.10,
            "×",
        ),
        Row(
            "rebuild: the work itself ÷ (better vacuumdb + VACUUM)",
            ratios(
                [r.rebuild.run.seconds("G") for r in rounds],
                [r.full[r.jobs] + r.vacuum[r.jobs] for r in rounds],
            ),
            None,
            "×",
        ),
        *(part_rows("optimize", [r.optimize for r in rounds])),
        Row(
            "optimize: outage ÷ the same as for rebuild",
            ratios([r.optimize.seconds for r in rounds], [r.reference for r in rounds]),
            0.40,
            "×",
        ),
        Row(
            "optimize: outage ÷ outage of rebuild",
            ratios([r.optimize.seconds for r in rounds], [r.rebuild.seconds for r in rounds]),
            None,
            "×",
        ),
    ]


def part_rows(kind: str, outages: Sequence[Outage]) -> list[Row]:
    """The outage and, indented, its parts."""
    parts = [outage.parts for outage in outages]
    return [
        Row(f"{kind}: outage", spread([outage.seconds for outage in outages])),
        *(Row(f"    {name}", spread([part[name] for part in parts])) for name in parts[0]),
    ]


# -- overhead --------------------------------------------------------------------------------------


def busy_spans(run: Run, statements: Sequence[Statement]) -> list[Span]:
    """When the server worked for us or the backup was written and read back."""
    return [s.span.within(run.whole) for s in statements] + run.spans("D", "primary")


def idle(span: Span, busy: Sequence[Span]) -> float:
    return span.seconds - covered([one.within(span) for one in busy])


def overhead_rows(outages: Sequence[Outage]) -> list[Row]:
    """Where the time of the whole run went in which no statement ran and no dump was made."""
    rows: dict[str, list[float]] = {}
    for outage in outages:
        run, busy = outage.run, busy_spans(outage.run, outage.statements)
        working, whole = covered(busy), run.whole.seconds
        steps = [line.span for line in run.lines if not line.part]
        told = {
            "whole run, as a process": whole,
            "statements and dump": working,
            "    start of the process until the first step": idle(Span(run.whole.begun, run.target.begun), busy),
            "    in the steps": sum(idle(span, busy) for span in steps),
            "    between the steps": idle(run.target, [*busy, *steps]),
            "    after the last step: PDF, CSV, end of the process": idle(
                Span(run.target.ended, run.whole.ended), busy
            ),
            "overhead": whole - working,
            "    for comparison, processor time of the process and its programs": run.processor_seconds,
            "overhead allowed: 2 s + 2 %": 2 + 0.02 * working,
        }
        for name, seconds in told.items():
            rows.setdefault(name, []).append(seconds)
    table = [Row(name, spread(values)) for name, values in rows.items()]
    share = ratios(rows["overhead"], rows["overhead allowed: 2 s + 2 %"])
    return [*table, Row("overhead ÷ allowed", share, 1.0, "×")]


# -- memory ----------------------------------------------------------------------------------------


def memory(stage: Stage, gigabytes: float) -> Run:
    stage.fill(gigabytes)
    run, _ = stage.maintain("rebuild")
    return run
