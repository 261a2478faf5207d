"""Backups of every engine: read back, and not called whole when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrage import x25519

from maintenance.engines import archive
from maintenance.engines.archive import Archive, ArchiveError, Seal
from maintenance.engines.base import Engine
from maintenance.engines.errors import ResourceShortage
from maintenance.engines.values import Backup
from tests.engines.lab import Lab
from tests.engines.working import PLAIN, backed_up, small_disk


class TestBackup:
    @pytest.mark.parametrize("which", [0, 1])
    def test_a_backup_is_read_back_and_holds_what_was_there(self, lab: Lab, which: int) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = engine.backups.back_up(engine.backups.methods[which], lab.folder, "shop", PLAIN)
            now = engine.verifier.fingerprint(None)
        assert backup.verified
        assert backup.path.stat().st_size == backup.bytes > 0
        archive.verify(Archive(backup.path, backup.bytes, backup.sha256))
        assert {name: now[name] for name in backup.snapshot} == dict(backup.snapshot)
        assert [path.name for path in lab.folder.iterdir()] == [backup.path.name]

    def test_a_flipped_byte_and_a_missing_end_are_noticed(self, lab: Lab) -> None:
        lab.fill()
        with lab.engine() as engine:
            backup = backed_up(engine, lab)
        whole = backup.path.read_bytes()
        middle = len(whole) // 2
        for damaged in (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], whole[:-20]):
            backup.path.write_bytes(damaged)
            with pytest.raises(ArchiveError):
                archive.verify(Archive(backup.path, backup.bytes, backup.sha256))

    def test_one_that_this_console_cannot_open_counts_by_its_digest_and_not_as_verified(self, lab: Lab) -> None:
        lab.fill()
        sealed = Seal((str(x25519.Identity.generate().to_public()),))
        with lab.engine() as engine:
            backup = engine.backups.back_up(engine.backups.methods[0], lab.folder, "shop", sealed)
        assert not backup.verified
        archive.verify(Archive(backup.path, backup.bytes, backup.sha256))
        assert [path.name for path in lab.folder.iterdir()] == [backup.path.name]

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_disk_that_forgets_what_was_written_gives_no_backup_and_asks_for_another_place(
        self, lab: Lab, which: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.fill()
        write = archive.write

        def forgetful(*args: object, **more: object) -> Archive:
            written = write(*args, **more)  # type: ignore[arg-type]
            with open(written.path, "r+b") as file:
                file.truncate(written.bytes - 10)
            return written

        monkeypatch.setattr(archive, "write", forgetful)
        with lab.engine() as engine, pytest.raises(ResourceShortage):
            engine.backups.back_up(engine.backups.methods[which], lab.folder, "shop", PLAIN)
        assert list(lab.folder.iterdir()) == []

    def test_a_folder_that_takes_no_files_is_a_shortage(self, lab: Lab) -> None:
        lab.fill()
        folder = lab.folder / "a file"
        folder.write_text("not a folder")
        with lab.engine() as engine, pytest.raises(ResourceShortage):
            engine.backups.back_up(engine.backups.methods[0], folder, "shop", PLAIN)
        assert folder.read_text() == "not a folder"

    def test_a_full_disk_is_a_shortage_and_leaves_no_part_of_a_file(self, lab: Lab, tmp_path: Path) -> None:
        lab.fill()
        with small_disk(tmp_path) as folder:
            with lab.engine() as engine, pytest.raises(ResourceShortage):
                backed_up_to(engine, folder)
            assert list(folder.iterdir()) == []


def backed_up_to(engine: Engine, folder: Path) -> Backup:
    return engine.backups.back_up(engine.backups.methods[0], folder, "shop", PLAIN)
