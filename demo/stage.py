"""What `make demo` and `make serve` stand on: a home of its own, sick demo databases, and a worker."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from . import sqlite

PROJECT = Path(__file__).resolve().parent.parent
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


def msg(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def prepare(home: Path) -> None:
    """Everything below writes to `home` only, and into temporary folders of the private servers."""
    # However it is ended, the servers and the worker end too: a worker left behind would take the next one's messages.
    for how in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(how, signal.default_int_handler)
    home.mkdir(parents=True, exist_ok=True)
    os.environ.update(DBMAINT_HOME=str(home), DBMAINT_INSECURE="1", DBMAINT_CONFIG=str(home / "config.json"))
    applications(home)
    msg("Setting up the control database …")
    manage("migrate", "-v0")
    # Nobody can log in as it: it is who the account that runs the demonstration is to the command line.
    create = ["createsuperuser", "--noinput", "--username=demo", "--email=", "-v0"]
    subprocess.run([sys.executable, "manage.py", *create], cwd=PROJECT, check=False, stderr=subprocess.DEVNULL)


@contextmanager
def databases(home: Path) -> Iterator[None]:
    """A sick SQLite file and, where their programs are installed, private servers with bloated tables."""
    with ExitStack() as stack:
        msg("Building a SQLite database with gaps, a plan gone bad and a damaged index …")
        file = sqlite.build(home / "data" / "kiosk.db")
        register(home, "kiosk", f"sqlite:///{file}", f"benchmark_queries={json.dumps(sqlite.BENCHMARK_QUERIES)}")
        for name, server in (("shop", postgresql), ("billing", mariadb)):
            try:
                register(home, name, stack.enter_context(server()), 'applications=["shop-web"]')
            except Exception as error:
                msg(f"Going on without {server.__name__}: {error}")
        yield


def applications(home: Path) -> None:
    """One pretended application, whose state is a file, so that stopping and starting can be seen."""
    flag = str(home / "shop-web.running")
    Path(flag).touch()
    commands = {"stop": ["rm", "-f", flag], "start": ["touch", flag], "check": ["test", "-e", flag]}
    known = {
        "applications": {"shop-web": commands},
        "backup_roots": [str(home / "backups"), str(home / "alternate")],
        "command_line_users": {pwd.getpwuid(os.getuid()).pw_name: "demo"},
    }
    (home / "config.json").write_text(json.dumps(known))


def manage(*args: str) -> None:
    subprocess.run([sys.executable, "manage.py", *args], cwd=PROJECT, check=True)


def register(home: Path, name: str, url: str, *settings: str) -> None:
    alternate = str(home / "alternate" / name)
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
        server = ThrowawayPostgreSQL(folder / "pg", settings={"fsync": "on"})
        msg("Starting a private PostgreSQL server with bloated tables …")
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
        server = ThrowawayMariaDB(
            folder / "mariadb", {"event-scheduler": "ON", "log-bin": "binlog", "sync-binlog": "1"}
        )
        msg("Starting a private MariaDB server with bloated tables …")
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
def worker(home: Path) -> Iterator[None]:
    msg("Starting a worker …")
    log = open(home / "worker.log", "wb")  # noqa: SIM115  (closed with the process below)
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "manage.py", "work"],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        process_group=0,
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
