"""A private PostgreSQL server in a folder: for the demo and the tests. It never touches another server."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .ports import free_port

ACCOUNT = "postgres"
"""Who runs the server when we are root, which the server refuses to run as."""

SETTINGS: Mapping[str, str] = {
    "shared_buffers": "'64MB'",
    "max_connections": "60",
    "fsync": "off",  # Nothing in here is worth a disk flush.
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "logging_collector": "on",
    "log_directory": "'log'",
    "listen_addresses": "'127.0.0.1'",
}


def binaries() -> Path:
    """The newest installed server's folder. Raises FileNotFoundError when there is none."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    folders += [path.parent for path in Path("/").glob("usr/pgsql-*/bin/initdb")]
    if folders:
        return max(folders, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    raise FileNotFoundError("PostgreSQL's initdb was not found; install the package postgresql")


def server_account() -> pwd.struct_passwd:
    """The account that the server's package made. Raises FileNotFoundError when there is none."""
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError as error:
        raise FileNotFoundError(f"there is no account {ACCOUNT} to run PostgreSQL under") from error


class ThrowawayPostgreSQL:
    """Superuser `postgres` without a password, on 127.0.0.1 and a socket in `folder`."""

    environment: Mapping[str, str] = {}
    """Of its programs, besides what all have."""

    def __init__(
        self,
        folder: Path,
        with_checksums: bool = True,
        settings: Mapping[str, str] | None = None,
        programs: Path | None = None,
    ) -> None:
        self.folder, self.with_checksums = folder, with_checksums
        self.settings = {**SETTINGS, **(settings or {})}
        self.data = folder / "data"
        self.port = free_port()
        self._bin = programs or binaries()

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Makes the cluster when it is not there yet."""
        if (self.data / "PG_VERSION").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._hand_over(self.folder)
        checksums = ["--data-checksums"] if self.with_checksums else []
        if not self.with_checksums and self._major() >= 18:
            checksums = ["--no-data-checksums"]
        self._run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
            *checksums,
        )

    def copy_of(self, other: ThrowawayPostgreSQL) -> None:
        """Makes the cluster from one that runs; with `primary_conninfo` in its settings it follows that one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._hand_over(self.folder)
        spaces = [place.resolve() for place in (other.data / "pg_tblspc").iterdir()]
        self._run(
            "pg_basebackup",
            f"--pgdata={self.data}",
            f"--dbname={other.url()}",
            "--checkpoint=fast",
            "--write-recovery-conf",
            *[f"--tablespace-mapping={place}={self.folder / place.name}" for place in spaces],
        )

    def start(self) -> None:
        """Waits until it takes connections. A second call does nothing."""
        self.create()
        if self.is_running():
            return
        options = {**self.settings, "port": str(self.port), "unix_socket_directories": f"'{self.folder}'"}
        config = self.data / "postgresql.auto.conf"
        config.write_text("".join(f"{name} = {value}\n" for name, value in options.items()))
        for attempts_left in (2, 1, 0):
            try:
                self._run(
                    "pg_ctl", "start", "-D", str(self.data), "-w", "-t", "180", "-l", str(self.folder / "start.log")
                )
                return
            except RuntimeError:
                # Just after a kill, memory of the dead server may still be held by its last children.
                if not attempts_left:
                    raise
                time.sleep(1)

    def stop(self, mode: str = "fast") -> None:
        if self.is_running():
            self._run("pg_ctl", "stop", "-D", str(self.data), "-w", "-t", "180", "-m", mode)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """As a power cut: the postmaster and its children end at once."""
        pid = self._pid()
        if pid is None:
            return
        children = self._children(pid)
        for victim in (pid, *children):
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
        until = time.monotonic() + 10
        while any(alive(victim) for victim in (pid, *children)) and time.monotonic() < until:
            time.sleep(0.05)
        # The dead may stay visible as zombies, and the next start would take them for a running server.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for socket_file in self.folder.glob(".s.PGSQL.*"):
            socket_file.unlink(missing_ok=True)

    def is_running(self) -> bool:
        pid = self._pid()
        return pid is not None and alive(pid)

    def _pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def _children(self, pid: int) -> list[int]:
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
        return [int(word) for word in found.stdout.split()]

    def _major(self) -> int:
        said = subprocess.run([self._bin / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"\d+", said)
        return int(found[0]) if found else 0

    def _hand_over(self, path: Path) -> None:
        """As root the folder must belong to the server's account, which must be able to reach it."""
        if os.geteuid() == 0:
            account = server_account()
            os.chown(path, account.pw_uid, account.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        prefix: Sequence[str] = ()
        if os.geteuid() == 0:
            account = server_account()
            prefix = ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--")
        log = self.folder / "commands.log"
        with open(log, "ab") as output:
            done = subprocess.run(
                [*prefix, str(self._bin / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={
                    "PATH": os.environ.get("PATH", ""),
                    "LC_ALL": "C.UTF-8",
                    "HOME": str(self.folder),
                    **self.environment,
                },
                check=False,
            )
        if done.returncode:
            raise RuntimeError(
                f"{program} ended with {done.returncode}; see {log}: {log.read_text(errors='replace')[-800:]}"
            )


def alive(pid: int) -> bool:
    """Running, and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False
