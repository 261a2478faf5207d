"""Runs `manage.py` commands in forks of one process that has the libraries loaded already.

A command spends more time on importing Django, SQLAlchemy and the drivers than on its work. What depends on the
environment - settings, models, the console's own modules - is imported in the fork, as in a process of its own.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LIBRARIES = (
    "django.core.management", "django.core.serializers.json", "django.db.backends.sqlite3.base", "django.db.models",
    "django.forms", "django.http", "django.template", "django.urls", "django.views.generic",
    "MySQLdb", "cryptography.fernet", "cryptography.hazmat.primitives.ciphers.aead", "prometheus_client", "psycopg2",
    "pydantic", "pyrage", "redis", "rich.live", "rich.table", "sqlalchemy", "sqlalchemy.dialects.mysql.mysqldb",
    "sqlalchemy.dialects.postgresql.psycopg2", "sqlalchemy.dialects.sqlite.pysqlite", "weasyprint", "zstandard",
)  # fmt: skip
"""None of them may start a thread or read the settings when it is imported."""


class Preloaded:
    """The process that forks. One command at a time; `close` ends it."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.preloaded"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, args: Sequence[str], env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Return what `manage.py` with these arguments said and its exit code, negative for a signal.

        Raises subprocess.TimeoutExpired; the command is killed then.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Files, not pipes: a server that a command starts would keep a pipe open after the command's end.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            asked = {"args": list(args), "env": dict(env), "seconds": seconds, "owner": os.getpid()}
            asked |= {"stdout": out.fileno(), "stderr": err.fileno()}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            ended = json.loads(self._process.stdout.readline())
            out.seek(0)
            err.seek(0)
            if ended is None:
                raise subprocess.TimeoutExpired(["manage.py", *args], seconds, out.read(), err.read())
            return subprocess.CompletedProcess(["manage.py", *args], ended, out.read(), err.read())

    def close(self) -> None:
        self._process.communicate(timeout=10)


def _serve() -> None:
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    answers = os.dup(1)
    os.set_inheritable(answers, False)
    for line in sys.stdin:
        asked = json.loads(line)
        files = [os.open(f"/proc/{asked['owner']}/fd/{asked[name]}", os.O_RDWR) for name in ("stdout", "stderr")]
        child = os.fork()
        if child == 0:
            os.close(answers)
            _become(asked["args"], asked["env"], *files)
        for file in files:
            os.close(file)
        os.write(answers, (json.dumps(_wait(child, asked["seconds"])) + "\n").encode())


def _become(args: Sequence[str], env: Mapping[str, str], out: int, err: int) -> None:
    """Run the command in this fork; does not return."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, standard in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(source, standard)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ["manage.py", *args]
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)
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


def _wait(child: int, seconds: float) -> int | None:
    """Return the exit code; None when it had to be killed after `seconds`."""
    import select

    watched = os.pidfd_open(child)
    try:
        late = not select.select([watched], [], [], seconds)[0]
    finally:
        os.close(watched)
    if late:
        os.kill(child, 9)
    status = os.waitpid(child, 0)[1]
    return None if late else os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    _serve()
