"""A private MariaDB or MySQL server for the demo and the tests: its own folder, socket and port, gone afterwards."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import MySQLdb
from sqlalchemy import URL

from .ports import free_port

START_SECONDS = 180.0
STOP_SECONDS = 120.0


class ServerFailed(Exception):
    """The private server could not be installed, started or stopped; the words are its own."""


class PrivateServer(ABC):
    """One server in `folder`. As root it runs as the user `mysql`, otherwise as the user who asks.

    `options` are server variables, e.g. {"performance-schema": "ON", "event-scheduler": "ON"}. Both an
    administrator `root` (no password, only by the socket) and `dbmaint` (with `password`) exist after
    the first start.
    """

    program: ClassVar[str]
    """The server itself, on PATH or in /usr/sbin."""
    usual: ClassVar[Mapping[str, str]]
    """Server variables that keep it small."""
    administrator = "dbmaint"
    password = "emergency-only"

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        self.folder = _within_reach(folder)
        self.options = {**self.usual, **(options or {})}
        self.data = self.folder / "data"
        self.socket = self.folder / "s.sock"
        self.log = self.folder / "error.log"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Installs the data folder on first use; returns when the server answers. Raises ServerFailed."""
        if not (self.data / "mysql").is_dir():
            self._install()
        # Kept over restarts: an address that was registered stays right.
        self.port = self.port or free_port()
        settings = [f"--{name}={value}" for name, value in self.options.items()]
        self.process = subprocess.Popen(
            [
                *_as_server_user(dies_with_us=True),
                self.found(),
                "--no-defaults",
                f"--datadir={self.data}",
                f"--socket={self.socket}",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                f"--pid-file={self.folder / 'pid'}",
                f"--log-error={self.log}",
                f"--tmpdir={self.folder / 'tmp'}",
                *settings,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        self._wait_until_it_answers()
        self._make_administrator()

    def found(self) -> str:
        """Where the server's program lies. Raises ServerFailed when it is not installed."""
        return needed(self.program)

    def stop(self) -> None:
        """Clean shutdown: everything is in the data files afterwards. Raises ServerFailed when it was killed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut would: kill -9."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def start_again(self) -> None:
        """Starts it where it has ended by itself, as a server does that met a bad page."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def remove(self) -> None:
        """Ends the server and deletes its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, database: str = "") -> MySQLdb.Connection:
        """As `root`, by the socket, with the plain driver."""
        return MySQLdb.connect(
            unix_socket=str(self.socket), user="root", db=database, charset="utf8mb4", autocommit=True
        )

    def url(self, database: str, scheme: str = "mysql") -> URL:
        """As an administrator would register it: the account `dbmaint` by TCP."""
        return URL.create(scheme, self.administrator, self.password, "127.0.0.1", self.port, database)

    def _install(self) -> None:
        for path in (self.data, self.folder / "tmp"):
            path.mkdir(parents=True, exist_ok=True)
        _give_to_server_user(self.folder)
        args = self.installing()
        done = subprocess.run(
            [*_as_server_user(dies_with_us=True), *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"{args[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")

    @abstractmethod
    def installing(self) -> list[str]:
        """The command that fills the data folder."""

    def _wait_until_it_answers(self) -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            assert self.process is not None
            if self.process.poll() is not None:
                raise ServerFailed(f"{self.program} ended with {self.process.returncode}: {_tail(self.log)}")
            try:
                self.connect().close()  # type: ignore[no-untyped-call]
                return
            except MySQLdb.OperationalError as error:
                # A locked or password-protected root is an answer too.
                if error.args[0] not in (2002, 2003, 2013):
                    return
                if time.monotonic() > until:
                    raise ServerFailed(f"{self.program} does not answer: {error}; {_tail(self.log)}") from error
            time.sleep(0.05)

    def _make_administrator(self) -> None:
        connection = self.connect()
        try:
            cursor = connection.cursor()
            cursor.execute(
                "CREATE USER IF NOT EXISTS %s@'127.0.0.1' IDENTIFIED BY %s", (self.administrator, self.password)
            )
            cursor.execute("GRANT ALL ON *.* TO %s@'127.0.0.1' WITH GRANT OPTION", (self.administrator,))
            # People's questions are asked by this account, and must reach no file of the server.
            cursor.execute("REVOKE FILE ON *.* FROM %s@'127.0.0.1'", (self.administrator,))
        finally:
            connection.close()  # type: ignore[no-untyped-call]

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired as error:
                self.process.kill()
                self.process.wait(STOP_SECONDS)
                raise ServerFailed(
                    f"{self.program} did not end within {STOP_SECONDS:.0f} s: {_tail(self.log)}"
                ) from error
        self.process = None


def _within_reach(folder: Path) -> Path:
    """`folder`, or a fresh one under the system's temporary folder where the server's user cannot
    enter `folder` or the socket's path would be too long (108 bytes)."""
    folder = folder.resolve()
    open_to_all = all(parent.stat().st_mode & 0o001 for parent in folder.parents if parent.exists())
    if len(str(folder)) < 90 and (os.geteuid() != 0 or open_to_all):
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return Path(tempfile.mkdtemp(prefix="private-server-"))


def _as_server_user(dies_with_us: bool) -> list[str]:
    ending = ["--pdeathsig", "KILL"] if dies_with_us else []
    if os.geteuid() != 0:
        return ["setpriv", *ending, "--"]
    return ["setpriv", "--reuid", "mysql", "--regid", "mysql", "--init-groups", *ending, "--"]


def _give_to_server_user(folder: Path) -> None:
    user = "mysql" if os.geteuid() == 0 else getpass.getuser()
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, user, user)


def program(name: str) -> str | None:
    """Where a program lies, also in the folders that only an administrator has on PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def needed(name: str) -> str:
    """Raises ServerFailed when it is not installed."""
    found = program(name)
    if found is None:
        raise ServerFailed(f"{name} is not installed")
    return found


def _tail(log: Path) -> str:
    try:
        return log.read_text(errors="replace")[-1500:]
    except OSError:
        return ""
