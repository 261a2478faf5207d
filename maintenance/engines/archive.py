"""Backup files: compressed with zstd, sealed with age, digested while written, synced, read back.

Both formats are standard: without this console `age -d FILE | zstd -d` opens them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

import pyrage
import zstandard

CHUNK = 1 << 20
JOB = 1 << 20
"""What a thread of the compressor takes at once. Left alone it is 8 MB, and the console's memory 35 MB larger for any
database that is large enough to keep all of its buffers in use; files become less than 1 % larger by this."""


class ArchiveError(Exception):
    """A backup file could not be written, or did not read back as it was written."""


@dataclass(frozen=True)
class Seal:
    """age recipients to encrypt for, and the identity file that can open it again for the read-back.

    No recipients: compressed but not encrypted.
    """

    recipients: tuple[str, ...] = ()
    identity_file: Path | None = None

    @property
    def extension(self) -> str:
        return ".zst.age" if self.recipients else ".zst"


@dataclass(frozen=True)
class Archive:
    path: Path
    bytes: int
    sha256: str


class _Digesting:
    """A file that knows the digest of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def write(source: IO[bytes], path: Path, seal: Seal) -> Archive:
    """Streams `source` into `path` (already the final extension), created anew and synced.

    Raises OSError as the system gives it (disk full, not writable); the incomplete file is removed.
    """
    settings = zstandard.ZstdCompressionParameters.from_level(3, write_checksum=True, threads=2, job_size=JOB)
    compressor = zstandard.ZstdCompressor(compression_params=settings)
    try:
        with open(path, "wb") as file:
            os.chmod(path, 0o600)
            out = _Digesting(file)
            if seal.recipients:
                keys = [pyrage.x25519.Recipient.from_str(r) for r in seal.recipients]
                with compressor.stream_reader(source, read_size=CHUNK) as compressed:
                    pyrage.encrypt_io(compressed, out, keys)
            else:
                compressor.copy_stream(source, cast(IO[bytes], out), read_size=CHUNK, write_size=CHUNK)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Archive(path, out.bytes, out.digest.hexdigest())


@contextmanager
def reading(path: Path, seal: Seal) -> Iterator[IO[bytes]]:
    """The stream that was archived. Raises ArchiveError when it cannot be opened or is damaged."""
    try:
        with open(path, "rb") as file:
            if path.suffix == ".age":
                # pyrage pushes into a writer; a pipe and a thread turn that into a reader.
                with _decrypted(file, seal) as plain, zstandard.ZstdDecompressor().stream_reader(plain) as out:
                    yield cast(IO[bytes], out)
            else:
                with zstandard.ZstdDecompressor().stream_reader(file) as out:
                    yield cast(IO[bytes], out)
    except zstandard.ZstdError as error:
        raise ArchiveError(f"{path} does not decompress: {error}") from error


@contextmanager
def _decrypted(file: BinaryIO, seal: Seal) -> Iterator[BinaryIO]:
    import threading

    if seal.identity_file is None:
        raise ArchiveError(f"{file.name} is encrypted and no age identity file is configured")
    lines = seal.identity_file.read_text().splitlines()
    identities = [pyrage.x25519.Identity.from_str(x.strip()) for x in lines if x.startswith("AGE-SECRET-KEY-")]
    read_end, write_end = os.pipe()
    failures: list[Exception] = []

    def pump() -> None:
        with os.fdopen(write_end, "wb") as out:
            try:
                pyrage.decrypt_io(file, out, identities)
            except BrokenPipeError:
                pass
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    try:
        with os.fdopen(read_end, "rb") as plain:
            yield plain
    finally:
        thread.join()
    if failures:
        raise ArchiveError(f"{file.name} does not decrypt: {failures[0]}") from failures[0]


def verify(archive: Archive) -> None:
    """Reads the file back from the start and compares the digest. Raises ArchiveError."""
    with open(archive.path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        raise ArchiveError(f"{archive.path} reads back differently: sha256 {found}, written {archive.sha256}")


def publish(part: Path, final: Path) -> None:
    """Gives a finished file its name and makes the name survive a power cut."""
    os.replace(part, final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
