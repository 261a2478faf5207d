"""The console as its people use it: its own commands in their own process, against real servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.preloaded import Command, Preloaded
from tests.engines.conftest import lab, lab_server, short_folder
from tests.engines.lab import Lab
from tests.places import MEMORY

__all__ = ["lab", "lab_server"]
PROJECT = Path(__file__).resolve().parents[2]
QUICK = (
    "stage_wait_seconds=0",
    "load_seconds=0.2",
    "transient_wait_seconds=0.2",
    "resource_wait_seconds=0.2",
    "integrity_wait_seconds=0",
    "benchmark_repeats=3",
    "minimum_bytes=100000",
)


@dataclass
class Console:
    """A console with a home of its own. `preloaded` runs its commands."""

    home: Path
    preloaded: Preloaded

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DBMAINT_")}
        return {
            **kept,
            "DJANGO_SETTINGS_MODULE": "dbmaint_site.settings",
            "DBMAINT_HOME": str(self.home),
            "DBMAINT_CONFIG": str(self.home / "config.json"),
            "DBMAINT_INSECURE": "1",
            **more,
        }

    def run(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.preloaded.run(args, self.environment(**environment), 600)

    def start(self, *args: str, **environment: str) -> Command:
        """Begin a command that a test looks at while it runs."""
        return self.preloaded.start(args, self.environment(**environment))

    def configure(self, **keys: Any) -> None:
        """Writes config.json; backups may lie wherever tests make folders."""
        (self.home / "config.json").write_text(
            json.dumps({"backup_roots": [str(MEMORY), tempfile.gettempdir()], **keys})
        )

    def register(self, lab: Lab, name: str = "shop", *settings: str) -> None:
        done = self.run(
            "register_target", name, lab.url.render_as_string(hide_password=False),
            "--backup-dir", str(lab.folder), "--alternate-backup-dir", str(self.home / "alternate"),
            *(f"--set={pair}" for pair in (*QUICK, *settings)),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def maintain(self, kind: str, *args: str, **environment: str) -> tuple[int, dict[str, Any]]:
        """Exit code and the JSON; an empty dict when the process was killed."""
        done = self.run(
            "maintain", "--type", kind, "--severity", "high", "--reason", "a test", "--foreground", "--json", *args,
            **environment,
        )  # fmt: skip
        if done.returncode == -signal.SIGKILL:
            return done.returncode, {}
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def recover(self) -> tuple[int, list[dict[str, Any]]]:
        done = self.run("recover", "--json")
        return done.returncode, json.loads(done.stdout)["recovered"]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Path:
    """A control database, made once and copied for each test."""
    console = Console(tmp_path_factory.mktemp("migrated"), preloaded)
    console.configure()
    done = console.run("migrate", "-v0")
    assert done.returncode == 0, done.stderr
    return console.home


@pytest.fixture
def console(migrated: Path, preloaded: Preloaded) -> Iterator[Console]:
    # Not pytest's folder: a server under another account has to reach backups and hooks.
    home = short_folder()
    shutil.copytree(migrated, home, dirs_exist_ok=True)
    yield Console(home, preloaded)
    shutil.rmtree(home, ignore_errors=True)
