"""Backups: logical by pg_dump, or physical by pg_basebackup, which does not mind a damaged page.

Always read back whole before the file gets its name: the digest, then every entry decoded by pg_restore (or
every file of the tar). `pg_dump` does not compress: it writes no checksum then, but zstd does.
"""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

import glob
import os
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import psycopg2.extensions
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from .. import archive
from ..archive import Archive, ArchiveError, Seal
from ..errors import ResourceShortage, Unable
from ..messages import msg
from ..programs import PIPE, running
from ..values import Backup, Fingerprint, Limits, Tag
from .driver_errors import from_system, lost
from .relations import Server
from .sessions import OWN, arguments_of, spelled
from .sql import ask, canonical
from .verification import Proof

CHUNK = 1 << 20


def program(name: str, major: int) -> str:
    """The native program of the server's version, or the next newer one; PATH at last. A name without a folder
    when there is none: starting it then says so."""
    found: dict[int, str] = {}
    for path in glob.glob(f"/usr/lib/postgresql/*/bin/{name}") + glob.glob(f"/usr/pgsql-*/bin/{name}"):
        version = re.search(r"(\d+)/bin", path)
        if version and os.access(path, os.X_OK):
            found[int(version.group(1))] = path
    fitting = [path for version, path in sorted(found.items()) if version >= major]
    return fitting[0] if fitting else shutil.which(name) or name


SEQUENCES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND c.relpersistence <> 't'
"""
AT_ONCE = 200
"""Sequences in one statement."""


@dataclass(frozen=True)
class Dumped:
    """What was there when a dump was begun. `sequences` are None where they may not all be read."""

    definitions: dict[str, str]
    sequences: dict[str, tuple[int, bool]] | None


class BackingUp(Proof, Server):
    """Writes backups."""

    def __init__(self, url: URL, tag: Tag, limits: Limits) -> None:
        super().__init__(url, tag, limits)
        self.dumped: dict[str, Dumped] = {}
        """By the digest of a dump of this object's."""

    def back_up(self, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
        self._refuse_frozen()
        if method == "pg_dump":
            return self._dump_with_snapshot(folder, stem, seal)
        if method == "pg_basebackup":
            return self._base_backup(folder, stem, seal)
        raise Unable("backing up", self.database, msg("there is no method {method}", method=method))

    def _refuse_frozen(self) -> None:
        """Raise what the server says where it takes no writes, e.g. past its limit of transactions or as a standby: the
        cut would be its first one, with applications stopped already."""
        with self.control("asking for a transaction number for") as connection:
            ask(connection, "SELECT pg_catalog.txid_current()")

    def _dump_with_snapshot(self, folder: Path, stem: str, seal: Seal) -> Backup:
        """The fingerprints are of exactly the rows in the file: both see one exported snapshot."""
        definitions, sequences = self.definitions(), self.sequence_values()
        with self.session("backing up") as holder:
            ask(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            [(snapshot,)] = ask(holder, "SELECT pg_export_snapshot()")
            part, written = self.dump(folder, stem, seal, [f"--snapshot={snapshot}"])
            # Only now: the dump has read every value, so reading them again does not end the server.
            prints = self.fingerprints(None, snapshot=str(snapshot), definitions=definitions)
            # Both as they were before the dump: what changed while it was made counts as changed since.
            self.dumped[written.sha256] = Dumped(definitions, sequences)
            ask(holder, "ROLLBACK")
        return self._publish(part, written, folder / f"{stem}.dump{seal.extension}", "pg_dump", seal, prints)

    def dump(self, folder: Path, stem: str, seal: Seal, options: Sequence[str]) -> tuple[Path, Archive]:
        """A dump under its temporary name, read back. Raises ResourceShortage, Damaged, AccessDenied …"""
        part = folder / f"{stem}.part.dump{seal.extension}"
        args = [
            program("pg_dump", self.major()),
            "--format=custom",
            "--compress=0",
            "--no-password",
            f"--lock-wait-timeout={max(1, int(self.limits.lock_seconds))}s",
            *options,
            f"--dbname={self.conninfo(self.place())}",
        ]
        written = self._capture("backing up", args, part, seal)
        try:
            self._read_back(written, seal, self._decode_dump)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return part, written

    def _base_backup(self, folder: Path, stem: str, seal: Seal) -> Backup:
        """The whole cluster, as the replication protocol gives it; wrong checksums are no reason to fail."""
        prints = self.fingerprints(None)
        part = folder / f"{stem}.part.tar{seal.extension}"
        args = [
            program("pg_basebackup", self.major()),
            "--pgdata=-",
            "--format=tar",
            "--wal-method=fetch",
            "--checkpoint=fast",
            "--no-verify-checksums",
            "--no-password",
            f"--dbname={self.conninfo(self.place())}",
        ]
        written = self._capture("backing up the cluster of", args, part, seal)
        try:
            self._read_back(written, seal, self._decode_tar)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return self._publish(part, written, folder / f"{stem}.tar{seal.extension}", "pg_basebackup", seal, prints)

    def _capture(self, doing: str, args: Sequence[str], part: Path, seal: Seal) -> Archive:
        self.raise_if_stopping(doing, self.database)
        try:
            with self.translated(doing, self.database):
                try:
                    with running(
                        args, secrets=self.secrets(), stop=self.stopping, timeout=self.limits.statement_seconds
                    ) as child:
                        assert child.stdout is not None
                        written = archive.write(child.stdout, part, seal)
                except BaseException:
                    # What a failed program wrote is whole as an archive, and incomplete as a backup.
                    part.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise from_system(error, doing, self.database) from error
        return written

    def _read_back(self, written: Archive, seal: Seal, decode: object) -> None:
        try:
            with self.translated("reading back the backup of", self.database):
                archive.verify(written)
                if self.can_open(seal):
                    with archive.reading(written.path, seal) as stream:
                        assert callable(decode)
                        decode(stream)
        except (ArchiveError, tarfile.TarError) as error:
            raise ResourceShortage("reading back the backup of", self.database, str(error)) from error
        except OSError as error:
            raise from_system(error, "reading back the backup of", self.database) from error

    def can_open(self, seal: Seal) -> bool:
        """Without the identity file a sealed backup can only be compared by its digest."""
        return not seal.recipients or seal.identity_file is not None

    def _decode_dump(self, stream: IO[bytes]) -> None:
        self.restore_from(stream, ["--file=/dev/null"])

    def restore_from(self, stream: IO[bytes], options: Sequence[str]) -> None:
        """Feeds a dump to pg_restore. Raises CommandFailed."""
        args = [program("pg_restore", self.major()), *options]
        with running(
            args,
            secrets=self.secrets(),
            stdin=PIPE,
            stop=self.stopping,
            timeout=self.limits.statement_seconds,
        ) as child:
            assert child.stdin is not None
            # It may have all it wants before the end of the dump; its exit code tells whether that was so.
            with suppress(BrokenPipeError):
                while chunk := stream.read(CHUNK):
                    child.stdin.write(chunk)
                child.stdin.close()

    def _decode_tar(self, stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            names = 0
            for member in tar:
                self.raise_if_stopping("reading back the backup of", self.database)
                names += 1
                file = tar.extractfile(member) if member.isfile() else None
                while file is not None and file.read(CHUNK):
                    pass
        if not names:
            raise tarfile.ReadError("the archive is empty")

    def _publish(
        self, part: Path, written: Archive, final: Path, method: str, seal: Seal, prints: Mapping[str, Fingerprint]
    ) -> Backup:
        try:
            archive.publish(part, final)
        except OSError as error:
            raise from_system(error, "naming the backup of", self.database) from error
        whole = replace(written, path=final)
        return Backup(whole.path, method, whole.bytes, whole.sha256, self.can_open(seal), prints)

    # -- how the programs connect ------------------------------------------------------------------

    def sequence_values(self, side: str | None = None) -> dict[str, tuple[int, bool]] | None:
        """Sequence -> its last value, and whether that was given out. None where they may not all be read."""
        found: dict[str, tuple[int, bool]] = {}
        with self.session("reading sequences", database=side) as connection:
            names = [canonical(schema, name) for schema, name in ask(connection, SEQUENCES)]
            try:
                for first in range(0, len(names), AT_ONCE):
                    group = names[first : first + AT_ONCE]
                    asked = [f"SELECT {number}, last_value, is_called FROM {name}" for number, name in enumerate(group)]
                    rows = ask(connection, " UNION ALL ".join(asked))
                    found.update({group[number]: (int(value), bool(called)) for number, value, called in rows})
            except DBAPIError as error:
                if lost(error.orig):
                    raise
                return None
        return found

    def conninfo(self, database: str) -> str:
        """A connection string without the password. Its options are over those of the environment."""
        arguments = self._libpq()
        arguments.pop("password", None)
        settings = {"search_path": OWN["search_path"], "synchronous_commit": "local", **self._silence()}
        if self.ways.checks_client:
            settings["client_connection_check_interval"] = "500"
        arguments.update(
            dbname=database,
            application_name=self.tag.session,
            connect_timeout="10",
            options=f"{arguments.pop('options', '')} {spelled(settings)}".strip(),
        )
        return str(psycopg2.extensions.make_dsn(**{key: str(value) for key, value in arguments.items()}))

    def secrets(self) -> dict[str, str]:
        password = self._libpq().get("password")
        return {"PGPASSWORD": str(password)} if password else {}

    def _libpq(self) -> dict[str, object]:
        return arguments_of(self.url)
