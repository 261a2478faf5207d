"""MariaDB: rebuild and optimize beside mariadb-check --optimize; memory by size."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.mariadb import ThrowawayMariaDB

from .console import Console, Run, RunFailed
from .figures import Row, ratios, spread
from .parts import part_rows

DATABASE = "bench"
TABLES, BLOATED = 10, 2
ROW_BYTES = 330
"""A row with its part of three indexes, as measured."""
SERVER = {
    "innodb-buffer-pool-size": "256M",
    "innodb-log-file-size": "256M",
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-stats-auto-recalc": "OFF",
}


class Stage:
    """A private server and a console that knows the database `bench`."""

    def __init__(self, folder: Path) -> None:
        self.server = ThrowawayMariaDB(folder / "mariadb", options=SERVER)
        self.server.start()
        self.template = folder / "template"
        self.console = Console(folder / "mariadb-home")
        self.console.register(DATABASE, self.server.url(DATABASE).render_as_string(hide_password=False))

    def close(self) -> None:
        self.server.remove()

    def fill(self, gigabytes: float) -> None:
        """Makes the database `bench` anew, and keeps the server's files as they are then."""
        self._ask("", f"DROP DATABASE IF EXISTS {DATABASE}", f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        self._ask(DATABASE, *filling(int(gigabytes * 1e9 / ROW_BYTES / TABLES)))
        self.server.stop()
        shutil.rmtree(self.template, ignore_errors=True)
        copy(self.server.data, self.template)
        self.server.start()

    def again(self) -> None:
        """The database `bench` as it was at first: a server has no copy of a schema to give, so its files are.

        The rows go only now: a server that starts takes the counts of the last statistics for the truth.
        """
        self.server.kill()
        shutil.rmtree(self.server.data)
        copy(self.template, self.server.data)
        self.server.start()
        self._ask(DATABASE, *(f"DELETE FROM {name} WHERE id % 10 < 6" for name in table_names()[:BLOATED]))
        self._settle()

    def maintain(self, kind: str) -> Run:
        self.again()
        return self.console.maintain(kind, DATABASE)

    def mariadb_check(self) -> float:
        """Seconds of mariadb-check --optimize over the whole database."""
        self.again()
        account = ("--no-defaults", f"--socket={self.server.socket}", "--user=root", "--silent")
        begun = time.perf_counter()
        subprocess.run(
            ["mariadb-check", *account, "--optimize", DATABASE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=True,
        )
        return time.perf_counter() - begun

    def _ask(self, database: str, *statements: str) -> None:
        connection: Any = self.server.connect(database)
        try:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
        finally:
            connection.close()

    def _settle(self) -> None:
        """Until the purge of the deleted rows is done: it would go on in the middle of a measurement."""
        connection: Any = self.server.connect()
        try:
            cursor, until = connection.cursor(), time.monotonic() + 60
            while time.monotonic() < until:
                cursor.execute(
                    "SELECT variable_value FROM information_schema.global_status"
                    " WHERE variable_name = 'innodb_history_list_length'"
                )
                if int(cursor.fetchone()[0]) == 0:
                    return
                time.sleep(0.2)
        finally:
            connection.close()


def copy(source: Path, target: Path) -> None:
    """With their owners, which Python's own copying leaves behind."""
    subprocess.run(["cp", "--archive", "--reflink=auto", str(source), str(target)], check=True)


def table_names() -> list[str]:
    return [f"orders_{number:02}" for number in range(1, TABLES + 1)]


def filling(rows: int) -> Iterator[str]:
    """Statements that make the tables, `rows` in each."""
    yield "CREATE TABLE customers (id int PRIMARY KEY, name varchar(100) NOT NULL)"
    yield "INSERT INTO customers SELECT seq, CONCAT('customer ', seq) FROM seq_1_to_10000"
    for name in table_names():
        yield (
            f"CREATE TABLE {name} (id bigint PRIMARY KEY, customer_id int NOT NULL, status varchar(20) NOT NULL,"
            " amount decimal(12, 2) NOT NULL, created_at datetime NOT NULL, note varchar(400),"
            " FOREIGN KEY (customer_id) REFERENCES customers (id), KEY (status, created_at))"
        )
        yield (
            f"INSERT INTO {name} SELECT seq, 1 + seq * 7919 % 10000, ELT(1 + seq % 3, 'new', 'paid', 'sent'),"
            " seq % 9973 + 0.5, '2024-01-01' + INTERVAL seq * 7 SECOND, REPEAT(CONCAT('note ', seq), 8)"
            f" FROM seq_1_to_{rows}"
        )
        yield f"ANALYZE TABLE {name}"


@dataclass
class Round:
    """Everything measured once, one after the other."""

    rebuild: Run
    optimize: Run
    check: float


def play(stage: Stage, number: int) -> Round:
    """The order turns with the rounds, so that none always comes first."""
    runs: dict[str, Run] = {}
    check = 0.0
    turns = ["rebuild", "mariadb-check", "optimize"]
    for turn in turns[number % 3 :] + turns[: number % 3]:
        if turn == "mariadb-check":
            check = stage.mariadb_check()
        else:
            runs[turn] = stage.maintain(turn)
    rewritten = runs["optimize"].worked_on("rebuild")
    if len(rewritten) != BLOATED:
        raise RunFailed(f"optimize was to rewrite {BLOATED} tables, and rewrote {rewritten or 'none'}")
    return Round(runs["rebuild"], runs["optimize"], check)


def rows(rounds: Sequence[Round]) -> list[Row]:
    checks = [r.check for r in rounds]
    return [
        Row("mariadb-check --optimize", spread(checks)),
        *part_rows("rebuild", [r.rebuild for r in rounds]),
        Row(
            "rebuild: the work itself ÷ mariadb-check --optimize",
            ratios([r.rebuild.seconds("maintain") for r in rounds], checks),
            1.10,
            "×",
        ),
        Row("rebuild: outage ÷ mariadb-check", ratios([r.rebuild.outage.seconds for r in rounds], checks), None, "×"),
        *part_rows("optimize", [r.optimize for r in rounds]),
        Row(
            "optimize: the work itself ÷ mariadb-check --optimize",
            ratios([r.optimize.seconds("maintain") for r in rounds], checks),
            0.40,
            "×",
        ),
        Row("optimize: outage ÷ mariadb-check", ratios([r.optimize.outage.seconds for r in rounds], checks), None, "×"),
    ]


def memory(stage: Stage, gigabytes: float) -> Run:
    stage.fill(gigabytes)
    return stage.maintain("rebuild")
