"""PostgreSQL: the whole run beside its statements; rebuild and optimize beside vacuumdb; memory by size."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import sql
from sqlalchemy import make_url

from demo.postgresql import ThrowawayPostgreSQL, binaries
from maintenance.engines import open_engine
from maintenance.engines.values import Limits, Tag

from .console import LOAD_CLIENTS, LOAD_SECONDS, REPEATS, Console, Run, RunFailed
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
SESSIONS = r"dbmaint:[a-z]*\d+:\d+"
"""The console's own, but for the switch that only waits for its death."""
FINGERPRINTS = r"dbmaint_row"
"""Of the statements that read or count the rows of a table."""


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

    def by_hand(self, jobs: int) -> ByHand:
        """What a person does without the console: every row fingerprinted and the queries measured, before and after.

        With two jobs over the named tables: over everything it was seen to deadlock on the catalogs.
        """
        named = [f"--table={name}" for name in table_names()] if jobs > 1 else []
        engine = open_engine(make_url(self.server.url(DATABASE)), Tag(1, 1), Limits())
        with self.copy(), closing(engine):
            queries = engine.benchmark.queries(None)

            def prove() -> float:
                return seconds_of(lambda: engine.verifier.fingerprint(None))

            def measure() -> float:
                return seconds_of(lambda: engine.benchmark.measure_all(queries, REPEATS))

            fingerprints, benchmark = prove(), measure()
            full = seconds_of(lambda: self._vacuumdb("--full", "--analyze", f"--jobs={jobs}", *named))
            vacuum = seconds_of(lambda: self._vacuumdb("--analyze", f"--jobs={jobs}", *named))
            fingerprints += prove()
            benchmark += measure() + seconds_of(lambda: engine.benchmark.load_test(queries, LOAD_SECONDS, LOAD_CLIENTS))
            return ByHand(full, vacuum, fingerprints, benchmark)

    def _vacuumdb(self, *options: str) -> None:
        where = ["--host=127.0.0.1", f"--port={self.server.port}", "--username=postgres", f"--dbname={DATABASE}"]
        subprocess.run(
            [str(binaries() / "vacuumdb"), "--quiet", "--no-password", *where, *options],
            stdin=subprocess.DEVNULL,
            check=True,
        )


@dataclass(frozen=True)
class ByHand:
    """Seconds of `vacuumdb --full --analyze`, of the VACUUM (ANALYZE) after it, and of the proofs around them."""

    full: float
    vacuum: float
    fingerprints: float
    benchmark: float

    @property
    def seconds(self) -> float:
        return self.full + self.vacuum + self.fingerprints + self.benchmark


def seconds_of(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


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
        return (
            self.run.seconds("cut_connections", "measure")
            + self.run.seconds("benchmark", "measure")
            + self.run.seconds("benchmark", "load test")
        )

    @property
    def fingerprints(self) -> float:
        return self.of(FINGERPRINTS)

    @property
    def checks(self) -> float:
        """Structure, constraints and sequences, before and after."""
        proof = self.run.spans("verify", "proof")
        prints = [span.within(part) for part in proof for span in saying(self.statements, FINGERPRINTS, part)]
        return self.run.seconds("cut_connections", "check") + covered(proof) - covered(prints)

    @property
    def parts(self) -> dict[str, float]:
        known = {
            "the work itself": self.run.seconds("maintain"),
            "fingerprints, before and after": self.fingerprints,
            "benchmark, before and after, with the load test": self.benchmark,
            "checks of structure and constraints, before and after": self.checks,
            "copy to roll back to": self.run.seconds("cut_connections", "image"),
            "cutting and letting in": self.run.seconds("cut_connections", "cut") + self.run.seconds("resume"),
        }
        return {**known, "everything else": self.seconds - sum(known.values())}


@dataclass
class Round:
    """Everything measured once, one after the other."""

    rebuild: Outage
    optimize: Outage
    by_hand: dict[int, ByHand]

    @property
    def reference(self) -> ByHand:
        """With as many jobs as made vacuumdb faster."""
        return min(self.by_hand.values(), key=lambda hand: hand.full + hand.vacuum)


def play(stage: Stage, number: int) -> Round:
    """The order turns with the rounds, so that none always comes first."""
    by_hand: dict[int, ByHand] = {}
    outages: dict[str, Outage] = {}
    turns: list[str | int] = ["rebuild", 1, "optimize", 2]
    for turn in turns[number % 4 :] + turns[: number % 4]:
        if isinstance(turn, int):
            by_hand[turn] = stage.by_hand(turn)
        else:
            outages[turn] = Outage(*stage.maintain(turn))
    rewritten = outages["optimize"].run.worked_on("vacuum_full")
    if len(rewritten) != BLOATED:
        raise RunFailed(f"optimize was to rewrite {BLOATED} tables, and rewrote {rewritten or 'none'}")
    return Round(outages["rebuild"], outages["optimize"], by_hand)


def outage_rows(rounds: Sequence[Round]) -> list[Row]:
    return [
        Row("vacuumdb --full --analyze, 1 job", spread([r.by_hand[1].full for r in rounds])),
        Row("vacuumdb --full --analyze, 2 jobs, named tables", spread([r.by_hand[2].full for r in rounds])),
        Row("by hand, with the better of them", spread([r.reference.seconds for r in rounds])),
        Row("    vacuumdb --full --analyze", spread([r.reference.full for r in rounds])),
        Row("    VACUUM (ANALYZE) after it", spread([r.reference.vacuum for r in rounds])),
        Row("    fingerprints, before and after", spread([r.reference.fingerprints for r in rounds])),
        Row("    benchmark, before and after, with the load test", spread([r.reference.benchmark for r in rounds])),
        *(part_rows("rebuild", [r.rebuild for r in rounds])),
        Row(
            "rebuild: outage ÷ by hand",
            ratios([r.rebuild.seconds for r in rounds], [r.reference.seconds for r in rounds]),
            1.10,
            "×",
        ),
        Row(
            "rebuild: the work itself ÷ (vacuumdb + VACUUM)",
            ratios(
                [r.rebuild.run.seconds("maintain") for r in rounds],
                [r.reference.full + r.reference.vacuum for r in rounds],
            ),
            None,
            "×",
        ),
        *(part_rows("optimize", [r.optimize for r in rounds])),
        Row(
            "optimize: outage ÷ by hand",
            ratios([r.optimize.seconds for r in rounds], [r.reference.seconds for r in rounds]),
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
    return [s.span.within(run.asked) for s in statements] + run.spans("back_up", "primary")


def idle(span: Span, busy: Sequence[Span]) -> float:
    return span.seconds - covered([one.within(span) for one in busy])


def overhead_rows(outages: Sequence[Outage]) -> list[Row]:
    """Where the time of the whole run went in which no statement ran and no dump was made."""
    rows: dict[str, list[float]] = {}
    for outage in outages:
        run, busy = outage.run, busy_spans(outage.run, outage.statements)
        working, whole = covered(busy), run.asked.seconds
        steps = [line.span for line in run.lines if not line.part]
        told = {
            "whole run, from the request until the reports are made": whole,
            "statements and dump": working,
            "    from the request until the first step": idle(Span(run.asked.begun, run.target.begun), busy),
            "    in the steps": sum(idle(span, busy) for span in steps),
            "    between the steps": idle(run.target, [*busy, *steps]),
            "    after the last step: PDF, CSV": idle(Span(run.target.ended, run.asked.ended), busy),
            "overhead": whole - working,
            "overhead allowed: 2 s + 2 %": 2 + 0.02 * working,
            "for comparison, start of the process (a worker has it behind it)": run.asked.begun - run.whole.begun,
            "for comparison, end of the process (a worker goes on)": run.whole.ended - run.asked.ended,
            "for comparison, processor time of the process and its programs": run.processor_seconds,
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
