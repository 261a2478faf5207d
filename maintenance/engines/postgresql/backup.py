"""Backups: logical by pg_dump, or physical by pg_basebackup, which does not mind a damaged page.

Always read back whole before the file gets its name: the digest, then every entry decoded by pg_restore (or
every file of the tar).
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from .. import archive
from ..archive import Archive, Seal
from ..errors import Unable
from ..messages import msg
from ..parts import Backups
from ..values import Backup, Fingerprint, Image
from .fingerprints import Fingerprints
from .image import Images
from .native_programs import CHUNK, Dumped, NativePrograms, program
from .sequences import sequence_values
from .sql import ask
from .target import TargetDatabase


class PostgresBackups(Backups):
    """Writes backups, and what a rollback restores from."""

    methods = ("pg_dump", "pg_basebackup")

    def __init__(
        self, target: TargetDatabase, programs: NativePrograms, fingerprints: Fingerprints, images: Images
    ) -> None:
        self.target, self.programs, self.fingerprints, self.images = target, programs, fingerprints, images

    def image(self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal) -> Image:
        """See Backups.image."""
        return self.images.make(backup, baseline, folder, stem, seal)

    def back_up(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        """See Backups.back_up."""
        self._refuse_frozen()
        if method == "pg_dump":
            return self._dump_with_snapshot(folder, stem, seal)
        if method == "pg_basebackup":
            return self._base_backup(folder, stem, seal)
        raise Unable("backing up", self.target.name, msg("there is no method {method}", method=method))

    def _refuse_frozen(self) -> None:
        """Raise what the server says where it takes no writes, e.g. past its limit of transactions or as a standby: the
        cut would be its first one, with applications stopped already."""
        with self.target.control("asking for a transaction number for") as connection:
            ask(connection, "SELECT pg_catalog.txid_current()")

    def _dump_with_snapshot(self, folder: Path, stem: str, seal: Seal) -> Backup:
        """The fingerprints are of exactly the rows in the file: both see one exported snapshot."""
        definitions, sequences = self.fingerprints.definitions(), sequence_values(self.target)
        with self.target.session("backing up") as holder:
            ask(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            [(snapshot,)] = ask(holder, "SELECT pg_export_snapshot()")
            part, written = self.programs.dump(folder, stem, seal, [f"--snapshot={snapshot}"])
            with archive.removed_unless_good(part):
                # Only now: the dump has read every value, so reading them again does not end the server.
                prints = self.fingerprints.read(None, snapshot=str(snapshot), definitions=definitions)
                # Both as they were before the dump: what changed while it was made counts as changed since.
                self.programs.dumped[written.sha256] = Dumped(definitions, sequences)
                ask(holder, "ROLLBACK")
        return self._publish(part, written, folder / f"{stem}.dump{seal.extension}", "pg_dump", seal, prints)

    def _base_backup(self, folder: Path, stem: str, seal: Seal) -> Backup:
        """Write the whole cluster, as the replication protocol gives it; wrong checksums are no reason to fail."""
        prints = self.fingerprints.read(None)
        part = folder / f"{stem}.part.tar{seal.extension}"
        args = [
            program("pg_basebackup", self.target.capabilities.major),
            "--pgdata=-",
            "--format=tar",
            "--wal-method=fetch",
            "--checkpoint=fast",
            "--no-verify-checksums",
            "--no-password",
            f"--dbname={self.programs.conninfo(self.target.place())}",
        ]
        written = self.programs.capture("backing up the cluster of", args, part, seal)
        with archive.removed_unless_good(part):
            self.programs.read_back(written, seal, self._decode_tar)
        return self._publish(part, written, folder / f"{stem}.tar{seal.extension}", "pg_basebackup", seal, prints)

    def _decode_tar(self, stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            names = 0
            for member in tar:
                self.target.raise_if_stopping("reading back the backup of", self.target.name)
                names += 1
                file = tar.extractfile(member) if member.isfile() else None
                while file is not None and file.read(CHUNK):
                    pass
        if not names:
            raise tarfile.ReadError("the archive is empty")

    def _publish(
        self, part: Path, written: Archive, final: Path, method: str, seal: Seal, prints: Mapping[str, Fingerprint]
    ) -> Backup:
        with archive.failures_told("naming the backup of", self.target.name):
            archive.publish(part, final)
        whole = replace(written, path=final)
        return Backup(whole.path, method, whole.bytes, whole.sha256, seal.opens, prints)
