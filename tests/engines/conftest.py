"""The labs: one server a session and product, one fresh database a test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol

import pytest

from maintenance.engines.programs import CommandFailed
from tests.engines.lab import Lab
from tests.places import place

LABS = {
    "sqlite": "tests.engines.lab_sqlite:SQLiteLab",
    "postgresql": "tests.engines.lab_postgresql:PostgreSQLLab",
    "mariadb": "tests.engines.lab_mariadb:MariaDBLab",
    "mysql": "tests.engines.lab_mysql:MySQLLab",
}


class LabServer(Protocol):
    def fresh(self) -> Lab: ...


def short_folder() -> Path:
    """Not pytest's own: a server under another account must reach it, and a socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="dbm-", dir=place()))
    os.chmod(folder, 0o755)
    return folder


@pytest.fixture(scope="session", params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in LABS])
def lab_server(request: pytest.FixtureRequest) -> Iterator[LabServer]:
    """Skipped, with the reason, where the product is not installed."""
    module, _, name = LABS[request.param].partition(":")
    folder = short_folder()
    try:
        try:
            opening = getattr(import_module(module), name).opened(folder)
            server = opening.__enter__()
        except (FileNotFoundError, CommandFailed) as error:
            pytest.skip(f"no {request.param} here: {error}")
        try:
            yield server
        finally:
            opening.__exit__(None, None, None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(lab_server: LabServer) -> Lab:
    return lab_server.fresh()
