"""Backups: read back, bound to the rows in them, and not stopped by a damaged page."""

from __future__ import annotations

import time
from pathlib import Path

import pyrage
import pytest

from maintenance.engines import open_engine
from maintenance.engines.archive import Seal
from maintenance.engines.errors import AccessDenied, Damaged, EngineError, ResourceShortage
from maintenance.engines.postgresql import PostgreSQL
from maintenance.engines.postgresql.native_programs import NativePrograms
from maintenance.engines.values import Limits, Tag
from tests.engines.lab_postgresql import PostgreSQLLab

from .world import PLAIN, engine


def test_a_sealed_backup_is_read_back_and_bound_to_the_rows_in_it(lab: PostgreSQLLab) -> None:
    names = lab.difficult()
    identity = pyrage.x25519.Identity.generate()
    key = lab.folder / "key"
    key.write_text(str(identity))
    with engine(lab) as made:
        backup = made.backups.back_up("pg_dump", lab.folder, "night", Seal((str(identity.to_public()),), key))
        assert backup.verified
        assert backup.snapshot == made.verifier.fingerprint(None)
    assert backup.path.name == "night.dump.zst.age"
    assert set(backup.snapshot) == {*names, "large objects"}
    assert [path.name for path in lab.folder.iterdir() if ".part" in path.name] == []


def test_a_damaged_page_breaks_the_logical_backup_but_not_the_physical_one(lab: PostgreSQLLab) -> None:
    lab.fill()
    orders = lab.damage_table()
    with engine(lab) as made:
        with pytest.raises(Damaged, match="invalid page"):
            made.backups.back_up("pg_dump", lab.folder, "one", PLAIN)
        assert list(lab.folder.iterdir()) == []
        backup = made.backups.back_up("pg_basebackup", lab.folder, "two", PLAIN)
    assert backup.verified
    assert backup.bytes > 1_000_000
    assert not backup.snapshot[orders].readable
    assert backup.snapshot["public.customers"].readable


def test_a_place_that_cannot_be_written_is_a_shortage(lab: PostgreSQLLab) -> None:
    lab.fill()
    with engine(lab) as made, pytest.raises(ResourceShortage):
        made.backups.back_up("pg_dump", Path("/nowhere/at/all"), "one", PLAIN)


def test_the_password_reaches_the_programs_and_nothing_else(lab: PostgreSQLLab) -> None:
    lab.fill()
    lab.sql("CREATE ROLE secret_dba LOGIN SUPERUSER PASSWORD 'geheim-123'")
    rules = lab.server.server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("host all secret_dba 127.0.0.1/32 scram-sha-256\n" + before)
    lab.sql("SELECT pg_reload_conf()")
    time.sleep(0.3)
    try:
        url = lab.url.set(username="secret_dba", password="geheim-123")
        made = open_engine(url, Tag(7, 1), Limits())
        assert isinstance(made, PostgreSQL)
        assert made.backups.back_up("pg_dump", lab.folder, "one", PLAIN).verified
        assert "geheim" not in NativePrograms(made.target).conninfo(lab.name)
        made.close()
        wrong = open_engine(url.set(password="falsch-123"), Tag(7, 1), Limits())
        with pytest.raises(AccessDenied, match="password authentication failed") as caught:
            wrong.sessions.facts()
        assert "falsch-123" not in str(caught.value)
    finally:
        rules.write_text(before)
        lab.sql("SELECT pg_reload_conf()")
        lab.sql("DROP ROLE secret_dba")


def test_further_tablespaces_are_no_single_stream(lab_with_checksums: PostgreSQLLab) -> None:
    """What the finding `no_physical_backup` says beforehand."""
    lab = lab_with_checksums
    with engine(lab) as made, pytest.raises(EngineError, match="can only write single tablespace to stdout"):
        made.backups.back_up("pg_basebackup", lab.folder, "two", PLAIN)
    assert list(lab.folder.glob("*two*")) == []
