"""The console in a home of its own: maintenance as a process, and what its journal and the system tell of it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from resource import struct_rusage

from .figures import Span, covered

PROJECT = Path(__file__).resolve().parents[1]
REPEATS, LOAD_SECONDS, LOAD_CLIENTS = 5, 1, 2
SETTINGS = (
    "stage_wait_seconds=0",
    "watch_minutes=0",
    f"benchmark_repeats={REPEATS}",
    f"load_seconds={LOAD_SECONDS}",
    f"load_clients={LOAD_CLIENTS}",
)
"""Waits that the specification asks for are no overhead, so there are none here."""
POLL_SECONDS = 0.02


class RunFailed(Exception):
    """The maintenance, or the console around it, did not succeed; the words are its own."""


@dataclass(frozen=True)
class Line:
    """One line of the journal: a step, or with `part` one effect inside it."""

    step: str
    part: str
    span: Span


@dataclass(frozen=True)
class Run:
    """One maintenance: `whole` from the start of the process to its end, `asked` from the request until the run has
    ended with its reports; `actions` are pairs of object and action.

    `processor_seconds` are those of the process and of the programs that it ran. `peak_mb` is the largest resident
    memory of the process; `peak_working_mb` that before the reports were made.
    """

    whole: Span
    asked: Span
    target: Span
    outage: Span
    lines: tuple[Line, ...]
    actions: tuple[tuple[str, str], ...]
    processor_seconds: float
    peak_mb: float
    peak_working_mb: float

    def spans(self, step: str, part: str = "") -> list[Span]:
        """Return those of this step; with `part`, of the effects whose name begins so."""
        return [
            line.span
            for line in self.lines
            if line.step == step and (line.part.startswith(part) if part else not line.part)
        ]

    def worked_on(self, action: str) -> list[str]:
        """Objects that had this action."""
        return [object for object, kind in self.actions if kind == action]

    def seconds(self, step: str, part: str = "") -> float:
        return covered(self.spans(step, part))


class Console:
    """A fresh control database; one registered target is enough here."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self._needed("migrate", "-v0")

    def register(self, name: str, url: str, *settings: str) -> None:
        pairs = [f"--set={pair}" for pair in (*SETTINGS, *settings)]
        self._needed("register_target", name, "-", *pairs, words=url)

    def maintain(self, kind: str, database: str) -> Run:
        """Raises RunFailed unless the run succeeded."""
        arguments = ("--type", kind, "--database", database, "--severity", "high", "--reason", "benchmark")
        log = self.home / "maintain.log"
        samples: list[tuple[float, float]] = []
        with open(log, "wb") as output:
            begun = time.time()
            process = subprocess.Popen(
                self._command("maintain", *arguments, "--foreground"),
                cwd=PROJECT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                while True:
                    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                    if pid:
                        break
                    samples.append((time.time(), resident_peak_mb(process.pid)))
                    time.sleep(POLL_SECONDS)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        process.returncode = os.waitstatus_to_exitcode(status)
        whole = Span(begun, time.time())
        if process.returncode:
            raise RunFailed(f"{kind} of {database} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
        return self._told(whole, samples, usage)

    def _told(self, whole: Span, samples: Sequence[tuple[float, float]], usage: struct_rusage) -> Run:
        with closing(sqlite3.connect(self.home / "control.sqlite3")) as control:
            number, *moments = control.execute(
                "SELECT id, started_at, finished_at, outage_started_at, outage_ended_at FROM run_target"
                " ORDER BY id DESC LIMIT 1"
            ).fetchone()
            found = control.execute(
                "SELECT step, part, started_at, finished_at FROM step_record"
                " WHERE target_id = ? AND finished_at IS NOT NULL ORDER BY id",
                (number,),
            ).fetchall()
            [(created,)] = control.execute("SELECT created_at FROM tbl_096_maintenance_run ORDER BY id DESC LIMIT 1")
            [(reported,)] = control.execute(
                "SELECT at FROM audit_entry WHERE operation = 'run.ended' ORDER BY id DESC LIMIT 1"
            )
            actions = control.execute(
                "SELECT object, action FROM action_record WHERE target_id = ?", (number,)
            ).fetchall()
        started, finished, cut, open_again = (moment(text) if text else whole.begun for text in moments)
        working = [peak for at, peak in samples if at <= finished]
        return Run(
            whole=whole,
            asked=Span(moment(created), moment(reported)),
            target=Span(started, finished),
            outage=Span(cut, open_again),
            lines=tuple(Line(step, part, Span(moment(begun), moment(ended))) for step, part, begun, ended in found),
            actions=tuple(actions),
            processor_seconds=usage.ru_utime + usage.ru_stime,
            peak_mb=usage.ru_maxrss / 1024,
            peak_working_mb=max(working, default=0.0),
        )

    def _needed(self, *arguments: str, words: str = "") -> None:
        done = subprocess.run(
            self._command(*arguments),
            cwd=PROJECT,
            env=self._environment(),
            input=words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RunFailed(f"{arguments[0]} ended with {done.returncode}: {done.stdout}")

    def _command(self, *arguments: str) -> list[str]:
        return ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "manage.py", *arguments]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DBMAINT_")}
        own = {"DBMAINT_HOME": self.home, "DBMAINT_CONFIG": self.home / "config.json", "DBMAINT_INSECURE": "1"}
        return {**kept, **{name: str(value) for name, value in own.items()}}


def moment(text: str) -> float:
    """As the control database writes it, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def resident_peak_mb(pid: int) -> float:
    """The largest resident size until now (VmHWM of proc(5)); 0 for a process that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
