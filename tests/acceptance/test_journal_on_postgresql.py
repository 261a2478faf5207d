"""The journal and the launch on PostgreSQL as the control database, by the tests that hold for SQLite too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from django.conf import settings

from tests.engines.conftest import short_folder
from tests.engines.lab_postgresql import PostgreSQLServer

TESTS = ("tests/unit/test_journal.py", "tests/unit/test_launch.py")


@pytest.mark.rare
def test_journal_and_launch_hold_on_postgresql() -> None:
    folder = short_folder()
    try:
        with PostgreSQLServer.opened(folder) as server:
            server.run("postgres", "CREATE DATABASE control")
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    "-q",
                    "-x",
                    "-p",
                    "no:cacheprovider",
                    "-k",
                    "not control_database_itself",
                    *TESTS,
                ],
                cwd=settings.BASE_DIR,
                env={**os.environ, "DBMAINT_TEST_DATABASE_URL": server.server.url("control")},
                capture_output=True,
                text=True,
                timeout=600,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
