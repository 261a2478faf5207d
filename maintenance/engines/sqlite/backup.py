"""D: backup files, and the image that a rollback restores from."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, ClassVar, cast

from .. import archive, programs
from ..errors import Damaged, ResourceShortage, Transient, Unable
from ..messages import msg
from ..parts import Backups
from ..values import Backup, Fingerprint, Image
from .connection import connect, scratch
from .driver_errors import translated
from .file_copies import copied, synced
from .file_header import Header
from .fingerprints import fingerprint_all
from .marker import note_elsewhere
from .names import JOURNALS
from .target import DatabaseFile

METHODS = ("sqlite_backup", "file_copy")
ROOM = 1.05
"""Room asked for a copy, as a multiple of the file."""


class Digested:
    """A stream that knows the digest of what was read from it."""

    def __init__(self, source: IO[bytes]) -> None:
        self.source, self.digest = source, hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        data = self.source.read(count)
        self.digest.update(data)
        return data


def _online(file: DatabaseFile, folder: Path, stem: str, seal: archive.Seal) -> Backup:
    """SQLite's online backup (https://sqlite.org/backup.html): one moment of the database, writers or not.

    Damaged pages are copied as they are: a true copy, whose fingerprints then carry the errors.
    """
    if file.notice_truncation():
        raise Damaged("backing up", file.name, "the file ends early; only a copy of the file as it lies is true to it")
    copy = folder / f"{stem}.part.sqlite"
    try:
        with translated("writing a backup to", str(folder)):
            copy.unlink(missing_ok=True)
            with file.working("backing up", file.name) as connection:
                copy_database(file, connection, copy)
            snapshot = _snapshot(file, copy)
            with open(copy, "rb") as source:
                sealed = _seal(source, folder, f"{stem}.part.sqlite", f"{stem}.sqlite", seal, file)
        return _backup(METHODS[0], *sealed, snapshot)
    finally:
        _remove(copy)


def _raw(file: DatabaseFile, folder: Path, stem: str, seal: archive.Seal) -> Backup:
    """The file and its journals as they lie on the disk, in a tar, writers kept out where SQLite can.

    Works on a file that SQLite cannot open; it is then consistent only if nobody wrote meanwhile, which
    is checked by size and time.
    """
    unpacked = folder / f"{stem}.part.d"
    try:
        with translated("writing a backup to", str(folder)):
            shutil.rmtree(unpacked, ignore_errors=True)
            seconds = file.limits.statement_seconds
            with (
                _writers_out(file),
                _untouched(file),
                programs.running(_tar(file), stop=file.stopping, timeout=seconds) as child,
            ):
                assert child.stdout is not None
                sealed = _seal(child.stdout, folder, f"{stem}.part.tar", f"{stem}.tar", seal, file)
            snapshot = _unpacked_snapshot(file, sealed[0], seal, unpacked) if sealed[1] else {}
        return _backup(METHODS[1], *sealed, snapshot)
    except programs.CommandStopped:
        file.raise_if_stopping("backing up", file.name)
        raise
    except programs.CommandFailed as error:
        raise ResourceShortage("backing up", file.name, str(error)) from error
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _tar(file: DatabaseFile) -> list[str]:
    names = [file.name, *(file.name + ending for ending in JOURNALS)]
    present = [f"./{name}" for name in names if file.path.with_name(name).exists()]
    return ["tar", "--create", "--file=-", f"--directory={file.path.parent}", "--", *present]


@contextmanager
def _writers_out(file: DatabaseFile) -> Iterator[None]:
    """While we read, nobody commits into the file; where that cannot be had `_untouched` tells of it."""
    with ExitStack() as stack:
        if not file.holding:
            try:
                connection = stack.enter_context(file.working("backing up", file.name))
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except (Damaged, sqlite3.Error):
                stack.close()
        yield


@contextmanager
def _untouched(file: DatabaseFile) -> Iterator[None]:
    before = file.marks()
    yield
    if file.marks() != before:
        raise Transient("backing up", file.name, "somebody wrote into the file meanwhile")


def _seal(
    source: IO[bytes], folder: Path, part_name: str, name: str, seal: archive.Seal, file: DatabaseFile
) -> tuple[Path, bool, archive.Archive]:
    """Writes, reads back, compares what went in with what comes out, and only then gives the name.

    Without an identity to open the file again only the sealed bytes are compared: not verified.
    """
    part = folder / f"{part_name}{seal.extension}"
    final = folder / f"{name}{seal.extension}"
    digested = Digested(source)
    with archive.failures_told("writing a backup to", str(folder)), archive.removed_unless_good(part):
        written = archive.write(cast(IO[bytes], digested), part, seal)
        file.raise_if_stopping("backing up", file.name)
        verified = archive.read_back(written, seal, lambda stream: _refuse_another(stream, digested))
        archive.publish(part, final)
    return final, verified, archive.Archive(final, written.bytes, written.sha256)


def _refuse_another(stream: IO[bytes], digested: Digested) -> None:
    """Raise ArchiveError where another stream comes out than went in."""
    digest = hashlib.sha256()
    while chunk := stream.read(archive.CHUNK):
        digest.update(chunk)
    if digest.digest() != digested.digest.digest():
        raise archive.ArchiveError("what comes out is not what went in")


def _backup(
    method: str, final: Path, verified: bool, written: archive.Archive, snapshot: Mapping[str, Fingerprint]
) -> Backup:
    return Backup(final, method, written.bytes, written.sha256, verified, snapshot)


def _snapshot(file: DatabaseFile, copy: Path) -> dict[str, Fingerprint]:
    """Of the copy itself; empty when its schema cannot be read."""
    try:
        with file.side(copy, "reading back") as connection:
            return fingerprint_all(connection, None)
    except Damaged:
        return {}


def _unpacked_snapshot(file: DatabaseFile, path: Path, seal: archive.Seal, folder: Path) -> dict[str, Fingerprint]:
    """Unpacks what was archived and lets SQLite apply the journals, as a restore would."""
    folder.mkdir(mode=0o700)
    expected = {file.name, *(file.name + ending for ending in JOURNALS)}
    with archive.reading(path, seal) as plain, tarfile.open(fileobj=plain, mode="r|") as unpacking:
        for member in unpacking:
            name, content = Path(member.name).name, unpacking.extractfile(member)
            if name in expected and content is not None:
                with open(folder / name, "wb") as out:
                    shutil.copyfileobj(content, out)
    try:
        with translated("reading back", str(path)):
            connection = connect(folder / file.name)
        with closing(connection), file.watched(connection, "reading back", str(path)):
            return fingerprint_all(connection, None)
    except Damaged:
        return {}


# -- copies of the database ----------------------------------------------------------------------------


def copy_database(file: DatabaseFile, source: sqlite3.Connection, target: Path) -> None:
    """A copy as of one moment, on the disk when this returns.

    A read transaction keeps the copy from starting over each time somebody commits.
    """
    with closing(scratch(target)) as out:
        source.execute("BEGIN")
        try:
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            copied(source, out, file.stopping, file.name)
        finally:
            if source.in_transaction:
                source.execute("COMMIT")
    for ending in JOURNALS:
        _remove(target.with_name(target.name + ending))
    synced(target)


def raw_copy(file: DatabaseFile, target: Path) -> None:
    """Byte by byte with its journals."""
    for ending in (*JOURNALS, ""):
        if ending != "-shm" and file.beside(ending).exists():
            file.copy_bytes(file.beside(ending), target.with_name(target.name + ending))
    synced(target)


def _copy(file: DatabaseFile, target: Path) -> None:
    """By way of `.part`, and byte by byte under our lock, so that the way back leads to the very file."""
    part = target.with_name(f"{target.name}.part")
    try:
        with translated("copying", file.name):
            part.unlink(missing_ok=True)
            if file.raw is not None:
                raw_copy(file, part)
            elif written_back(file):
                file.copy_bytes(file.path, part)
            else:
                copy_page_by_page(file, part)
            for ending in (*JOURNALS, ""):
                journal = part.with_name(part.name + ending)
                if journal.exists():
                    os.replace(journal, target.with_name(target.name + ending))
                elif ending:
                    _remove(target.with_name(target.name + ending))
            synced(target)
    finally:
        for ending in ("", *JOURNALS):
            _remove(part.with_name(part.name + ending))


def copy_page_by_page(file: DatabaseFile, part: Path) -> None:
    """A copy as of one moment; byte by byte where SQLite refuses the file."""
    try:
        with file.working("copying", file.name) as connection:
            copy_database(file, connection, part)
    except Damaged:
        _remove(part)
        raw_copy(file, part)


def written_back(file: DatabaseFile) -> bool:
    """Whether the file holds all there is: we keep others out, and the log, if there is one, is written back."""
    if file.held is None:
        return False
    try:
        with file.working("copying", file.name) as connection:
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except Damaged:  # the schema cannot be read, and no log is written back then
        log = file.beside("-wal")
        return not (log.exists() and log.stat().st_size)


def image_copy(file: DatabaseFile) -> Path:
    """The damaged file as evidence, copied once under one hold."""
    target = file.sides.evidence
    if not (file.evidence_kept and target.exists()):
        _copy(file, target)
        file.evidence_kept = True
    return target


def mended_copy(file: DatabaseFile) -> Path:
    """A copy that SQLite can read where only the magic or the end of the file is missing."""
    return _mended(file, image_copy(file), file.header())


def mended_side(file: DatabaseFile, side: Path) -> Path:
    """The side copy itself where SQLite can read it, else a mended copy of it as above."""
    header = file.header_of(side)
    return side if header.magic and not header.corrections and not header.truncated else _mended(file, side, header)


def _mended(file: DatabaseFile, true_copy: Path, header: Header) -> Path:
    copy = file.sides.mended
    file.copy_bytes(true_copy, copy)
    if header.corrections:
        write_bytes(copy, header.corrections)
    if header.claims_too_much(shutil.disk_usage(copy.parent).free):
        write_bytes(copy, ((28, (header.file_bytes // header.page_size).to_bytes(4, "big")),))
    elif header.truncated:
        os.truncate(copy, header.pages * header.page_size)
    return copy


def write_bytes(copy: Path, bytes_at: Sequence[tuple[int, bytes]]) -> None:
    """Write into a copy of ours, and onto the disk."""
    descriptor = os.open(copy, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for offset, data in bytes_at:
            os.pwrite(descriptor, data, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def image(file: DatabaseFile, folder: Path, stem: str) -> Image:
    """Beside the database where there is room, so that going back needs no other disk; else in `folder`."""
    target = _place(file, folder, stem)
    if target.parent != file.path.parent:
        note_elsewhere(file, target)
    _copy(file, target)
    with open(target, "rb") as copy:
        digest = hashlib.file_digest(copy, "sha256").hexdigest()
    return Image("copy", str(target), target.stat().st_size, sha256=digest)


def _place(file: DatabaseFile, folder: Path, stem: str) -> Path:
    needed = int(file.size() * ROOM)
    # The rewrite needs its own room beside the database, hence three times.
    if shutil.disk_usage(file.path.parent).free > 3 * needed:
        return file.sides.image
    if folder.is_dir() and shutil.disk_usage(folder).free > needed:
        return folder / f"{stem}.image.sqlite"
    if shutil.disk_usage(file.path.parent).free > needed:
        return file.sides.image
    raise ResourceShortage(
        "copying",
        file.name,
        msg("{needed} bytes are needed beside it or in {folder}", needed=needed, folder=str(folder)),
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # the folder that did not take the file is told of already


class FileBackups(Backups):
    """Backup files, and the image that a rollback restores from."""

    methods: ClassVar[tuple[str, str]] = METHODS

    def __init__(self, file: DatabaseFile) -> None:
        self.file = file

    def back_up(self, method: str, folder: Path, stem: str, seal: archive.Seal) -> Backup:
        """See Backups.back_up. Raises ResourceShortage when the folder takes no more, Damaged when it reads back
        differently."""
        self.file.require()
        if method == METHODS[0]:
            return _online(self.file, folder, stem, seal)
        if method == METHODS[1]:
            return _raw(self.file, folder, stem, seal)
        words = msg("there is no method {method}; use {methods}", method=method, methods=" or ".join(METHODS))
        raise Unable("backing up", self.file.name, words)

    def image(
        self, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: archive.Seal
    ) -> Image:
        """See Backups.image. Whatever the backup holds, the image is the whole file as of the cut."""
        return image(self.file, folder, stem)
