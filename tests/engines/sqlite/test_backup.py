"""Backups and the image under the cut."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pyrage
import pytest

from maintenance.engines import archive
from maintenance.engines.archive import Seal
from maintenance.engines.errors import Damaged, ResourceShortage
from tests.engines.lab_sqlite import SQLiteLab
from tests.engines.sqlite.world import (
    PLAIN,
    under_cut,
)


class TestBackup:
    def test_rows_that_are_only_in_the_write_ahead_log_are_in_both_kinds(self, wal_lab: SQLiteLab) -> None:
        wal_lab.fill()
        with closing(sqlite3.connect(wal_lab.path, isolation_level=None)) as client:
            client.execute("PRAGMA wal_autocheckpoint = 0")
            client.execute("INSERT INTO orders VALUES (100001, 1, 'new', 'in the log')")
            with wal_lab.engine() as engine:
                now = engine.verifier.fingerprint(None)
                for method in engine.backups.methods:
                    assert engine.backups.back_up(method, wal_lab.folder, method, PLAIN).snapshot == now
        assert now["orders"].rows == 8001

    def test_a_sealed_file_that_nobody_here_can_open_is_still_read_back(
        self, lab: SQLiteLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without the identity the digest is all that can tell."""
        lab.fill()
        seal = Seal((str(pyrage.x25519.Identity.generate().to_public()),))
        write = archive.write

        def flipped(*args: object) -> archive.Archive:
            written = write(*args)  # type: ignore[arg-type]
            content = bytearray(written.path.read_bytes())
            content[-1] ^= 1
            written.path.write_bytes(content)
            return written

        monkeypatch.setattr(archive, "write", flipped)
        with lab.engine() as engine:
            for method in engine.backups.methods:
                with pytest.raises(ResourceShortage, match="reads back differently"):
                    engine.backups.back_up(method, lab.folder, method, seal)
        assert list(lab.folder.iterdir()) == []

    def test_a_damaged_table_is_copied_with_its_damage_and_the_backup_says_so(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.damage_table()
        with lab.engine() as engine:
            for method in engine.backups.methods:
                backup = engine.backups.back_up(method, lab.folder, method, PLAIN)
                assert backup.verified
                assert not backup.snapshot["orders"].readable
                assert backup.snapshot["customers"].rows == 2000

    def test_a_file_without_its_header_can_still_be_copied_as_it_lies(self, lab: SQLiteLab) -> None:
        lab.fill()
        lab.write(0, bytes(16))
        with lab.engine() as engine:
            with pytest.raises(Damaged):
                engine.backups.back_up("sqlite_backup", lab.folder, "first", PLAIN)
            backup = engine.backups.back_up("file_copy", lab.folder, "second", PLAIN)
        assert backup.verified
        assert [path.name for path in lab.folder.iterdir()] == [backup.path.name]

    def test_a_sealed_backup_is_opened_again_and_without_the_key_it_is_not_called_verified(
        self, lab: SQLiteLab, tmp_path: Path
    ) -> None:
        lab.fill()
        identity = pyrage.x25519.Identity.generate()
        key = tmp_path / "age.key"
        key.write_text(f"{identity}\n")
        recipients = (str(identity.to_public()),)
        with lab.engine() as engine:
            opened = engine.backups.back_up("sqlite_backup", lab.folder, "a", Seal(recipients, key))
            closed = engine.backups.back_up("sqlite_backup", lab.folder, "b", Seal(recipients))
        assert (opened.verified, closed.verified) == (True, False)
        with archive.reading(opened.path, Seal(recipients, key)) as plain:
            assert plain.read(16) == b"SQLite format 3\x00"

    def test_the_image_goes_to_the_backup_folder_where_there_is_no_room_beside_the_file(
        self, lab: SQLiteLab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.fill()
        usage = shutil.disk_usage
        beside = lab.path.parent
        monkeypatch.setattr(shutil, "disk_usage", lambda p: usage(p)._replace(free=5_000_000 if p == beside else 10**9))
        with lab.engine() as engine:
            backup = engine.backups.back_up("sqlite_backup", lab.folder, "shop", PLAIN)
            with under_cut(engine):
                image = engine.backups.image(backup, {}, lab.folder, "stem", PLAIN)
            assert Path(image.name).parent == lab.folder
            assert engine.rollback.leftovers() == [image.name]
            # As after a crash: another object, which never heard of the image.
        with lab.engine(token=2) as engine:
            assert engine.rollback.clean() == [image.name]
        assert list(beside.iterdir()) == [lab.path]
