"""The console in a home of its own, and its processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .case import Case
from .loaded import Loaded
from .target import DATABASE, Target

PROJECT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 240.0
APPLICATION = "shop-web"
QUICK = (
    "stage_wait_seconds=0",
    "load_seconds=0.1",
    "transient_wait_seconds=0.2",
    "resource_wait_seconds=0.2",
    "integrity_wait_seconds=0",
    "benchmark_repeats=2",
    "minimum_bytes=10000",
    "bloat_share=0.1",
    "dead_share=0.1",
    "stale_share=0.01",
    "cut_seconds=10",
    "lock_seconds=5",
    "watch_minutes=0",
    f'applications=["{APPLICATION}"]',
)


@dataclass(frozen=True)
class Ended:
    """A process that ended."""

    code: int
    output: str
    seconds: float

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class ConsoleFailed(Exception):
    """The console could not even be set up."""


class Console:
    """Prepared once with the database registered; `fresh` goes back to that."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.home, self.ready, self.target = folder / "home", folder / "ready", target
        self.log: list[str] = []
        self.output = folder / "said"
        self.home.mkdir(parents=True)
        flag = str(self.flag)
        commands = {"stop": ["rm", "-f", flag], "start": ["touch", flag], "check": ["test", "-e", flag]}
        roots = [str(target.backups.parent), str(self.home / "alternate")]
        known = {"applications": {APPLICATION: commands}, "backup_roots": roots}
        (self.home / "config.json").write_text(json.dumps(known))
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DBMAINT_")}
        self.loaded = Loaded(
            {
                **kept,
                **target.environment,
                "DJANGO_SETTINGS_MODULE": "chaos.settings",
                "DBMAINT_HOME": str(self.home),
                "DBMAINT_CONFIG": str(self.home / "config.json"),
                "DBMAINT_INSECURE": "1",
                "DBMAINT_LEASE_SECONDS": "2",
            }
        )
        self._needed("migrate", "-v0")
        self._needed(
            "register_target", DATABASE, target.url.render_as_string(hide_password=False),
            "--backup-dir", str(target.backups), "--alternate-backup-dir", str(self.home / "alternate"),
            *(f"--set={pair}" for pair in QUICK),
        )  # fmt: skip
        self.home.rename(self.ready)

    def close(self) -> None:
        self.loaded.close()

    @property
    def flag(self) -> Path:
        """Is there while the application runs."""
        return self.home / "application is running"

    def fresh(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.ready, self.home)
        (self.home / "tmp").mkdir()
        self.flag.touch()
        self.log = []

    def _needed(self, *args: str) -> None:
        done = self.run(*args)
        if done.code:
            raise ConsoleFailed(done.output)

    def run(self, *args: str, **environment: str) -> Ended:
        begun = time.monotonic()
        code = self.loaded.run(list(args), environment, self.output, PATIENCE_SECONDS)
        output = self.output.read_text(errors="replace")
        seconds = time.monotonic() - begun
        ended = (
            Ended(code, output, seconds) if code is not None else Ended(-signal.SIGALRM, f"{output}\nNo end.", seconds)
        )
        words = {k: v for k, v in environment.items() if k.startswith("DBMAINT_CHAOS") or k == "DBMAINT_CRASH_AT"}
        self.log.append(f"{words} {args[0]} → {ended.code}, {ended.seconds:.1f} s\n{ended.output}")
        return ended

    def maintain(self, case: Case) -> Ended:
        return self.run(
            "maintain", "--type", case.kind, "--database", DATABASE, "--severity", "high", "--reason", str(case),
            "--foreground", **self._of(case, case.point),
        )  # fmt: skip

    def recover(self, case: Case, point: str = "") -> Ended:
        return self.run("recover", **self._of(case, point))

    def release(self, case: Case, point: str = "") -> Ended:
        return self.run("release", DATABASE, **self._of(case, point))

    def _of(self, case: Case, point: str) -> dict[str, str]:
        places = os.pathsep.join((str(self.home), str(self.target.folder)))
        trace = str(self.home / "trace")
        told = {"DBMAINT_CHAOS": case.path, "DBMAINT_CHAOS_TRACE": trace, "DBMAINT_CHAOS_PLACES": places}
        return {**told, "DBMAINT_CRASH_AT": point} if point else told

    def points(self) -> list[str]:
        """Every point passed, in order."""
        trace = self.home / "trace"
        return trace.read_text().splitlines() if trace.exists() else []

    def asked(self, sql: str) -> list[tuple[Any, ...]]:
        """From the control database, by plain SQL."""
        with closing(sqlite3.connect(self.home / "control.sqlite3", timeout=10)) as connection:
            return connection.execute(sql).fetchall()
