"""Backups: one consistent dump, a physical copy, or a dump table by table when a table is damaged.

A dump file holds SQL that the product's own client loads as it stands. Three kinds of comment lines of
ours are in it: definitions of views, triggers, routines and events (for putting back single ones), the
tables that could not be read, and the last line, without which the file is not complete.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from .. import archive, programs
from ..archive import Archive, ArchiveError, Seal
from ..errors import Damaged, EngineError, Interrupted, ResourceShortage, Unable
from ..messages import msg
from ..values import Backup, Fingerprint, Image
from . import physical, structure
from .address import is_mariadbs
from .backup_publish import failures_told, program, removed_unless_good, under_its_name
from .names import canonical, plain
from .server import ALL_ROWS, LOAD_SLOT, Server
from .verification import fingerprint

DEFINITION = b"-- dbmaint definition "
UNREAD = b"-- dbmaint unread "
OBJECTS = b"-- dbmaint objects"
END = b"-- dbmaint end "
COMPLETED = b"-- Dump completed"
BY_TABLE = "table_dump"


def back_up(server: Server, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
    """See Backups.back_up. Without access to the server's files the physical method becomes a dump by table."""
    with failures_told("backing up into", str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    if method == physical.MARIABACKUP and physical.files_within_reach(server):
        try:
            return physical.mariabackup(server, folder, stem, seal)
        except (Interrupted, ResourceShortage):
            raise
        except EngineError:
            # The tool copies a damaged MyISAM table, and gives up at a damaged page of Aria's.
            if not server.unreadable_tables():
                raise
            return _by_table(server, folder, stem, seal)
    if method == physical.CLONE and physical.can_clone(server):
        return physical.clone(server, folder, stem, seal)
    if method in (BY_TABLE, *physical.METHODS):
        return _by_table(server, folder, stem, seal)
    if method == server.methods[0]:
        return _whole(server, method, folder, stem, seal)
    raise Unable("backing up", server.schema, msg("unknown method {method}", method=method))


# -- logical ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contents:
    """What goes into a dump file: runs of the tool for tables, then for the rest, then our comment lines."""

    table_parts: Sequence[list[str]]
    object_parts: Sequence[list[str]]
    definitions: Sequence[structure.Definition]
    unread: Mapping[str, str]
    tables: Sequence[str]
    """Every table of the schema at that moment, readable or not."""


def _whole(server: Server, method: str, folder: Path, stem: str, seal: Seal) -> Backup:
    """One snapshot of everything. A table that cannot be read makes it fail: that is what the alternate is for."""
    _refuse_what_dumping_would_harm(server)
    snapshot = fingerprint(server, None, None)
    for name, found in snapshot.items():
        if not found.readable:
            raise Damaged("backing up", name, found.error or "cannot be read")
    return _dumped(server, method, folder / f"{stem}.sql{seal.extension}", seal, [_tables_dump(server)], snapshot)


def _by_table(server: Server, folder: Path, stem: str, seal: Seal) -> Backup:
    """Each readable table by itself, so that a bad one does not lose the others. Consistent only under the cut."""
    snapshot = fingerprint(server, None, None)
    parts = [_tables_dump(server, only=[plain(name)]) for name, found in snapshot.items() if found.readable]
    return _dumped(server, BY_TABLE, folder / f"{stem}.tables.sql{seal.extension}", seal, parts, snapshot)


def _refuse_what_dumping_would_harm(server: Server) -> None:
    """A table marked crashed is repaired, with loss, by the dump's own reading: copy its files first."""
    if server.repairs_on_open:
        for table, why in server.unreadable_tables().items():
            raise Damaged("backing up", canonical(table), why)


def _dumped(
    server: Server,
    method: str,
    final: Path,
    seal: Seal,
    parts: Sequence[list[str]],
    snapshot: Mapping[str, Fingerprint],
) -> Backup:
    definitions = _definitions(server)
    contents = Contents(
        parts, _objects_dumps(server), definitions, _unread(snapshot), [plain(name) for name in snapshot]
    )
    written = write_dump(server, final, seal, contents, "backing up")
    server.dumped_definitions[final] = _digests(definitions)
    return Backup(final, method, written.bytes, written.sha256, True, dict(snapshot))


def _definitions(server: Server) -> list[structure.Definition]:
    with server.session("reading definitions of") as session:
        return structure.definitions(session, server.schema)


def _digests(definitions: Iterable[structure.Definition]) -> tuple[str, ...]:
    return tuple(f"{one.kind} {one.name} {one.digest}" for one in definitions)


def _unread(found: Mapping[str, Fingerprint]) -> dict[str, str]:
    return {plain(name): one.error or "" for name, one in found.items() if not one.readable}


def write_dump(server: Server, final: Path, seal: Seal, contents: Contents, doing: str) -> Archive:
    """Runs the dump tool once a part, streams all into one file, reads it back whole, gives it its name."""
    _refuse_a_limit_of_rows(server, doing)
    part = final.with_name(final.name + ".part")
    stream = Chunks(_dump_stream(server, contents))
    with failures_told(doing, server.schema):
        try:
            written = archive.write(cast(IO[bytes], stream), part, seal)
        except Exception:
            # The reason lies in the stream; the sealing library may have wrapped it.
            if stream.failure is not None:
                raise stream.failure from None
            raise
        with removed_unless_good(part):
            archive.verify(Archive(part, written.bytes, written.sha256))
            with under_its_name(part, final, seal) as named:
                _read_back(named, final, seal, len(contents.table_parts) + len(contents.object_parts))
            archive.publish(part, final)
    return Archive(final, written.bytes, written.sha256)


def _refuse_a_limit_of_rows(server: Server, doing: str) -> None:
    """The tool asks under the server's defaults, and takes what it gets for the whole table. Raises Unable."""
    with server.session("looking for a limit of rows on") as session:
        limit = int(str(session.value("SELECT @@GLOBAL.sql_select_limit")))
    if limit < ALL_ROWS:
        words = msg(
            "sql_select_limit is {limit} on this server, so a dump would hold no more rows of any table;"
            " SET GLOBAL sql_select_limit = DEFAULT",
            limit=limit,
        )
        raise Unable(doing, server.schema, words)


def _dump_stream(server: Server, contents: Contents) -> Iterator[bytes]:
    for args in contents.table_parts:
        yield from _output(server, args)
    yield OBJECTS + b"\n"
    for args in contents.object_parts:
        yield from _output(server, args)
    for one in contents.definitions:
        yield DEFINITION + json.dumps(one.to_json()).encode() + b"\n"
    for name, why in contents.unread.items():
        yield UNREAD + json.dumps([name, why]).encode() + b"\n"
    yield END + json.dumps({"tables": list(contents.tables)}).encode() + b"\n"


def _output(server: Server, args: Sequence[str]) -> Iterator[bytes]:
    with programs.running(args, secrets=server.secrets(), stop=server.stopping) as child:
        assert child.stdout is not None
        while chunk := child.stdout.read(archive.CHUNK):
            yield chunk


def _read_back(named: Path, final: Path, seal: Seal, parts: int) -> None:
    """Decodes everything; every run of the tool must have reached its end, and so must we."""
    completed, ended = 0, False
    with archive.reading(named, seal) as stream:
        for fresh, line in _lines(stream):
            completed += fresh and line.startswith(COMPLETED)
            ended = fresh and line.startswith(END)
    if completed < parts:
        raise ArchiveError(f"{final.name}: {completed} of {parts} parts reached their end")
    if not ended:
        raise ArchiveError(f"{final.name} ends before its end")


def dump_program(server: Server) -> str:
    """Raises Unable when the product's dump tool is not installed."""
    return program(server.dump_programs, server)


def client_program(server: Server) -> str:
    """Raises Unable when the product's client is not installed."""
    return program(server.client_programs, server)


def _dump_options(server: Server, program: str) -> tuple[str, ...]:
    """Of the tool at hand. MariaDB's dumps MySQL too, but its statements for generated columns do not load again."""
    if not is_mariadbs(program) or not server.dump_options:
        return server.dump_options
    with server.session("looking for generated columns in") as session:
        generated = session.value(
            "SELECT CONCAT(table_name, '.', column_name) FROM information_schema.columns"
            " WHERE table_schema = %(s)s AND generation_expression <> '' LIMIT 1",
            s=server.schema,
        )
    if generated is not None:
        words = msg(
            "MariaDB's dump tool cannot dump the generated column {column} of MySQL; install MySQL's own mysqldump",
            column=str(generated),
        )
        raise Unable("backing up", server.schema, words)
    return ()


def _history_options(server: Server) -> tuple[str, ...]:
    """Former rows of system-versioned tables are rows too. A tool before 10.11 says that it cannot."""
    with server.session("looking for kept histories in") as session:
        kept = any(table.versioned for table in structure.tables(session, server.schema))
    return ("--dump-history",) if kept else ()


def _common(server: Server) -> list[str]:
    program = dump_program(server)
    return [
        program,
        *server.address(program),
        "--single-transaction",
        "--quick",
        "--hex-blob",
        "--default-character-set=utf8mb4",
        "--no-tablespaces",
        "--max-allowed-packet=1G",
        *_dump_options(server, program),
        *_history_options(server),
    ]


def _tables_dump(server: Server, only: Sequence[str] | None = None) -> list[str]:
    """Tables and rows, no triggers: what is loaded into a side schema must not act there."""
    if only is not None:
        return [*_common(server), "--skip-triggers", "--", server.schema, *only]
    with server.session("listing views of") as session:
        views = structure.view_names(session, server.schema)
    ignored = [f"--ignore-table={server.schema}.{view}" for view in views]
    return [*_common(server), "--skip-triggers", *ignored, "--", server.schema]


def _objects_dumps(server: Server) -> list[list[str]]:
    """Routines, events and triggers; then views, which may use them. With their definers."""
    with server.session("listing views of") as session:
        views = structure.view_names(session, server.schema)
    acting = ["--no-data", "--no-create-info", "--routines", "--events", "--triggers"]
    closed = server.unreadable_tables() if server.repairs_on_open else ()
    ignored = [f"--ignore-table={server.schema}.{table}" for table in closed]
    parts = [[*_common(server), *acting, *ignored, "--", server.schema]]
    if views:
        parts.append([*_common(server), "--no-data", "--skip-triggers", "--", server.schema, *views])
    return parts


# -- the image under the cut -----------------------------------------------------------------------


def image(
    server: Server, backup: Backup, baseline: Mapping[str, Fingerprint], folder: Path, stem: str, seal: Seal
) -> Image:
    """See Backups.image. Tables that changed since the backup, and every definition, which is cheap.

    No file at all when this very object wrote the backup and nothing changed since.
    """
    whole = backup.method in physical.METHODS
    changed = [
        name for name, found in baseline.items() if found.readable and (whole or backup.snapshot.get(name) != found)
    ]
    definitions = _definitions(server)
    same_definitions = server.dumped_definitions.get(backup.path) == _digests(definitions)
    if not changed and same_definitions and set(baseline) == set(backup.snapshot):
        return Image("dump", backup.path.name, 0)
    with failures_told("writing into", str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    parts = [_tables_dump(server, only=[plain(name)]) for name in changed]
    contents = Contents(parts, [], definitions, _unread(baseline), [plain(name) for name in baseline])
    final = folder / f"{stem}.image.sql{seal.extension}"
    written = write_dump(server, final, seal, contents, "dumping again what changed in")
    return Image("dump", final.name, written.bytes, tuple(changed), final, written.sha256)


# -- streams and failures --------------------------------------------------------------------------


class Chunks(io.RawIOBase):
    """A readable stream over pieces that are made while it is read. Keeps the failure that ended it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.rest = pieces, b""
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            while not self.rest or size < 0:
                piece = next(self.pieces, None)
                if piece is None:
                    break
                self.rest += piece
        except Exception as error:
            self.failure = error
            raise
        taken = self.rest if size < 0 else self.rest[:size]
        self.rest = self.rest[len(taken) :]
        return taken

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        taken = self.read(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)


@dataclass(frozen=True)
class Trailer:
    """What the comment lines of a dump file tell."""

    definitions: tuple[structure.Definition, ...]
    unread: tuple[str, ...]
    tables: tuple[str, ...]


def load(server: Server, path: Path, seal: Seal, schema: str) -> Trailer:
    """Feeds the tables of a dump into `schema` with the product's client; returns what its comment lines say.

    The client's session takes one of our marks first, so that a later claim can end it.
    """
    mark = server.slot_name(server.tag.token, LOAD_SLOT)
    client = client_program(server)
    args = [
        client,
        *server.address(client),
        "--default-character-set=utf8mb4",
        "--max-allowed-packet=1G",
        "--binary-mode",
        "--batch",
        f"--database={schema}",
    ]
    with failures_told("restoring into", schema):
        reading = _Reading()
        try:
            with (
                archive.reading(path, seal) as stream,
                programs.running(args, secrets=server.secrets(), stdin=programs.PIPE, stop=server.stopping) as child,
            ):
                assert child.stdin is not None
                child.stdin.write(f"DO GET_LOCK('{mark}', 5);\n".encode())
                for fresh, line in _lines(stream):
                    if reading.is_sql(fresh, line):
                        child.stdin.write(line)
                child.stdin.close()
        except programs.CommandFailed:
            # Its connection may have ended before itself did.
            server.raise_if_stopping("restoring into", schema)
            raise
        if not reading.ended:
            raise ArchiveError(f"{path.name} ends before its end")
    return Trailer(tuple(reading.definitions), tuple(reading.unread), tuple(reading.tables))


class _Reading:
    """Sorts the lines of a dump: SQL of tables, and what our comment lines say."""

    def __init__(self) -> None:
        self.definitions: list[structure.Definition] = []
        self.unread: list[str] = []
        self.tables: list[str] = []
        self.objects = self.ended = False

    def is_sql(self, fresh: bool, line: bytes) -> bool:
        """Whether the line goes to the server. Objects do not: an event would begin to act in the side schema."""
        if fresh and line.startswith(OBJECTS):
            self.objects = True
        elif fresh and line.startswith(DEFINITION):
            self.definitions.append(structure.Definition(**json.loads(line[len(DEFINITION) :])))
        elif fresh and line.startswith(UNREAD):
            self.unread.append(json.loads(line[len(UNREAD) :])[0])
        elif fresh and line.startswith(END):
            self.ended, self.tables = True, json.loads(line[len(END) :])["tables"]
        return not self.objects


def _lines(stream: IO[bytes]) -> Iterator[tuple[bool, bytes]]:
    """Lines, with whether each begins a line: of a long one a megabyte at a time. Our own come whole."""
    reader = io.BufferedReader(cast(io.RawIOBase, stream), archive.CHUNK)
    fresh = True
    while piece := reader.readline(archive.CHUNK):
        if fresh and piece.startswith(b"-- dbmaint "):
            while not piece.endswith(b"\n") and (more := reader.readline(archive.CHUNK)):
                piece += more
        yield fresh, piece
        fresh = piece.endswith(b"\n")
