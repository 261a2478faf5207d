"""Physical backups: the files of the running server, damaged pages included.

MariaDB has a tool for that, which takes one schema. MySQL copies itself, as a whole, where its CLONE plugin is active:
into a folder of its own, which is packed into the backup file and removed. Such a folder is a server's data folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from sqlalchemy.exc import DBAPIError

from .. import archive, programs
from ..archive import Archive, ArchiveError, Seal
from ..values import Backup
from .connection import Session
from .names import shortened
from .native_programs import failures_told, program
from .target import Server

MARIABACKUP = "mariabackup"
CLONE = "clone"
METHODS = (MARIABACKUP, CLONE)
ROOM = 1.1
"""Free space asked for, as a multiple of what the server's files hold."""


def files_within_reach(server: Server) -> bool:
    """Return whether this process can read the server's data folder."""
    if not server.capabilities.physical or shutil.which(MARIABACKUP) is None:
        return False
    with server.session("looking for the files of") as session:
        return server.data_folder(session) is not None


def mariabackup(server: Server, folder: Path, stem: str, seal: Seal) -> Backup:
    """The files of the schema, damaged pages included; read back by unpacking and preparing them.

    The snapshot is taken after the copy: fingerprints read tables, and reading may make the server
    repair what it calls crashed.
    """
    final = folder / f"{stem}.xbstream{seal.extension}"
    with (
        tempfile.TemporaryDirectory(prefix=f".{stem}.", dir=folder) as scratch,
        failures_told("backing up", server.schema),
    ):
        tool = program((MARIABACKUP,), server)
        args = [
            tool,
            *server.address(tool),
            "--backup",
            "--stream=xbstream",
            f"--databases={server.schema}",
            "--log-innodb-page-corruption",
            f"--target-dir={scratch}",
        ]
        written = _packed(
            server,
            args,
            server.secrets(),
            final,
            seal,
            lambda stream: _unpack_and_prepare(server, stream, final, Path(scratch)),
        )
    return Backup(final, MARIABACKUP, written.bytes, written.sha256, seal.opens, {})


def _unpack_and_prepare(server: Server, stream: IO[bytes], final: Path, scratch: Path) -> None:
    """Let the tool prove the copy itself. Damaged pages, which it has listed, do not make the copy worthless."""
    unpacked = scratch / "unpacked"
    unpacked.mkdir()
    unpacking = [program(("mbstream",), server), "-x", "-C", str(unpacked)]
    _poured(server, stream, unpacking)
    if not (unpacked / "xtrabackup_checkpoints").exists() and not (unpacked / "mariadb_backup_checkpoints").exists():
        raise ArchiveError(f"{final.name} holds no checkpoint: the copy did not reach its end")
    if (unpacked / "innodb_corrupted_pages").exists():
        return
    programs.run(
        [program((MARIABACKUP,), server), "--no-defaults", "--prepare", f"--target-dir={unpacked}"],
        stop=server.stopping,
    )


# -- MySQL -----------------------------------------------------------------------------------------


def can_clone(server: Server) -> bool:
    """Whether the plugin is active, and the copy it makes can be read and removed from here, and has room."""
    if server.capabilities.physical or shutil.which("tar") is None:
        return False
    with server.session("looking for the files of") as session:
        folder = server.data_folder(session)
        if folder is None or os.geteuid() not in (0, folder.stat().st_uid):
            return False
        if not session.ask(
            "SELECT 1 FROM information_schema.plugins WHERE plugin_name = 'clone' AND plugin_status = 'ACTIVE'"
        ):
            return False
        try:
            held = session.value(f"SELECT SUM(file_size) FROM information_schema.{server.capabilities.tablespaces}")
        except DBAPIError:
            return False
        return shutil.disk_usage(_clone_folder(server, session).parent).free > int(held or 0) * ROOM


def _clone_folder(server: Server, session: Session) -> Path:
    """In the server's own folder for temporary files: there it may certainly write."""
    place = Path(str(session.value("SELECT @@GLOBAL.tmpdir")).split(":")[0])
    return place / f"dbmaint-{server.tag.suffix}-{shortened(server.schema)}-clone"


def left_clone(server: Server, session: Session) -> Path | None:
    """What a killed worker left, where this process can see it."""
    if server.capabilities.physical or server.data_folder(session) is None:
        return None
    folder = _clone_folder(server, session)
    return folder if folder.exists() else None


def clone(server: Server, folder: Path, stem: str, seal: Seal) -> Backup:
    """The whole server as a data folder, in a tar file; read back by comparing every file with the copy."""
    final = folder / f"{stem}.clone.tar{seal.extension}"
    tar = program(("tar",), server)
    with server.session("backing up", limited=False) as session, failures_told("backing up", server.schema):
        copy = _clone_folder(server, session)
        shutil.rmtree(copy, ignore_errors=True)
        try:
            server.admin(session, f"CLONE LOCAL DATA DIRECTORY = {_text(session, copy)}")
            packing = [tar, "--create", "--file=-", f"--directory={copy}", "."]
            comparing = [tar, "--compare", "--file=-", f"--directory={copy}"]
            written = _packed(server, packing, {}, final, seal, lambda stream: _poured(server, stream, comparing))
        finally:
            shutil.rmtree(copy, ignore_errors=True)
    return Backup(final, CLONE, written.bytes, written.sha256, seal.opens, {})


def _text(session: Session, path: Path) -> str:
    return str(session.value("SELECT QUOTE(%(path)s)", path=str(path)))


# -- both ------------------------------------------------------------------------------------------


def _packed(
    server: Server,
    packing: Sequence[str],
    secrets: Mapping[str, str],
    final: Path,
    seal: Seal,
    prove: Callable[[IO[bytes]], None],
) -> Archive:
    """What the program writes, in the file `final`, which gets its name when `prove` has read it back."""
    part = archive.part_of(final, seal)
    with archive.removed_unless_good(part):
        with programs.running(packing, secrets=secrets, stop=server.stopping) as child:
            assert child.stdout is not None
            written = archive.write(child.stdout, part, seal)
        archive.read_back(written, seal, prove)
        archive.publish(part, final)
    return written


def _poured(server: Server, stream: IO[bytes], reading: Sequence[str]) -> None:
    """Give the content of a backup file to a program, which judges it. Raises CommandFailed."""
    with programs.running(reading, stdin=programs.PIPE, stop=server.stopping) as child:
        assert child.stdin is not None
        shutil.copyfileobj(stream, child.stdin, archive.CHUNK)
        child.stdin.close()
