"""`make demo`: one emergency maintenance over embedded demo data, by a real worker, shown live.

Builds a sick SQLite file and, where their programs are installed, private throwaway PostgreSQL and MariaDB
servers with bloated tables. Exits 0 when the maintenance of all of them succeeded.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from . import sqlite

PROJECT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("DBMAINT_HOME", PROJECT / "var" / "demo")).resolve()
QUICK = (
    "stage_wait_seconds=0.5",
    "load_seconds=2",
    "watch_minutes=0",
    "minimum_bytes=200000",
    "transient_wait_seconds=2",
)
"""The specification's waits are minutes; a demo shows the same steps with short ones."""
BLOATED = (
    "CREATE TABLE customers (id integer PRIMARY KEY, name varchar(100) NOT NULL)",
    """CREATE TABLE orders (id integer PRIMARY KEY, customer_id integer NOT NULL, status varchar(20) NOT NULL,
       note varchar(400), FOREIGN KEY (customer_id) REFERENCES customers (id))""",
    "CREATE INDEX orders_status ON orders (status)",
)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    os.environ.update(DBMAINT_HOME=str(HOME), DBMAINT_INSECURE="1", DBMAINT_CONFIG=str(HOME / "config.json"))
    with ExitStack() as stack:
        applications()
        say("Setting up the control database …")
        manage("migrate", "-v0")
        say("Building a SQLite database with gaps, a plan gone bad and a damaged index …")
        file = sqlite.build(HOME / "data" / "kiosk.db")
        register("kiosk", f"sqlite:///{file}", f"benchmark_queries={json.dumps(sqlite.BENCHMARK_QUERIES)}")
        for name, server in (("shop", postgresql), ("billing", mariadb)):
            try:
                register(name, stack.enter_context(server()), 'applications=["shop-web"]')
            except Exception as error:
                say(f"Going on without {server.__name__}: {error}")
        stack.enter_context(worker())
        say("")
        return maintain()


def applications() -> None:
    """One pretended application, whose state is a file, so that stopping and starting can be seen."""
    flag = str(HOME / "shop-web.running")
    Path(flag).touch()
    commands = {"stop": ["rm", "-f", flag], "start": ["touch", flag], "check": ["test", "-e", flag]}
    (HOME / "config.json").write_text(json.dumps({"applications": {"shop-web": commands}}))


def manage(*args: str) -> None:
    subprocess.run([sys.executable, "manage.py", *args], cwd=PROJECT, check=True)


def register(name: str, url: str, *settings: str) -> None:
    alternate = str(HOME / "alternate" / name)
    pairs = [f"--set={pair}" for pair in (*QUICK, *settings)]
    # By stdin: an argument list can be read by everybody on the machine, and the URL holds a password.
    subprocess.run(
        [sys.executable, "manage.py", "register_target", name, "-", "--alternate-backup-dir", alternate, *pairs],
        cwd=PROJECT,
        check=True,
        input=url,
        text=True,
        stdout=sys.stderr,
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """Where a server under another account can reach it, with a path short enough for its socket."""
    folder = Path(tempfile.mkdtemp(prefix="dbmaint-demo-"))
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql() -> Iterator[str]:
    import psycopg2

    from .postgresql import ThrowawayPostgreSQL

    with scratch() as folder:
        server = ThrowawayPostgreSQL(folder / "pg")
        say("Starting a private PostgreSQL server with bloated tables …")
        server.start()
        try:
            connection = psycopg2.connect(server.url("postgres"))
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE shop")
            connection.close()
            connection = psycopg2.connect(server.url("shop"))
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in BLOATED:
                    cursor.execute(statement)
                cursor.execute("INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 5000) i")
                cursor.execute(
                    "INSERT INTO orders SELECT i, 1 + i % 5000, (ARRAY['new', 'paid', 'sent'])[1 + i % 3], "
                    "repeat('note ' || i, 15) FROM generate_series(1, 200000) i"
                )
                cursor.execute("DELETE FROM orders WHERE id % 10 < 6")
                cursor.execute("ANALYZE")
            connection.close()
            yield server.url("shop")
        finally:
            server.stop()


@contextmanager
def mariadb() -> Iterator[str]:
    from .mariadb import ServerFailed, ThrowawayMariaDB, missing_programs

    if missing_programs():
        raise ServerFailed(f"not installed: {', '.join(missing_programs())}")
    with scratch() as folder:
        server = ThrowawayMariaDB(folder / "mariadb")
        say("Starting a private MariaDB server with bloated tables …")
        server.start()
        try:
            connection: Any = server.connect()
            cursor = connection.cursor()
            cursor.execute("CREATE DATABASE billing CHARACTER SET utf8mb4")
            cursor.execute("USE billing")
            for statement in BLOATED:
                cursor.execute(statement)
            cursor.execute("INSERT INTO customers SELECT seq, CONCAT('customer ', seq) FROM seq_1_to_5000")
            cursor.execute(
                "INSERT INTO orders SELECT seq, 1 + seq % 5000, ELT(1 + seq % 3, 'new', 'paid', 'sent'), "
                "REPEAT(CONCAT('note ', seq), 15) FROM seq_1_to_100000"
            )
            cursor.execute("DELETE FROM orders WHERE id % 10 < 6")
            connection.close()
            yield server.url("billing").render_as_string(hide_password=False)
        finally:
            server.remove()


@contextmanager
def worker() -> Iterator[None]:
    say("Starting a worker …")
    log = open(HOME / "worker.log", "wb")  # noqa: SIM115  (closed with the process below)
    process = subprocess.Popen(
        [sys.executable, "manage.py", "work"], cwd=PROJECT, stdout=log, stderr=log, process_group=0
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        log.close()


def maintain() -> int:
    begun = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "manage.py", "maintain", "--type", "rebuild", "--all", "--severity", "high"),
            *("--reason", "demonstration: everything has become slow", "--wait", "--json"),
        ],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if not done.stdout:
        return done.returncode or 1
    told = json.loads(done.stdout)
    print(f"Report (PDF):      {told['report_pdf']}")
    print(f"Performance (CSV): {told['performance_csv']}")
    print(f"Outcome (JSON):    {write(told)}")
    print(f"{told['number']} {told['status']} after {time.monotonic() - begun:.0f} s.")
    files = [told["report_pdf"], told["performance_csv"]]
    return done.returncode or int(not all(f and Path(f).is_file() for f in files))


def write(told: object) -> Path:
    path = HOME / "outcome.json"
    path.write_text(json.dumps(told, ensure_ascii=False, indent=2))
    return path


if __name__ == "__main__":
    sys.exit(main())
