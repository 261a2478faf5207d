"""Backup files: compressed with zstd, sealed with age, digested while written, synced, read back.

Both formats are standard: without this console `age -d FILE | zstd -d` opens them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

import pyrage
import zstandard

from .errors import EngineError, ResourceShortage

CHUNK = 1 << 20
JOB = 1 << 20
"""What a thread of the compressor takes at once. Left alone it is 8 MB, and the console's memory 35 MB larger for any
database that is large enough to keep all of its buffers in use; files become less than 1 % larger by this."""


OF_THE_PLACE = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EMFILE,
        errno.ENFILE,
        errno.EFBIG,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EIO,
    )
)
"""Errors of the system that say something of the folder or its disk, not of the data."""


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
        """Ending of a file that is sealed so; by it `reading` tells how to open one."""
        return ".zst.age" if self.recipients else ".zst"

    @property
    def opens(self) -> bool:
        """Whether this console can open what it seals; otherwise only the sealed bytes can be compared."""
        return not self.recipients or self.identity_file is not None


@dataclass(frozen=True)
class Archive:
    """A finished backup file: its place, its size in bytes, the SHA-256 of what was written."""

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
    """Stream `source` into `path` (already the final extension), created anew and synced.

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
    """Yield the stream that was archived. Raises ArchiveError when it cannot be opened or is damaged."""
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
    """Read the file back from the start and compare the digest. Raises ArchiveError."""
    with open(archive.path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != archive.sha256:
        raise ArchiveError(f"{archive.path} reads back differently: sha256 {found}, written {archive.sha256}")


def read_back(written: Archive, seal: Seal, decode: Callable[[IO[bytes]], None]) -> bool:
    """Compare the digest, then let `decode` read what was archived; return whether the seal could be opened for it.

    Raises ArchiveError, and what `decode` raises.
    """
    verify(written)
    if seal.opens:
        with reading(written.path, seal) as stream:
            decode(stream)
    return seal.opens


def part_of(final: Path, seal: Seal) -> Path:
    """Return the name under which a backup file is written until it was read back."""
    return final.with_name(f"{final.name.removesuffix(seal.extension)}.part{seal.extension}")


@contextmanager
def removed_unless_good(part: Path) -> Iterator[None]:
    """Remove the file when the block fails: what a failed program wrote is whole as an archive, not as a backup."""
    try:
        yield
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def failures_told(doing: str, object: str) -> Iterator[None]:
    """Turn what goes wrong with a file that is written into our errors.

    Raises ResourceShortage where another place may do better: one that is full, missing or not ours, or that gives
    back something else than was written. EngineError for other errors of the system.
    """
    try:
        yield
    except (ArchiveError, tarfile.TarError) as error:
        raise ResourceShortage(doing, object, str(error)) from error
    except OSError as error:
        kind = ResourceShortage if error.errno in OF_THE_PLACE else EngineError
        raise kind(doing, object, str(error)) from error


def publish(part: Path, final: Path) -> None:
    """Rename the verified file into place and sync the folder, so that the name survives a power cut."""
    os.replace(part, final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
