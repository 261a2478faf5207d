"""One server of each kind for all of these tests, a fresh database a test, which is dropped after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from maintenance.engines.postgresql.image import Images
from tests.engines.conftest import short_folder
from tests.engines.lab_postgresql import PostgreSQLLab, PostgreSQLServer


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSQLServer]:
    with opened(with_checksums=False) as made:
        yield made


@pytest.fixture(scope="session")
def server_with_checksums() -> Iterator[PostgreSQLServer]:
    """Also with a tablespace `space` beside the usual one."""
    with opened(with_checksums=True) as made:
        place = made.server.folder / "space"
        place.mkdir()
        owner = made.server.data.stat()
        os.chown(place, owner.st_uid, owner.st_gid)
        made.run("postgres", f"CREATE TABLESPACE space LOCATION '{place}'")
        yield made


@contextmanager
def opened(with_checksums: bool) -> Iterator[PostgreSQLServer]:
    """With a log that subscribers can read."""
    folder = short_folder()
    try:
        with PostgreSQLServer.opened(folder, with_checksums, {"wal_level": "logical"}) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(server: PostgreSQLServer) -> Iterator[PostgreSQLLab]:
    with server.lent() as made:
        yield made


@pytest.fixture
def lab_with_checksums(server_with_checksums: PostgreSQLServer) -> Iterator[PostgreSQLLab]:
    with server_with_checksums.lent() as made:
        yield made


@pytest.fixture
def whole_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if so much had changed since the backup that dumping it again took longer than a copy of everything."""
    monkeypatch.setattr(Images, "_little", lambda *_: False)
