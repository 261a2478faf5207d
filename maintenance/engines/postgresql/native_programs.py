"""The server's own programs: how they connect, and the dumps that they write and read.

`pg_dump` does not compress: it writes no checksum then, but zstd does.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg2.extensions

from .. import archive
from ..archive import Archive, Seal
from ..programs import PIPE, running
from .connection import OWN, arguments_of, spelled
from .own_schemas import own_schemas
from .target import TargetDatabase

CHUNK = 1 << 20


def program(name: str, major: int) -> str:
    """Return the native program of the server's version, or the next newer one; PATH at last. A name without a folder
    when there is none: starting it then says so."""
    found: dict[int, str] = {}
    for path in glob.glob(f"/usr/lib/postgresql/*/bin/{name}") + glob.glob(f"/usr/pgsql-*/bin/{name}"):
        version = re.search(r"(\d+)/bin", path)
        if version and os.access(path, os.X_OK):
            found[int(version.group(1))] = path
    fitting = [path for version, path in sorted(found.items()) if version >= major]
    return fitting[0] if fitting else shutil.which(name) or name


@dataclass(frozen=True)
class Dumped:
    """What was there when a dump was begun. `sequences` are None where they may not all be read."""

    definitions: dict[str, str]
    sequences: dict[str, tuple[int, bool]] | None
    refreshed: tuple[str, ...] = ()
    """Materialized views that hold other rows when it is restored: it holds none of theirs, and fills them anew."""


class NativePrograms:
    """Runs pg_dump, pg_restore and pg_basebackup for the target."""

    def __init__(self, target: TargetDatabase) -> None:
        self.target = target
        self.dumped: dict[str, Dumped] = {}
        """By the digest of a dump of this object's."""

    def dump(self, folder: Path, stem: str, seal: Seal, options: Sequence[str]) -> tuple[Path, Archive]:
        """Write a dump under its temporary name, read back. Raises ResourceShortage, Damaged, AccessDenied …"""
        part = folder / f"{stem}.part.dump{seal.extension}"
        args = [
            program("pg_dump", self.target.capabilities.major),
            "--format=custom",
            "--compress=0",
            "--no-password",
            f"--lock-wait-timeout={max(1, int(self.target.limits.lock_seconds))}s",
            *self._leaving_out(options),
            f"--dbname={self.conninfo(self.target.place())}",
        ]
        written = self.capture("backing up", args, part, seal)
        with archive.removed_unless_good(part):
            self.read_back(written, seal, self._decode_dump)
        return part, written

    def _leaving_out(self, options: Sequence[str]) -> list[str]:
        """Return the options of pg_dump, with those that leave our own schemas out of a dump of everything."""
        if any(option.startswith("--table=") for option in options):
            return list(options)
        with self.target.session("looking for schemas") as connection:
            names = own_schemas(connection, self.target.tag).values()
        return [*options, *(f'--exclude-schema="{name}"' for name in names)]

    def capture(self, doing: str, args: Sequence[str], part: Path, seal: Seal) -> Archive:
        """Write what a program prints into `part`. Raises what the program's words mean, or ResourceShortage."""
        self.target.raise_if_stopping(doing, self.target.name)
        with (
            archive.failures_told(doing, self.target.name),
            self.target.translated(doing, self.target.name),
            archive.removed_unless_good(part),
            running(
                args, secrets=self.secrets(), stop=self.target.stopping, timeout=self.target.limits.statement_seconds
            ) as child,
        ):
            assert child.stdout is not None
            return archive.write(child.stdout, part, seal)

    def read_back(self, written: Archive, seal: Seal, decode: Callable[[IO[bytes]], None]) -> None:
        """Read the file back whole. Raises ResourceShortage where it is not what was written."""
        doing = "reading back the backup of"
        with archive.failures_told(doing, self.target.name), self.target.translated(doing, self.target.name):
            archive.read_back(written, seal, decode)

    def _decode_dump(self, stream: IO[bytes]) -> None:
        self.restore_from(stream, ["--file=/dev/null"])

    def script(self, stream: IO[bytes], options: Sequence[str]) -> Iterator[bytes]:
        """Return the lines of SQL that pg_restore makes of a dump. Raises CommandFailed."""
        args = [program("pg_restore", self.target.capabilities.major), "--file=-", *options]
        with running(
            args, stdin=PIPE, stop=self.target.stopping, timeout=self.target.limits.statement_seconds
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            feeding = threading.Thread(target=_feed, args=(stream, child.stdin), daemon=True)
            feeding.start()
            yield from child.stdout
            feeding.join()

    def restore_from(self, stream: IO[bytes], options: Sequence[str]) -> None:
        """Feed a dump to pg_restore. Raises CommandFailed."""
        args = [program("pg_restore", self.target.capabilities.major), *options]
        with running(
            args,
            secrets=self.secrets(),
            stdin=PIPE,
            stop=self.target.stopping,
            timeout=self.target.limits.statement_seconds,
        ) as child:
            assert child.stdin is not None
            # It may have all it wants before the end of the dump; its exit code tells whether that was so.
            with suppress(BrokenPipeError):
                while chunk := stream.read(CHUNK):
                    child.stdin.write(chunk)
                child.stdin.close()

    def conninfo(self, database: str) -> str:
        """Return a connection string without the password. Its options are over those of the environment."""
        arguments = self._libpq()
        arguments.pop("password", None)
        settings = {"search_path": OWN["search_path"], "synchronous_commit": "local", **self.target.silence()}
        if self.target.capabilities.checks_client:
            settings["client_connection_check_interval"] = "500"
        arguments.update(
            dbname=database,
            application_name=self.target.tag.session,
            connect_timeout="10",
            options=f"{arguments.pop('options', '')} {spelled(settings)}".strip(),
        )
        return str(psycopg2.extensions.make_dsn(**{key: str(value) for key, value in arguments.items()}))

    def secrets(self) -> dict[str, str]:
        """Return what of the environment tells the programs the password."""
        password = self._libpq().get("password")
        return {"PGPASSWORD": str(password)} if password else {}

    def _libpq(self) -> dict[str, object]:
        return arguments_of(self.target.url)


def _feed(source: IO[bytes], program_: IO[bytes]) -> None:
    """It may have all it wants before the end of the dump; its exit code tells whether that was so."""
    with suppress(BrokenPipeError, ValueError):
        while chunk := source.read(CHUNK):
            program_.write(chunk)
        program_.close()
