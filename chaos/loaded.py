"""The console, loaded once: it forks for each command a process that does what `manage.py` with these arguments does.

A thousand processes of the matrix would otherwise spend more time on loading than on work. Speaks lines of JSON:
in come `args`, `environment` and `output`, out go first the `pid`, then the `code` as subprocess tells it.
"""

from __future__ import annotations

import json
import logging.config
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

HEAVY = (
    "MySQLdb", "psycopg2", "reports.pdf", "reports.performance", "sqlalchemy.dialects.mysql.mysqldb",
    "sqlalchemy.dialects.postgresql.psycopg2", "maintenance.engines.mysql", "maintenance.engines.postgresql",
    "maintenance.engines.sqlite", "maintenance.management.commands.maintain",
    "maintenance.management.commands.recover", "maintenance.management.commands.release",
    "maintenance.management.commands.verify_audit", "maintenance.urls",
)  # fmt: skip


class Loaded:
    """The forking process, seen from the matrix."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chaos.loaded"],
            cwd=Path(__file__).resolve().parents[1],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, args: list[str], environment: dict[str, str], output: Path, seconds: float) -> int | None:
        """The exit code, negative for a signal; None when it did not end in time and was ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"args": args, "environment": environment, "output": str(output)}) + "\n")
        pid = self._answer(seconds)["pid"]
        answer = self._answer(seconds, otherwise={})
        if not answer:
            os.kill(pid, 9)
            self._answer(60)
            return None
        return int(answer["code"])

    def _answer(self, seconds: float, otherwise: dict[str, int] | None = None) -> dict[str, int]:
        assert self.process.stdout is not None
        with DefaultSelector() as selector:
            selector.register(self.process.stdout, EVENT_READ)
            if not selector.select(seconds):
                if otherwise is None:
                    raise TimeoutError("the loaded console does not answer")
                return otherwise
        told: dict[str, int] = json.loads(self.process.stdout.readline())
        return told

    def close(self) -> None:
        with self.process:  # closes the pipes, at which it ends
            pass


def main() -> None:
    import django

    django.setup()
    for name in HEAVY:
        try:
            import_module(name)
        except ImportError:
            continue  # A product that is not installed here is not in the matrix.
    for line in sys.stdin:
        told = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(told)
            return
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def become(told: dict[str, Any]) -> None:
    """From here on this process is that one command."""
    from django.apps import apps
    from django.conf import settings
    from django.core.management import execute_from_command_line

    output = os.open(told["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, own in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, own)
    os.environ.update(told["environment"])
    logging.config.dictConfig(settings.LOGGING)
    apps.get_app_config("chaos").ready()
    execute_from_command_line(["manage.py", *told["args"]])


if __name__ == "__main__":
    main()
