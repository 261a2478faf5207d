"""Runs `manage.py` commands in forks of one process that has the libraries and the console loaded already.

A command spends more time on importing than on its work. What depends on the environment - the settings and all that
is made of them - is made anew in the fork, as in a process of its own.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import multiprocessing
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

LIBRARIES = (
    "django.contrib.admin.sites", "django.contrib.auth.hashers", "django.core.management.commands.shell",
    "django.core.serializers.json", "django.core.servers.basehttp", "django.db.backends.postgresql.psycopg_any",
    "django.db.backends.sqlite3.base", "django.db.migrations.executor", "django.db.models", "django.forms",
    "django.http", "django.template.backends.django", "django.test", "django.urls", "django.views.generic",
    "MySQLdb.cursors", "cryptography.fernet", "cryptography.hazmat.primitives.ciphers.aead", "multiprocessing.queues",
    "prometheus_client", "psycopg2.extras", "pydantic", "pyrage", "redis.asyncio", "rich.live",
    "rich.progress", "rich.table", "sqlalchemy", "sqlalchemy.dialects.mysql.mysqldb",
    "sqlalchemy.dialects.postgresql.psycopg2", "sqlalchemy.dialects.sqlite.pysqlite", "weasyprint", "zstandard",
    "maintenance.engines.mysql", "maintenance.engines.postgresql", "maintenance.engines.sqlite",
)  # fmt: skip
CONSOLE = (
    "dbmaint_site.urls", "maintenance.tasks", "maintenance.terminal", "maintenance.workflow.runner",
    "maintenance.requests.launch", "maintenance.results.outcome", "reports.write",
)  # fmt: skip
"""Imported with the settings of nobody's installation; they read settings when they need them, never before."""
"""None of them may start a thread when it is imported, or read the settings, which it does not find then. One that is
not installed is left out."""


SETTINGS = "dbmaint_site.settings"


class Preloaded:
    """The process that forks. `close` ends it and all that it began."""

    def __init__(self, project: Path) -> None:
        self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.acceptance.preloaded", str(theirs.fileno())],
                cwd=project,
                env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(self, args: Sequence[str], env: Mapping[str, str], stdout: Any = None, stderr: Any = None) -> Command:
        """Begin `manage.py` with these arguments. Without files of its own it writes to those that it reads back."""
        return Command(self._asking, args, env, stdout, stderr)

    def run(self, args: Sequence[str], env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Return what `manage.py` with these arguments wrote and its exit code, negative for a signal.

        Raises subprocess.TimeoutExpired; the command is ended then.
        """
        with self.start(args, env) as command:
            out, err = command.communicate(seconds)
            assert command.returncode is not None
            return subprocess.CompletedProcess(command.args, command.returncode, out, err)

    def close(self) -> None:
        self._asking.close()
        self._process.wait(10)


class Command:
    """A command in a fork, as subprocess.Popen has it."""

    def __init__(
        self, asking: socket.socket, args: Sequence[str], env: Mapping[str, str], stdout: Any, stderr: Any
    ) -> None:
        self.args = ["manage.py", *args]
        self.returncode: int | None = None
        # Files, not pipes: a server that a command starts would keep a pipe open after the command's end.
        self._files: list[IO[str]] = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        written = [mine if file is None else file for file, mine in zip((stdout, stderr), self._files, strict=True)]
        self._told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tempfile.TemporaryFile("w+") as asked:
            json.dump({"args": list(args), "env": dict(env)}, asked)
            asked.flush()
            files = (asked, *written, theirs)
            socket.send_fds(asking, [b"begin"], [file if isinstance(file, int) else file.fileno() for file in files])
        self.pid = int(self._told.recv(100))

    def poll(self) -> int | None:
        if self.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self.returncode = int(self._told.recv(100))
            except (TimeoutError, BlockingIOError) as error:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from error
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it wrote up to its end. Raises subprocess.TimeoutExpired."""
        self.wait(timeout)
        for file in self._files:
            file.seek(0)
        out, err = (file.read() for file in self._files)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if raised[0] is not None:
            self.terminate()
            try:
                self.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        self.wait()
        for file in self._files:
            file.close()
        self._told.close()


def _load(home: str) -> None:
    """Import all that commands need. `home`: of the installation that nobody uses."""
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    os.environ.update(DJANGO_SETTINGS_MODULE=SETTINGS, DBMAINT_HOME=home, DBMAINT_INSECURE="1")
    import django

    django.setup()
    for name in CONSOLE:
        importlib.import_module(name)


def _settle() -> None:
    """Make the settings, and what libraries made of them, out of this fork's environment."""
    from asgiref.local import Local
    from django.conf import settings
    from django.db import connections
    from django.test.signals import setting_changed
    from django.utils.functional import empty

    before = {name: getattr(settings, name) for name in dir(settings) if name.isupper()}
    importlib.reload(sys.modules[SETTINGS])
    settings._wrapped = empty
    connections.__dict__.pop("settings", None)
    connections.__dict__.update(_settings=None, _connections=Local(connections.thread_critical))
    for name in dir(settings):
        if name.isupper() and name != "DATABASES" and before.get(name) != (value := getattr(settings, name)):
            setting_changed.send(sender=type(settings), setting=name, value=value, enter=True)
    _settle_queue()
    # Shared memory: a cluster that ends would tell the commands after it to leave their work.
    heartbeat: Any = sys.modules["maintenance.workflow.heartbeat"]
    heartbeat.cluster_ends = multiprocessing.get_context("fork").Event()


def _settle_queue() -> None:
    """django-q2 reads its settings when it is imported."""
    conf: Any = sys.modules["django_q.conf"]
    known = conf.Conf
    importlib.reload(conf)
    for name, value in vars(conf.Conf).items():
        if not name.startswith("__"):
            setattr(known, name, value)
    conf.Conf = known


def _serve(asking: socket.socket) -> None:
    """Fork for each request, and tell whoever asked when and how the fork ended."""
    with tempfile.TemporaryDirectory() as home:
        _load(home)
        gc.collect()
        gc.freeze()
        _answer(asking)


def _answer(asking: socket.socket) -> None:
    running: dict[int, tuple[int, socket.socket]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(asking, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not asking:
                    child, told = running.pop(key.fd)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    with told, suppress(OSError):
                        told.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
                    continue
                begun = _begin(asking, [told for _, told in running.values()])
                if begun is None:
                    for child, _ in running.values():
                        os.kill(child, signal.SIGKILL)
                    return
                watched = os.pidfd_open(begun[0])
                running[watched] = begun
                selector.register(watched, selectors.EVENT_READ)


def _begin(asking: socket.socket, others: list[socket.socket]) -> tuple[int, socket.socket] | None:
    """Return the fork and the line on which its end is told; None when nobody will ask any more."""
    _, files, _, _ = socket.recv_fds(asking, 100, 4)
    if not files:
        return None
    asked, out, err = files[:3]
    told = socket.socket(fileno=files[3])
    child = os.fork()
    if child == 0:
        for inherited in (asking, told, *others):
            inherited.close()
        _become(asked, out, err)
    for file in (asked, out, err):
        os.close(file)
    told.send(str(child).encode())
    return child, told


def _become(asked: int, out: int, err: int) -> None:
    """Run the command in this fork; does not return."""
    code = 1
    try:
        with open(asked) as file:
            file.seek(0)
            wanted = json.load(file)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, standard in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(source, standard)
            os.close(source)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
        os.environ.clear()
        os.environ.update(wanted["env"])
        if wanted["env"].get("DJANGO_SETTINGS_MODULE") == SETTINGS:
            _settle()
        sys.argv = ["manage.py", *wanted["args"]]
        runpy.run_path("manage.py", run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            _finish()
        os._exit(code)


def _finish() -> None:
    """Do what the interpreter does at its end: threads, exit functions, buffers."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
